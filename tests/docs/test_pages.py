"""Links lead somewhere, and what the pages list is what the code has."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pages import PAGES, ROOT, anchors, links

STEPS = ("ingest", "validate", "version", "features", "train", "evaluate", "register")
WORDS = (*STEPS, "release", "serve", "monitor", "trigger")
NO_KINDS = {"release.judge", "release.stages", "features.parquet"}
"""Fields and files that look like kinds."""
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path):
    for target, anchor in links(page):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_every_page_is_reached_from_the_readme():
    seen, open_ = set(), [ROOT / "README.md"]
    while open_:
        page = open_.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        open_ += [(page.parent / target).resolve() for target, _ in links(page) if target]
    made = {page for page in PAGES if "results" in page.parts}  # written by the benchmarks
    assert not set(PAGES) - seen - made


@pytest.mark.parametrize("word", WORDS)
def test_every_word_has_its_page(word: str):
    assert (ROOT / f"docs/{word}.md").read_text(encoding="utf-8").startswith(f"# {word}: ")


def test_the_table_of_event_kinds_is_the_codes():
    kinds = set(re.findall(rf'"((?:{"|".join(WORDS)})\.[a-z_]+)"', SOURCES))
    listed = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", (ROOT / "docs/journal.md").read_text(), re.MULTILINE))
    assert listed == kinds - NO_KINDS


def test_the_kinds_that_replay_recomputes_are_the_ones_marked():
    from tidegate.journal.replay import _CHECKS

    table = (ROOT / "docs/journal.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|[^|\n]*\| yes \|", table, re.MULTILINE)) == set(_CHECKS)


def test_decisions_are_numbered_without_a_gap_and_say_the_four_things():
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    for number, page in enumerate(pages, 1):
        text = page.read_text(encoding="utf-8")
        assert page.name.startswith(f"{number:04d}-")
        assert text.startswith(f"# {number}. ")
        assert [part for part in ("Decision", "Why", "Rejected", "Consequence") if f"**{part}.**" not in text] == []


def test_no_page_names_a_place_of_one_machine():
    for page in PAGES:
        found = re.findall(r"(?:/root|/home|/work|/tmp|\.\./shared)\b\S*", page.read_text(encoding="utf-8"))
        assert not found, page
