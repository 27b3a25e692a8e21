"""The console over 1,000 models and a million events: server time of its pages, in a process of its own.

One life is led by the real controller on drawn traffic; its journal is written again under a thousand names, each
ended at another moment, sealed and chained as the journal itself does. So every model is somewhere else on its way.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.results import Budget, Result, say
from demo.story import TIDEGATE
from tests.simulated_loop import World, quick
from tidegate.journal.events import GENESIS, Draft, Event, canonical
from tidegate.journal.fold import fold
from tidegate.journal.store import open_journal, verify

MODELS, EVENTS = 1000, 1_000_000
SEED = 9
LIFE = 1300
"""Events of the longest life."""
AGAIN = 30
"""Times each page is asked for."""
LIMIT = 100.0
"""Milliseconds of server time."""
Spent = tuple[float, float]
TRIGGERS = {
    "schedule": {"cron": "0 4 1 * *"},
    "performance": {"metric": "roc_auc", "below": 0.6, "window": "2d", "minLabels": 60},
    "cooldown": "1h",
}  # fmt: skip


def run() -> Result:
    """Make the journal, ask, and count."""
    with tempfile.TemporaryDirectory(prefix="tidegate-console-") as made:
        state = Path(made)
        figures: dict[str, Any] = _make(state)
        with _Console(state) as console:
            figures |= _ask(console, state)
    return _told(figures)


def _make(state: Path) -> dict[str, Any]:
    say("console: one life")
    with tempfile.TemporaryDirectory(prefix="tidegate-life-") as folder:
        life = _life(Path(folder))
    say(f"console: {len(life)} events under {MODELS:,} names")
    began = time.monotonic()
    open_journal(state, create=True).close()
    with sqlite3.connect(state / "journal.db", isolation_level=None) as file:
        file.execute("PRAGMA synchronous = OFF")
        file.execute("BEGIN")
        for rows in _lives(life):
            file.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        file.execute("COMMIT")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (count,) = file.execute("SELECT count(*) FROM events").fetchone()
    journal = open_journal(state)
    verify(journal.read("model-0500"))  # as good as written by a controller
    size = (state / "journal.db").stat().st_size
    return {"models": MODELS, "events": count, "bytes": size, "made_seconds": time.monotonic() - began}


def _life(folder: Path) -> list[Event]:
    """A model that gets a new version about every four days; each fourth one is worse than its champion."""
    bad = frozenset(f"v{i}" for i in range(4, 400, 4))
    world = World(folder, quick(triggers=TRIGGERS), bad=bad, per_look=60)
    world.start()
    world.hand_in("v1")
    while world.state.seq < LIFE:
        world.looks(24)
        if not world.state.waiting:
            world.hand_in(f"v{world.made + 1}")
    return world.journal.read("quick")


def _lives(life: Sequence[Event]) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of each model: the same life up to another moment, `EVENTS` in all."""
    draw = np.random.default_rng(SEED)
    shortest = 2 * EVENTS // MODELS - len(life)
    ends = draw.integers(shortest, len(life) + 1, MODELS)
    ends[-1] += EVENTS - int(ends.sum()) if shortest <= ends[-1] + EVENTS - int(ends.sum()) <= len(life) else 0
    texts = [canonical(event.data) for event in life]
    for number, end in enumerate(ends):
        name, before, rows = f"model-{number:04d}", GENESIS, []
        for event, plain in zip(life[:end], texts, strict=False):
            text = plain.replace("quick", name)
            body = f'[{event.seq},"{name}","{event.kind}",{event.time!r},{event.wall!r},{text},"{before}"]'
            hashed = hashlib.sha256(body.encode()).hexdigest()
            rows.append((name, event.seq, event.kind, event.time, event.wall, text, before, hashed))
            before = hashed
        yield rows


