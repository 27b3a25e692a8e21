"""What every `Orchestrator` must do. A backend's test inherits `OrchestratorContract`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.errors import UserError
from tidegate.orchestrators.base import Orchestrator, RunStatus

PACKAGE = Path(__file__).with_name("one_step.yaml")
"""A compiled package of one step that writes `word` to the file `path`, or fails where `word` is ``fail``."""


def ended(orchestrator: Orchestrator, run: str, seconds: float = 180) -> RunStatus:
    deadline = time.monotonic() + seconds
    while (found := orchestrator.status(run)).state == "running":
        assert time.monotonic() < deadline, "the run does not end"
        time.sleep(0.02)
    return found


class OrchestratorContract:
    """`orchestrator` and `finish` are fixtures of the backend's test.

    `finish(run, error)` makes a run end where it does not by itself: succeeded, or failed when `error` is not empty.
    """

    def arguments(self, tmp_path: Path, word: str = "hello") -> dict[str, str]:
        return {"path": str(tmp_path / "out.txt"), "word": word}

    def test_a_run_starts_at_once_and_succeeds(
        self, orchestrator: Orchestrator, finish: Callable[[str, str], None], tmp_path: Path
    ) -> None:
        run = orchestrator.submit(PACKAGE, self.arguments(tmp_path), "m-1")
        assert orchestrator.status(run).run == run
        finish(run, "")
        assert ended(orchestrator, run) == RunStatus(run, "succeeded", orchestrator.status(run).steps, "")

    def test_a_failed_run_says_why_in_one_line(
        self, orchestrator: Orchestrator, finish: Callable[[str, str], None], tmp_path: Path
    ) -> None:
        run = orchestrator.submit(PACKAGE, self.arguments(tmp_path, "fail"), "m-2")
        finish(run, "word: got 'fail', takes another word")
        found = ended(orchestrator, run)
        assert (found.state, found.error) == ("failed", "word: got 'fail', takes another word")

    def test_the_same_key_is_the_same_run(self, orchestrator: Orchestrator, tmp_path: Path) -> None:
        arguments = self.arguments(tmp_path)
        first = orchestrator.submit(PACKAGE, arguments, "Any key / of ours")
        assert orchestrator.submit(PACKAGE, arguments, "Any key / of ours") == first
        assert orchestrator.submit(PACKAGE, arguments, "another") != first

    def test_a_key_that_is_a_safe_name_is_the_run_id(self, orchestrator: Orchestrator, tmp_path: Path) -> None:
        assert orchestrator.submit(PACKAGE, self.arguments(tmp_path), "flight-delay-17") == "flight-delay-17"

    @pytest.mark.parametrize(
        ("change", "named"), [({"path": None}, "path: got None"), ({"colour": "red"}, "colour: got 'red'")]
    )
    def test_arguments_that_the_package_does_not_take_are_named(
        self, orchestrator: Orchestrator, tmp_path: Path, change: dict[str, str | None], named: str
    ) -> None:
        wanted = {**self.arguments(tmp_path), **change}
        with pytest.raises(UserError, match=named):
            orchestrator.submit(PACKAGE, {name: value for name, value in wanted.items() if value is not None}, "m-3")

    def test_a_missing_or_broken_package_is_named(self, orchestrator: Orchestrator, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"absent\.yaml"):
            orchestrator.submit(tmp_path / "absent.yaml", {}, "m-4")
        (tmp_path / "other.yaml").write_text("root: 3\n")
        with pytest.raises(UserError, match="a compiled KFP package"):
            orchestrator.submit(tmp_path / "other.yaml", {}, "m-5")

    def test_an_unknown_run_is_named(self, orchestrator: Orchestrator) -> None:
        with pytest.raises(UserError, match="run: got 'nobody'"):
            orchestrator.status("nobody")
