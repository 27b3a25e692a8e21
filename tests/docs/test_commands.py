"""What the docs tell a reader to type. The mark of a block says where it runs; every command must at least parse.

``sh readme``    the README's, typed in order in a clean clone, `tidegate up` in another terminal (here).
``sh run``       by itself in that clone afterwards, beside the running `up` (here). It ends with 0, ``sh run=1`` with
                 1; a block ``text output`` behind it is its whole output.
``sh tutorial``  the tutorial's, typed in order (tests/integration/new/test_tutorial.py).
``sh cluster``   on the test cluster (tests/cluster/test_docs.py).
``console soak`` what takes minutes: README and tutorial from their first line to the last (make soak).
``sh``           not run: it wants what no test has. Not in the README, the tutorial and the table of concepts.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tidegate.cli import app

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Workplace
from pages import PAGES, ROOT, Block, blocks

pytestmark = pytest.mark.timeout(900)  # the first test waits for the workplace
SHELL = [block for page in PAGES for block in blocks(page) if block.info.split(" ")[0] == "sh"]
RUN = [block for block in SHELL if block.info.startswith("sh run")]
TESTED = {"README.md": {"sh readme", "sh run", "console soak"}, "docs/tutorial.md": {"sh tutorial"}}


def test_the_readme_is_typed_in_a_clean_clone_from_its_first_block_on(workplace: Workplace):
    assert list(workplace.said) == [str(block) for block in SHELL if block.info == "sh readme"]
    assert "Nothing to be done for 'setup'" in next(iter(workplace.said.values()))


@pytest.mark.parametrize("block", RUN, ids=str)
def test_a_block_that_is_marked_runs_and_says_what_is_stated(block: Block, workplace: Workplace):
    said = workplace.types(block.text, int(block.info.partition("=")[2] or 0))
    if block.output is not None:
        assert said == block.output


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_no_block_of_the_readme_and_the_tutorial_is_left_out(page: str):
    """A block of commands is one in a shell's language, or one with a prompt."""
    typed = [one for one in blocks(ROOT / page) if one.info.startswith("sh") or re.search(r"^\$ ", one.text, re.M)]
    left = [str(one) for one in typed if one.info.partition("=")[0] not in TESTED[page]]
    assert typed
    assert not left


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
