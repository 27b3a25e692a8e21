"""One of the hard challengers through `tidegate up`; `python -m benchmarks hard_challengers` plays all of them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.hard_challengers import CASES, play
from tests.integration.loop.conftest import named, tidegate


def test_a_challenger_that_crashes_at_start_is_aborted_and_told_why(tmp_path: Path) -> None:
    case = CASES["crashes at start"]
    ended = play(case, tmp_path / "state")
    assert ended.right(case), ended
    assert ended.failed == 0, "no user saw it"
    assert set(ended.served) <= {"v1"}
    assert tidegate("replay", "--state", tmp_path / "state", "--evidence").stdout.startswith("reproduced: ")
    assert named(tmp_path / "state") == []
