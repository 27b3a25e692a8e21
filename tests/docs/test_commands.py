"""What the docs tell a reader to type: blocks marked ``sh run`` are run, every other command must at least parse."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tidegate.cli import app

sys.path.insert(0, str(Path(__file__).parent))
from pages import PAGES, Block, blocks

SHELL = [block for page in PAGES for block in blocks(page) if block.info.split(" ")[0] == "sh"]
RUN = [block for block in SHELL if block.info.startswith("sh run")]


@pytest.mark.parametrize("block", RUN, ids=str)
def test_a_block_that_is_marked_runs_and_says_what_is_stated(block: Block, workplace: Path):
    """``sh run`` ends with 0, ``sh run=1`` with 1; a block ``text output`` behind it is its whole output."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=workplace, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    wanted = int(block.info.partition("=")[2] or 0)
    assert done.returncode == wanted, done.stdout + done.stderr
    if block.output is not None:
        assert done.stdout + done.stderr == block.output


def commands() -> list[tuple[str, list[str]]]:
    """(place, words) of every ``tidegate`` line in a shell block, heredocs left out."""
    found = []
    for block in SHELL:
        text = re.sub(r"<<'(\w+)'.*?^\1$", "", block.text, flags=re.DOTALL | re.MULTILINE)
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0].endswith("tidegate"):
                found.append((f"{block}: {line}", words[1:]))
    return found


def parse(command: Any, name: str, words: list[str], parent: Any = None) -> None:
    """Parse the words as the command line does, without running anything; raises what wrong use raises."""
    context = command.make_context(name, words, parent=parent)
    if hasattr(command, "resolve_command"):
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse(found, name, rest, context)


@pytest.mark.parametrize(("place", "words"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_is_one_of_ours_with_options_that_it_takes(place: str, words: list[str]):
    parse(typer.main.get_command(app), "tidegate", list(words))


def test_a_command_that_there_is_not_would_be_found():
    for words in (["stauts"], ["release", "shwo", "r1"], ["log", "--knid", "release"], ["release", "show"]):
        with pytest.raises(typer.TyperException):
            parse(typer.main.get_command(app), "tidegate", words)


def test_every_command_is_in_the_docs():
    """Each leaf of the command tree stands in some page, as somebody would type it."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not [words for words in leaves(typer.main.get_command(app), "tidegate") if words not in text]


def leaves(command: Any, name: str) -> list[str]:
    inner = {word: one for word, one in getattr(command, "commands", {}).items() if not one.hidden}
    return [leaf for word, one in inner.items() for leaf in leaves(one, f"{name} {word}")] or [name]
