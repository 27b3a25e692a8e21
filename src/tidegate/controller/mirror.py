"""MLflow's aliases follow the journal: one process at a time that nobody waits for, counted when it fails. Does I/O."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tidegate.journal.fold import ModelState
from tidegate.register.aliases import Aliases, aliases_of

logger = logging.getLogger(__name__)

RETRY, LONGEST = 30.0, 600.0
"""Seconds to the next try after a failure, doubled by each further one up to the longest."""


class Mirror(Protocol):
    """What shows the journal's state elsewhere."""

    def follow(self, state: ModelState) -> None:
        """Go after `state`; returns at once and never raises."""

    def status(self) -> Mapping[str, Any]:
        """What is shown, as JSON."""

    def stop(self) -> None:
        """End what is at work."""


class AliasMirror:
    """The aliases of one model in the MLflow of a state folder; compared once at the start, then when they change."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder, self._model = folder, model
        self._shown: Aliases = {}
        self._process: subprocess.Popen[str] | None = None
        self._failures, self._row, self._error, self._next = 0, 0, "", 0.0

    def follow(self, state: ModelState) -> None:
        """As `Mirror.follow`."""
        if self._process is not None and self._process.poll() is not None:
            self._ended(self._process)
            self._process = None
        wanted = aliases_of(state)
        if self._process is None and wanted != self._shown and time.monotonic() >= self._next:
            try:
                self._process = self._start()
            except OSError as error:
                self._failed(str(error))

    def status(self) -> Mapping[str, Any]:
        """The aliases that MLflow was last seen to have, failures so far, and the last one while it lasts."""
        return {"aliases": dict(self._shown), "failures": self._failures, "error": self._error}

    def stop(self) -> None:
        """As `Mirror.stop`; the next start compares."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        with (self._folder / "aliases.log").open("w") as log:
            arguments = [sys.executable, "-m", "tidegate.register.aliases", str(self._folder), self._model]
            return subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip

    def _ended(self, process: subprocess.Popen[str]) -> None:
        said = process.communicate()[0]
        if process.returncode:
            return self._failed(self._last_line())
        self._shown, self._row, self._error = json.loads(said.splitlines()[-1]), 0, ""

    def _failed(self, error: str) -> None:
        self._failures, self._row, self._error = self._failures + 1, self._row + 1, error
        wait = min(LONGEST, RETRY * 2 ** (self._row - 1))
        self._next = time.monotonic() + wait
        logger.error("MLflow's aliases are not those of the journal, next try in %.0f s: %s", wait, error)

    def _last_line(self) -> str:
        with contextlib.suppress(OSError, IndexError):
            text = (self._folder / "aliases.log").read_text(errors="replace")
            return text.strip().splitlines()[-1][:300]
        return "no word"
