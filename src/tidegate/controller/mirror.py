"""MLflow's aliases follow the journal: one process at a time that nobody waits for, counted when it fails. Does I/O."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

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
    """The aliases of one model in the MLflow of a state folder; compared once at the start, then when they change.

    process: shared by all models of a controller, so that a thousand of them are one start of MLflow.
    """

    def __init__(self, folder: Path, model: str, process: AliasProcess | None = None) -> None:
        self.folder, self.model = folder, model
        self._process = process or AliasProcess(folder / "aliases.log")
        self._shown: Aliases = {}
        self._failures, self._row, self._error, self._next = 0, 0, "", 0.0

    def follow(self, state: ModelState) -> None:
        """As `Mirror.follow`."""
        self._process.turn(self, aliases_of(state) != self._shown and time.monotonic() >= self._next)

    def status(self) -> Mapping[str, Any]:
        """The aliases that MLflow was last seen to have, failures so far, and the last one while it lasts."""
        return {"aliases": dict(self._shown), "failures": self._failures, "error": self._error}

    def stop(self) -> None:
        """As `Mirror.stop`; the next start compares."""
        self._process.leave(self)

    def ended(self, shown: Aliases) -> None:
        """MLflow has these aliases."""
        self._shown, self._row, self._error = shown, 0, ""

    def failed(self, error: str) -> None:
        """MLflow does not have them, or may not."""
        self._failures, self._row, self._error = self._failures + 1, self._row + 1, error
        wait = min(LONGEST, RETRY * 2 ** (self._row - 1))
        self._next = time.monotonic() + wait
        logger.error("%s: MLflow's aliases are not the journal's, next try in %.0f s: %s", self.model, wait, error)


class AliasProcess:
    """Runs `tidegate.register.aliases`, one process at a time, each for all models that wait for it; thread-safe.

    log: where it writes what goes wrong.
    """

    def __init__(self, log: Path) -> None:
        self._log, self._lock = log, threading.Lock()
        self._waiting: list[AliasMirror] = []
        self._working: list[AliasMirror] = []
        self._process: tuple[subprocess.Popen[bytes], IO[bytes]] | None = None
        """What works, and where it writes its lines."""

    def turn(self, mirror: AliasMirror, wants: bool) -> None:
        """Hand out what has ended, take `mirror` among those that wait where it `wants`, start what can start."""
        with self._lock:
            if self._process is not None and self._process[0].poll() is not None:
                self._hand_out(*self._process)
                return  # what its end changes is seen in the next turn
            if wants and mirror not in self._waiting and mirror not in self._working:
                self._waiting.append(mirror)
            if self._process is None and self._waiting:
                self._start()

    def leave(self, mirror: AliasMirror) -> None:
        """Ask nothing more for `mirror`; a process that works for it alone is killed."""
        with self._lock:
            self._waiting = [one for one in self._waiting if one is not mirror]
            if self._process is not None and self._working == [mirror]:
                process, said = self._process
                process.kill()
                process.wait()
                said.close()
                self._process = None
            self._working = [one for one in self._working if one is not mirror]

    def _start(self) -> None:
        pairs = [word for mirror in self._waiting for word in (str(mirror.folder), mirror.model)]
        self._working, self._waiting = self._waiting, []
        # a file, not a pipe: nobody reads before it ends
        said = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has ended
        try:
            with self._log.open("w") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tidegate.register.aliases", *pairs],
                    stdin=subprocess.DEVNULL, stdout=said, stderr=log, start_new_session=True,
                )  # fmt: skip
            self._process = process, said
        except OSError as error:
            self._fail(str(error))

    def _hand_out(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._process = None
        said.seek(0)
        # one that was killed may have left half a line
        told = {one["model"]: one for one in (json.loads(line) for line in said if line.endswith(b"\n"))}
        said.close()
        left = []
        for mirror in self._working:
            found = told.get(mirror.model, {})
            if "aliases" in found:
                mirror.ended(found["aliases"])
            elif "error" in found:
                mirror.failed(found["error"])
            else:
                left.append(mirror)
        self._working = left
        if left:
            self._fail(self._last_line() if process.returncode else "no word")

    def _fail(self, error: str) -> None:
        for mirror in self._working:
            mirror.failed(error)
        self._working = []

    def _last_line(self) -> str:
        with contextlib.suppress(OSError, IndexError):
            return self._log.read_text(errors="replace").strip().splitlines()[-1][:300]
        return "no word"
