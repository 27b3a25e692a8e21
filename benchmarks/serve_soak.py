"""The service for long, and killed: half an hour at 70 % of the maximum rate, and twenty kill -9 under load.

``SOAK_SECONDS`` is how long the first part takes (1,800). Memory: resident set of the process, sampled; it counts as
grown when the median of the last quarter is more than 2 % and 4 MiB above that of the second quarter (in the first one
allocators fill up). Kills: whatever was answered more than a second before one must be in the log, once.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import servers
from benchmarks.load import bodies, maximum, steady, vegeta
from benchmarks.online import prepare
from benchmarks.replica import NAME, _cores, pinned
from benchmarks.results import CACHE, Budget, Result, say
from benchmarks.serving_table import SHARE
from tidegate.observations import Prediction, SegmentReader
from tidegate.targets.gatewayd import http
from tidegate.targets.processes import free_port, wait_until
from tidegate.traffic.openloop import Answer, OpenLoop, Results
from tidegate.train.model_file import folder_name

SECONDS, KILLS, RATE, ROUND = 1800.0, 20, 500.0, 3.0
"""Seconds of the first part; number of kills, requests a second meanwhile, and seconds from readiness to a kill."""

SAFE = 1.0
"""Seconds before a kill up to which every answer must be in the log."""

GROWN, MEBIBYTES = 0.02, 4.0


@dataclass(frozen=True)
class Memory:
    """MiB of resident set, in order of time, at equal distances."""

    samples: Sequence[float]

    @property
    def early(self) -> float:
        """Median of the second quarter."""
        quarter = max(1, len(self.samples) // 4)
        return statistics.median(self.samples[quarter : 2 * quarter] or self.samples)

    @property
    def late(self) -> float:
        """Median of the last quarter."""
        return statistics.median(self.samples[-max(1, len(self.samples) // 4) :])

    @property
    def grew(self) -> bool:
        """By more than 2 % and by more than 4 MiB."""
        return self.late - self.early > max(GROWN * self.early, MEBIBYTES)


@dataclass(frozen=True)
class Killed:
    """What came of the kills: answers that had to be in the log, those of them that are not, rows that are twice."""

    kills: int
    answered: int
    safe: int
    lost: int
    twice: int


def sampled(process: psutil.Process, every: float, work: Callable[[], Results]) -> tuple[Memory, Results]:
    """Do `work` and sample the process's memory meanwhile."""
    samples: list[float] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(every):
            samples.append(process.memory_info().rss / 2**20)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        found = work()
    finally:
        done.set()
        thread.join()
    return Memory(samples), found


def killed(command: Callable[[int], Sequence[str]], rows: Path, asked: Sequence[bytes], kills: int) -> Killed:
    """Start ``command(port)``, which logs into `rows`, load it and kill it, `kills` times; then read the log."""
    port, answered, safe = free_port(), 0, set[str]()
    for number in range(kills):
        say(f"serve_soak: kill {number + 1} of {kills}")
        with subprocess.Popen(command(port)) as process:
            try:
                assert wait_until(lambda: http(port, "/readyz")[0] == 200, 60)
                answers, told = asyncio.run(_loaded(port, asked, process))
            finally:
                process.kill()
        good = [answer for answer in answers if answer.status == 200]
        answered += len(good)
        safe |= {answer.request_id for answer in good if answer.due + answer.latency < told - SAFE}
    logged = Counter(one.request_id.removesuffix("/0") for one in SegmentReader(rows).read() if type(one) is Prediction)
    return Killed(kills, answered, len(safe), len(safe - logged.keys()), sum(count > 1 for count in logged.values()))


async def _loaded(port: int, asked: Sequence[bytes], process: subprocess.Popen[bytes]) -> tuple[list[Answer], float]:
    """Send `RATE` a second; after `ROUND` seconds kill the process. Returns answers and the due time of the kill."""
    answers: list[Answer] = []
    client = OpenLoop("127.0.0.1", port, answers.append)
    told: list[float] = []

    def kill() -> None:
        process.kill()
        told.append(client.now)

    client.start()
    asyncio.get_running_loop().call_later(ROUND, kill)
    await client.run((i / RATE, "/predict", asked[i % len(asked)]) for i in range(int(RATE * (ROUND + 0.5))))
    client.close()
    return answers, told[0]


