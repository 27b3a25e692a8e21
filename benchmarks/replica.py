"""One replica as the platform starts it, on one core with the flights' v1: how much it takes and how fast it answers.

The service is the one that the platform starts (`LocalTarget`), prediction log on, pinned to the first core; Envoy,
the mirror's service and the client have the others. Requests are real questions of one row.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.load import bodies, maximum, open_loop
from benchmarks.results import Result, say
from demo.story import ROOT, command
from tidegate.journal.store import open_journal
from tidegate.release.plan import Backend, Plan
from tidegate.targets.local import LocalTarget
from tidegate.targets.processes import Process, Record, free_port
from tidegate.traffic.openloop import Results

NAME, RATE, SECONDS, STARTS = "flight-delay", 500.0, 20.0, 5


@dataclass(frozen=True)
class Way:
    """One way to the service: most requests a second, how that was found, and the latencies at `RATE`."""

    name: str
    most: float
    how: str
    steady: Results

    @property
    def milliseconds(self) -> tuple[str, str]:
        """p50 and p99 at `RATE`."""
        return f"{1000 * self.steady.p50:.1f}", f"{1000 * self.steady.p99:.1f}"


def run() -> Result:
    """Train v1, serve it pinned, measure directly and through Envoy with one mirror."""
    with tempfile.TemporaryDirectory(prefix="tidegate-replica-") as made:
        state = Path(made)
        say("replica: v1 is trained (not counted)")
        command("run", str(ROOT / "k8s/models/flight-delay.yaml"), "--until", "2013-07-01T04:00Z", "--state", made)
        events = open_journal(state).read(NAME)
        digest = next(e.data["digest"] for e in events if e.kind == "register.candidate")
        return _measured(state, str(digest))


def _measured(state: Path, digest: str) -> Result:
    asked, first, others = bodies(1000), *_cores()
    with pinned(others):
        target = LocalTarget(state, model=NAME, port=0, clock="wall", control_port=free_port())
        target.start()
        try:
            started = [_start(target, state, digest, first) for _ in range(STARTS)]
            service = _service(state, "v1")
            before = _rss(service)
            direct = _way("directly", service.port, asked, state)
            target.apply(_plan(digest, mirror=True))
            mirrored = _way("through Envoy, one mirror", target.port, asked, state)
            return told(started, before, _rss(service), (direct, mirrored))
        finally:
            target.stop()


def _start(target: LocalTarget, state: Path, digest: str, core: set[int]) -> float:
    """Start the service anew, pinned; seconds until it is ready and Envoy sends it traffic."""
    for process in Record(state / "target/processes.json").alive:
        if process.role == "service":
            psutil.Process(process.pid).terminate()
            psutil.Process(process.pid).wait(30)
    with pinned(core):
        began = time.perf_counter()
        target.apply(_plan(digest))
        return time.perf_counter() - began


def _plan(digest: str, mirror: bool = False) -> Plan:
    names = ("v1", "v2") if mirror else ("v1",)
    return Plan(NAME, tuple(Backend(name, digest) for name in names), (("v1", 1.0),), names[1:], "r" if mirror else "")


def _way(name: str, port: int, asked: list[bytes], folder: Path) -> Way:
    say(f"replica: {name}, at {RATE:g}/s")
    steady = open_loop(port, asked, RATE, SECONDS)
    say(f"replica: {name}, at the most")
    most = maximum(port, asked, 8.0, folder)
    return Way(name, most.rate, most.how, steady)


def _service(state: Path, version: str) -> Process:
    return next(p for p in Record(state / "target/processes.json").alive if p.version == version)


def _rss(process: Process) -> float:
    return float(psutil.Process(process.pid).memory_info().rss) / 2**20


def _cores() -> tuple[set[int], set[int]]:
    """The service's core, and those of everybody else; the same one on a machine with only one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


@contextlib.contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Let this thread, and what it starts meanwhile, run on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def told(started: list[float], before: float, after: float, ways: tuple[Way, ...]) -> Result:
    """The result as a table."""
    rows = [(way.name, f"{way.most:,.0f}", *way.milliseconds, str(way.steady.failed)) for way in ways]
    columns = ("way", "requests/s, most", f"p50 at {RATE:g}/s, ms", f"p99 at {RATE:g}/s, ms", "failed")
    notes = [
        f"start-up until Envoy routes to it: {min(started):.2f} to {max(started):.2f} s in {len(started)} starts.",
        f"memory (RSS): {before:.0f} MiB when ready, {after:.0f} MiB after all the load.",
        f"most: {ways[0].how}; p50, p99: open loop, from the scheduled time, half of the requests on new connections.",
        "Envoy, the mirror's service and the client share the other cores, which limits what goes through Envoy.",
    ]
    figures = {
        "starts": started,
        "rss_mib": [before, after],
        "ways": {way.name: {"most": way.most, **way.steady.__dict__} for way in ways},
    }
    return Result(
        "replica", "one replica on one core, flights v1, prediction log on", columns, rows, (), notes, figures
    )
