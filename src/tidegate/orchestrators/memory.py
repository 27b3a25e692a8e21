"""The orchestrator that runs nothing: for tests and for trying a controller. Runs end when they are told to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tidegate.errors import UserError
from tidegate.orchestrators.base import RunStatus
from tidegate.orchestrators.package import parse_package
from tidegate.orchestrators.runid import run_id
from tidegate.spec import read_yaml


class MemoryOrchestrator:
    """Keeps what was submitted; see `tidegate.orchestrators.base.Orchestrator`."""

    def __init__(self) -> None:
        self.submitted: dict[str, dict[str, str]] = {}
        """The arguments of each run, by run id."""
        self._runs: dict[str, RunStatus] = {}

    def submit(self, package: Path, arguments: Mapping[str, str], key: str) -> str:
        """Note a run; the same key again is the same run."""
        run = run_id(key)
        filled = {"state": "memory", "run": run, **arguments}
        parse_package(read_yaml(package), str(package)).check(filled, str(package))
        if run not in self._runs:
            self.submitted[run] = filled
            self._runs[run] = RunStatus(run, "running")
        return run

    def status(self, run: str) -> RunStatus:
        """How the run is doing; UserError for an unknown one."""
        if run not in self._runs:
            raise UserError("run", run, "the id of a submitted run")
        return self._runs[run]

    def finish(self, run: str, error: str = "") -> None:
        """End a run: succeeded, or failed with `error`."""
        self._runs[run] = replace(self.status(run), state="failed" if error else "succeeded", error=error)