def run() -> Result:
    """Both parts, on the flights' v1."""
    seconds = float(os.environ.get("SOAK_SECONDS", SECONDS))
    with tempfile.TemporaryDirectory(prefix="tidegate-serve-soak-") as made:
        folder = Path(made)
        digest, _ = prepare(folder / "state")
        model, asked = folder / "state/models" / folder_name(digest), bodies(2000)
        memory, found, logged = _long(folder, model, asked, seconds)
        ended = killed(lambda port: _service(model, folder / "killed", port), folder / "killed", asked, KILLS)
    return told(seconds, memory, found, logged, ended)


def _long(folder: Path, model: Path, asked: Sequence[bytes], seconds: float) -> tuple[Memory, Results, int]:
    """`seconds` at 70 % of the maximum, ours from a Bento; memory, latencies, rows that the log took in the end."""
    # built before the clock runs: else memory is sampled while a compiler works and nothing is asked
    core, others, tool = *_cores(), vegeta(CACHE)
    tag, home = servers.built(folder / "bentoml")
    with servers.ours(tag, home, model, folder / "rows", core) as server, pinned(others):
        most = maximum(server.port, asked, 5.0, folder).rate
        time.sleep(0.5)  # what wrk left in flight is logged too
        rate, before = SHARE * most, _rows(server.port)
        say(f"serve_soak: {seconds:g} s at {rate:,.0f}/s")
        every = max(0.2, seconds / 400)
        memory, found = sampled(server.process, every, lambda: steady(tool, server.port, asked, rate, seconds, folder))
        time.sleep(0.5)
        return memory, found, _rows(server.port) - before


def _rows(port: int) -> int:
    """Rows that the log took and did not drop."""
    text = http(port, "/metrics")[2].decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("tidegate_prediction_log"))
    taken, dropped = (next(v for k, v in values.items() if word in k) for word in ("rows_total", "dropped_total"))
    return int(float(taken)) - int(float(dropped))


def _service(model: Path, rows: Path, port: int) -> Sequence[str]:
    return (
        sys.executable, "-m", "tidegate.serve.service", "--model-dir", str(model), "--name", NAME, "--version", "v1",
        "--writer", "v1-soak", "--observations", str(rows), "--port", str(port),
    )  # fmt: skip


def told(seconds: float, memory: Memory, found: Results, logged: int, ended: Killed) -> Result:
    """The result as a table."""
    grew = f"{memory.early:.1f} to {memory.late:.1f} MiB"
    rows = [
        (f"{seconds:,.0f} s, requests", f"{found.sent:,}"),
        ("requests a second", f"{found.sent / seconds:,.0f}"),
        ("p50, p99, worst", ", ".join(f"{1000 * value:.2f} ms" for value in (found.p50, found.p99, found.worst))),
        ("memory, second to last quarter", grew),
        ("memory, lowest and highest", f"{min(memory.samples):.1f}, {max(memory.samples):.1f} MiB"),
        (f"{ended.kills} kills, answers", f"{ended.answered:,}"),
        (f"answers older than {SAFE:g} s at their kill", f"{ended.safe:,}"),
    ]
    lost = f"{ended.lost} lost, {ended.twice} twice"
    budgets = [
        Budget("memory", "grows by no more than 2 % or 4 MiB", grew, not memory.grew),
        Budget("requests that failed", "none", str(found.failed), found.failed == 0),
        Budget("rows in the log", f"{found.sent:,}", f"{logged:,}", logged == found.sent),
        Budget("answers safe at a kill, in the log exactly once", "all", lost, not ended.lost and not ended.twice),
    ]
    notes = [f"{len(memory.samples)} samples of memory; one-row requests; the kills at {RATE:g} requests a second."]
    figures = {"memory": list(memory.samples), "steady": found.__dict__, "killed": ended.__dict__}
    return Result("serve_soak", "the service for long, and killed", ("what", "measured"), rows, budgets, notes, figures)
