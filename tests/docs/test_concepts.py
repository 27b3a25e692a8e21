"""The table of concepts is true: its pages are there, and tests run a command of every row and of every page."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pages import ROOT, blocks

TABLE = ROOT / "docs/concepts.md"
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in TABLE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ")
][1:]
RUN = ("sh run", "sh cluster", "sh tutorial")


def typed(page: Path) -> str:
    """What tests type of the page."""
    return "".join(one.text for one in blocks(page) if one.info.partition("=")[0] in RUN)


def test_the_table_has_every_concept_once():
    assert len(ROWS) == 28
    assert len({row[0] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_pages_that_run_and_a_command_of_one_of_them(row: list[str]):
    _, here, pages, command = row
    found = [typed(TABLE.parent / name) for name in re.findall(r"\]\(([^)]+)\)", pages)]
    assert here
    assert found
    assert all(found), "a page without a block that tests run"
    words = re.fullmatch(r"`([^`]+)`", command)
    assert words
    assert any(re.search(rf"^{re.escape(words[1])}\b", text, re.MULTILINE) for text in found)
