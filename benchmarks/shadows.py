"""Shadows that misbehave, and what users notice: one that sleeps, one that refuses, one that is killed.

Ten equal runs without a shadow give the spread; runs with each kind of shadow stand between them, so that whatever
else the machine does falls on all alike.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.load import open_loop
from benchmarks.results import Budget, Result, say
from tidegate.release.plan import Backend, Plan
from tidegate.targets.gatewayd import Gateway
from tidegate.targets.local import LocalTarget
from tidegate.targets.processes import Record, free_port, is_free, listen, spawn, wait_until
from tidegate.traffic.openloop import Results

RATE, SECONDS, RUNS, EACH = 100.0, 10.0, 10, 6
"""Requests a second; seconds of a run; runs without a shadow; runs with each kind of shadow."""
BODIES = [b'{"rows":[{"distance":1,"carrier":"UA"}]}']
SHADOWS = ("sleeps 5 s", "refuses", "is killed")
SERVER = """
import asyncio, socket, sys
async def answer(reader, writer):
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            size = next((int(l[15:]) for l in head.lower().split(b"\\r\\n") if l.startswith(b"content-length:")), 0)
            await reader.readexactly(size)
            await asyncio.sleep(float(sys.argv[1]))
            writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    await (await asyncio.start_server(answer, sock=socket.socket(fileno=3), backlog=2048)).serve_forever()
asyncio.run(main())
"""


def run() -> Result:
    """The runs in turn."""
    from tests.tiny_models import write_model

    with tempfile.TemporaryDirectory(prefix="tidegate-shadows-") as made:
        state = Path(made)
        (state / "token").write_text("secret")
        digest = write_model(state / "models")
        target = LocalTarget(state, model="m", port=0, clock="wall", control_port=free_port())
        gateway = Gateway(state / "second", Record(state / "second/processes.json"), 0, free_port())
        try:
            target.apply(Plan("m", (Backend("v1", digest),), (("v1", 1.0),)))
            gateway.ensure(keep_routes=False)
            service = next(p.port for p in Record(state / "target/processes.json").alive if p.version == "v1")
            return told(_turns(gateway, service, state))
        finally:
            gateway.stop()
            target.stop()


def _turns(gateway: Gateway, service: int, folder: Path) -> dict[str, list[Results]]:
    """By kind of shadow the results of its runs; "" is without one."""
    found: dict[str, list[Results]] = {name: [] for name in ("", *SHADOWS)}
    # each kind's runs stand evenly over the whole time, since the machine's other work comes and goes
    kinds = [("", RUNS), *((name, EACH) for name in SHADOWS)]
    turns = sorted(((i + 0.5) / size, name) for name, size in kinds for i in range(size))
    _once(gateway, service, folder, "")  # warm
    for number, (_, name) in enumerate(turns, 1):
        found[name].append(one := _once(gateway, service, folder, name))
        say(f"shadows: {number} of {len(turns)}: {name or 'none'}: {1000 * one.p50:.2f}, {1000 * one.p99:.2f} ms")
    return found


def _once(gateway: Gateway, service: int, folder: Path, name: str) -> Results:
    with _shadow(name, folder) as port:
        clusters: Mapping[str, list[int]] = {"v1": [service], **({"v2": [port]} if name else {})}
        gateway.clusters(clusters)
        backends = tuple(Backend(version, f"sha256:{version}") for version in clusters)
        mirrors = ("v2",) if name else ()
        gateway.routes(Plan("m", backends, (("v1", 1.0),), mirrors, "r" if name else ""))
        return open_loop(gateway.port, BODIES, RATE, SECONDS)


@contextlib.contextmanager
def _shadow(name: str, folder: Path) -> Iterator[int]:
    """The port of a shadow of this kind; the one that is killed dies after a third of the run."""
    if name in ("", "refuses"):
        yield free_port()
        return
    with listen() as listening:
        port = int(listening.getsockname()[1])
        sleeps = "5" if name.startswith("sleeps") else "0"
        pid, _ = spawn([sys.executable, "-c", SERVER, sleeps], folder / "shadow.log", listening)
    wait_until(lambda: not is_free(port), 5.0)
    death = threading.Timer(SECONDS / 3, os.kill, (pid, signal.SIGKILL))
    if name == "is killed":
        death.start()
    try:
        yield port
    finally:
        death.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def told(found: Mapping[str, list[Results]]) -> Result:
    """The spread without a shadow, and the median with each kind beside it."""
    plain, rows, budgets = found[""], [], []
    for name, runs in found.items():
        p50, p99 = ([1000 * getattr(one, which) for one in runs] for which in ("p50", "p99"))
        failed = sum(one.failed for one in runs)
        spread = [f"{statistics.median(x):.2f} ({min(x):.2f} to {max(x):.2f})" for x in (p50, p99)]
        rows.append((f"a shadow that {name}" if name else "no shadow", str(len(runs)), *spread, str(failed)))
        if name:
            limits = [1000 * max(getattr(one, which) for one in plain) for which in ("p50", "p99")]
            got = [statistics.median(x) for x in (p50, p99)]
            inside = failed == 0 and all(x <= limit for x, limit in zip(got, limits, strict=True))
            budgets.append(
                Budget(f"p50, p99 with a shadow that {name}", f"the spread of {len(plain)} runs without, "
                       f"{limits[0]:.2f}, {limits[1]:.2f} ms", f"{got[0]:.2f}, {got[1]:.2f} ms", inside)
            )  # fmt: skip
    notes = [f"{RATE:g} requests/s for {SECONDS:g} s a run, open loop, from the due time; medians of the runs."]
    figures = {name or "none": [one.__dict__ for one in runs] for name, runs in found.items()}
    columns = ("run", "runs", "p50, ms", "p99, ms", "failed")
    return Result("shadows", "what users notice of bad shadows", columns, rows, budgets, notes, figures)
