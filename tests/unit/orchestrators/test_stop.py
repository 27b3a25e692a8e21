"""A run that is stopped leaves no process and has failed."""

from __future__ import annotations

from pathlib import Path

import psutil

from tidegate.orchestrators.local import LocalOrchestrator
from tidegate.targets.processes import wait_until

PACKAGE = Path(__file__).parents[2] / "contract" / "one_step.yaml"


def of(folder: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if any(str(folder) in word for word in p.info["cmdline"] or [])]


def test_a_stopped_run_leaves_no_process_and_has_failed(tmp_path):
    orchestrator, written = LocalOrchestrator(tmp_path), tmp_path / "written"
    run = orchestrator.submit(PACKAGE, {"path": str(written), "word": "wait"}, "one")
    assert wait_until(written.exists, 60)
    assert of(tmp_path)
    orchestrator.stop(run)
    assert wait_until(lambda: not of(tmp_path), 30)
    status = orchestrator.status(run)
    assert (status.state, status.error) == ("failed", "the run's process ended without an end")
