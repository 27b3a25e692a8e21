"""The pages of the docs, their fenced blocks, headings and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: its page, line, info string and text, and the output that is stated right behind it."""

    page: Path
    line: int
    info: str
    text: str
    output: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The page's blocks in order; one with the info ``text output`` belongs to the block before it."""
    text = page.read_text(encoding="utf-8")
    found = list(_FENCE.finditer(text))
    for number, one in enumerate(found, 1):
        after = found[number] if number < len(found) else None
        stated = after is not None and after[1] == "text output" and not text[one.end() : after.start()].strip()
        yield Block(page, text.count("\n", 0, one.start()) + 1, one[1], one[2], after[2] if stated and after else None)


def prose(page: Path) -> str:
    """The page without its fenced blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the page's headings."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(page: Path) -> list[tuple[str, str]]:
    """(target, anchor) of each link that is no address of the web."""
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", prose(page))
    return [(target, anchor) for target, anchor in found if not re.match(r"[a-z]+:", target)]
