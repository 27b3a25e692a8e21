"""The diagram of a release, as docs/release.md shows it, is drawn from the machine's table.

TIDEGATE_GOLDEN=write writes the file, from which it goes into the page by hand.
"""

from __future__ import annotations

import os
from pathlib import Path

from tidegate.release.diagram import diagram
from tidegate.release.machine import TABLE

GOLDEN = Path(__file__).parent / "release.mmd"
PAGE = Path(__file__).parents[2] / "docs/release.md"


def test_the_diagram_is_the_table() -> None:
    if os.environ.get("TIDEGATE_GOLDEN") == "write":
        GOLDEN.write_text(diagram())
    assert diagram() == GOLDEN.read_text()
    for _, event, _ in TABLE:
        assert f": {event}\n" in diagram()


def test_the_page_shows_it() -> None:
    assert f"```mermaid\n{diagram().rstrip()}\n```" in PAGE.read_text()
