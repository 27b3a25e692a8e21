"""The port to what runs pipelines. Two methods; every implementation passes tests/contract/orchestrator.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True)
class RunStatus:
    """One pipeline run as the orchestrator sees it.

    `steps` holds (name, seconds, cached) of the steps that ended; `error` is one line, empty unless failed.
    """

    run: str
    state: Literal["running", "succeeded", "failed"]
    steps: tuple[tuple[str, float, bool], ...] = field(default=())
    error: str = ""


class Orchestrator(Protocol):
    """What runs pipelines."""

    def submit(self, package: Path, arguments: Mapping[str, str], key: str) -> str:
        """Start a run of a compiled package; returns its run id at once.

        `key` makes it idempotent: a second submit with the same key returns the first one's run id.
        Raises UserError when the package is missing or does not take the arguments.
        """

    def status(self, run: str) -> RunStatus:
        """How the run is doing."""
