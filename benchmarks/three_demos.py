"""The demo three times in a row: the same versions are released, refused and aborted.

Each is ``python -m demo`` as `make demo` runs it; what happened is read off its journal.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.results import ROOT, Budget, Result, say
from tidegate.journal.events import Event
from tidegate.journal.store import open_journal

RUNS = 3
COLUMNS = ("run", "seconds", "peak memory", "exit status", "what happened")


def run() -> Result:
    """Play, compare, and hold against the promises of the demo."""
    with tempfile.TemporaryDirectory(prefix="tidegate-demos-") as folder:
        played = [_play(Path(folder) / str(number)) for number in range(1, RUNS + 1)]
    rows = [(str(n), f"{p[0]:.0f}", f"{p[1]:.2f} GiB", str(p[2]), ", ".join(p[3])) for n, p in enumerate(played, 1)]
    same = len({tuple(p[3]) for p in played}) == 1
    budgets = (
        Budget(
            "every claim of the demo holds", "exit status 0", str([p[2] for p in played]), all(not p[2] for p in played)
        ),
        Budget("the same versions in every run", "one story", "one" if same else "several", same),
        Budget(
            "time without set-up", "under 8 min", f"{max(p[0] for p in played):.0f} s", max(p[0] for p in played) < 480
        ),
        Budget("memory", "under 6 GiB", f"{max(p[1] for p in played):.2f} GiB", max(p[1] for p in played) < 6),
    )
    return Result("three_demos", "the demo three times in a row", COLUMNS, rows, budgets)


def story(events: Sequence[Event]) -> list[str]:
    """Which versions served first, were released, promoted, aborted, and which runs a gate refused, in order."""
    return [word for event in events if (word := _word(event))]


def _word(event: Event) -> str:
    if event.kind == "release.first":
        return f"{event.data['version']} first"
    if event.kind in ("release.opened", "release.promoted", "release.aborted", "release.rolled_back"):
        return f"{event.data['release']['challengers'][0]['name']} {event.kind.removeprefix('release.')}"
    if event.kind.endswith(".refused"):
        return f"a run refused by {event.kind.removesuffix('.refused')}"
    return ""


def _play(folder: Path) -> tuple[float, float, int, list[str]]:
    """(seconds, peak GiB of the demo and all it started, exit status, story)."""
    say(f"demo in {folder.name}")
    state, began = folder / "state", time.monotonic()
    words = (sys.executable, "-m", "demo", "--state", str(state), "--report", str(folder / "report.html"))
    folder.mkdir()
    with (
        (folder / "output.txt").open("w") as output,
        subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        peak = _Peak(process.pid, folder)
        status = process.wait()
        seconds, most = time.monotonic() - began, peak.stop()
    return seconds, most, status, story(open_journal(state).read("flight-delay"))


class _Peak(threading.Thread):
    """The most resident memory of a process, its children and whatever names the folder, looked at twice a second."""

    def __init__(self, pid: int, folder: Path) -> None:
        super().__init__(daemon=True)
        self._pid, self._folder, self._most, self._ended = pid, str(folder), 0, threading.Event()
        self.start()

    def run(self) -> None:
        """Look until stopped."""
        while not self._ended.wait(0.5):
            self._most = max(self._most, sum(map(_resident, self._processes())))

    def stop(self) -> float:
        """End looking; the most, in GiB."""
        self._ended.set()
        self.join()
        return self._most / 2**30

    def _processes(self) -> set[psutil.Process]:
        try:
            ours = {process for process in psutil.Process(self._pid).children(recursive=True)}
        except psutil.NoSuchProcess:
            ours = set()
        named = {p for p in psutil.process_iter(["cmdline"]) if self._folder in " ".join(p.info["cmdline"] or [])}
        return ours | named


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