class _Console:
    """`tidegate console` as a process."""

    def __init__(self, state: Path) -> None:
        words = [*TIDEGATE, "console", "--state", str(state), "--port", "0", "--json"]
        began = time.monotonic()
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        address = json.loads(self._process.stdout.readline())["console"]
        self.started = time.monotonic() - began
        self.port = int(re.search(r":(\d+)/", address)[1])  # type: ignore[index]

    def ask(self, path: str) -> tuple[Spent, str]:
        """(milliseconds of server time and of CPU, the page)."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, (path, body)
        wall, cpu = map(float, re.findall(r"dur=([\d.]+)", answer.headers["server-timing"]))
        connection.close()
        return (wall, cpu), body

    @property
    def mib(self) -> float:
        """Memory that it has."""
        return psutil.Process(self._process.pid).memory_info().rss / 2**20

    def __enter__(self) -> _Console:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)


def _ask(console: _Console, state: Path) -> dict[str, Any]:
    say("console: asking")
    first, page = console.ask("/console")
    second, _ = console.ask("/console")
    began = time.monotonic()
    while "still being read" in page:
        time.sleep(0.2)
        page = console.ask("/console")[1]
    read = time.monotonic() - began
    found = {name: [console.ask(path)[0] for _ in range(AGAIN)] for name, path in _pages(state).items()}
    grown = [_grown(console, state, i) for i in range(10)]
    return {
        "first_ms": first, "second_ms": second, "read_seconds": read, "started_seconds": console.started,
        "pages_ms": found, "grown_ms": grown, "mib": console.mib,
    }  # fmt: skip


def _pages(state: Path) -> dict[str, str]:
    model = "/console/models/model-0500"
    journal = open_journal(state)
    events = journal.read("model-0500")
    release = [e.data["release"]["name"] for e in events if e.kind == "release.opened"][-1]
    moment = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(events[len(events) // 2].time))
    version = fold(events).champion
    assert version is not None
    return {
        "the first page": "/console",
        "page 30 of the models": "/console?page=30",
        "searched for a name": "/console?q=0777",
        "those in release": "/console?health=moving",
        "a model": model,
        "a release": f"{model}/releases/{release}",
        "performance": f"{model}/performance",
        "lineage": f"{model}/lineage",
        "a version": f"{model}/versions/{version.version}",
        "cost": f"{model}/cost",
        "the journal": "/console/journal",
        "the journal, looks too": "/console/journal?looks=1",
        "one model's releases": "/console/journal?model=model-0500&kind=release",
        "a kind that no event has": "/console/journal?kind=release.reverted",
        "what one model served": f"/console/at?time={moment}&model=model-0500",
        "what 25 models served": f"/console/at?time={moment}",
    }


def _grown(console: _Console, state: Path, number: int) -> Spent:
    """The first page after each of its models has one more event."""
    journal = open_journal(state)
    shown = re.findall(r'<th scope="row"><a href="/console/models/([^"]+)"', console.ask("/console")[1])
    for name in shown:
        seq, at = journal.head(name)
        journal.append(name, [Draft("note.bench", at, {"number": number})], seq)
    time.sleep(0.6)  # the heads are asked for twice a second
    return console.ask("/console")[0]


def _told(figures: dict[str, Any]) -> Result:
    def row(name: str, spent: Sequence[Spent]) -> tuple[str, ...]:
        wall, cpu = sorted(one[0] for one in spent), statistics.median(one[1] for one in spent)
        late = wall[min(len(wall) - 1, round(0.95 * len(wall)))]
        return name, f"{statistics.median(wall):.1f} ms", f"{late:.1f} ms", f"{cpu:.1f} ms"

    pages = figures["pages_ms"]
    rows = [row(name, spent) for name, spent in pages.items()]
    rows.insert(1, row("the first page, its 25 models grown", figures["grown_ms"]))
    rows.append(row("the first page of a new process", [figures["first_ms"]]))
    rows.append(row("the same again, while all are read", [figures["second_ms"]]))
    most, fresh = float(rows[0][2].split()[0]), figures["first_ms"]
    budgets = [
        Budget("the first page, 95 %", "under 100 ms", f"{most:.1f} ms", most < LIMIT),
        Budget("the first page of a new process", "under 100 ms", f"{fresh[0]:.1f} ms", fresh[0] < LIMIT),
        Budget("events", f"{EVENTS:,}", f"{figures['events']:,}", figures["events"] >= EVENTS),
    ]
    size = f"a journal of {figures['bytes'] / 1e9:.2f} GB in the page cache; SQLite"
    notes = (
        f"{figures['models']:,} models, {figures['events']:,} events, {size}.",
        "server time: from the request to the whole page, as the answer's `server-timing` says, and the CPU of it;"
        f" {AGAIN} times each.",
        f"a new process answered {figures['started_seconds']:.1f} s after its start, had read all models"
        f" {figures['read_seconds']:.1f} s after its first page, and takes {figures['mib']:.0f} MiB.",
        f"load of the machine, over a minute: {os.getloadavg()[0]:.1f}.",
    )
    columns = ("page", "median", "95 %", "CPU")
    return Result("console", "1,000 models and a million events", columns, rows, budgets, notes, figures)
