"""The stream: 100,000 events a minute, the feeder on one core; from an event's scheduled time until it is online.

The publisher sends each event at its time, whatever became of those before (open loop). Another process reads the
online SQLite every few milliseconds. An event counts as online when every view that its batch changed says in the
store that it was fed with that batch; aircraft that were never seen are looked for by their own key as well.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import psutil

from benchmarks.results import ROOT, Budget, Result, say
from tidegate.features.asof import TIME
from tidegate.features.live import LiveRepo, live_repo, offline_rows
from tidegate.features.streaming import LATENESS
from tidegate.features.windows import CREATED, build
from tidegate.features.wire import NO_KEYS, heartbeat_keys, known_of
from tidegate.ingest.stream_log import KNOWN, StreamLog
from tidegate.state import prepare
from tidegate.targets.processes import Record, wait_until
from tidegate.targets.streams import Streams
from tidegate.workload import load_workload

WORKLOAD, MODEL = "flights.workload:flight_delay", "flight-delay"
RATE = 100_000 / 60
WARM, SECONDS = 8.0, 66.0
"""Seconds before the first event that counts, and seconds of those that do."""

EVERY = 0.005
"""Seconds between two looks at the online store."""


@dataclass
class Seen:
    """What was read from the store: (time, until when every view was fed), and when a new aircraft was there."""

    fed: list[tuple[float, float]] = field(default_factory=list)
    aircraft: dict[str, float] = field(default_factory=dict)


def run() -> Result:
    """One run; the figures are of the events after the warm-up."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-stream-"))
    streams = Streams(prepare(folder / "state"), model=MODEL, workload=WORKLOAD, clock="wall", url=None)
    try:
        return measured(streams, folder / "state")
    finally:
        streams.stop()
        shutil.rmtree(folder, ignore_errors=True)


def measured(streams: Streams, state: Path) -> Result:
    """Start, publish, watch, stop, and compare with the batch computation."""
    say("stream: start")
    streams.start()
    status = state / "stream" / "status.json"
    assert wait_until(status.exists, 60), (state / "stream/feeder.log").read_text()[-2000:]
    feeder = _pinned(state)
    live = live_repo(state, load_workload(WORKLOAD), WORKLOAD)
    say(f"stream: {RATE * 60:,.0f} events a minute for {WARM + SECONDS:.0f} s")
    seen, sent, spent, memory = _publish(state, live, feeder)
    told = json.loads(status.read_text())
    streams.stop()
    say("stream: compare with the batch computation")
    log = _log(state)
    assert log.height == sent["events"] == log["flight_id"].len(), (log.height, sent, told)
    waits = _waits(log, seen, sent["first"] + WARM)
    probes = _probe_waits(log, seen, sent["first"] + WARM)
    differ = _differing(state, live)
    return _result(waits, probes, spent, memory, sent, differ)


def _pinned(state: Path) -> psutil.Process:
    """The feeder, on the last core; everything else on the others."""
    process = psutil.Process(
        next(one.pid for one in Record(state / "stream/processes.json").alive if one.role == "feeder")
    )
    cores = sorted(os.sched_getaffinity(0))
    for thread in process.threads():
        os.sched_setaffinity(thread.id, cores[-1:])
    return process


def _publish(state: Path, live: LiveRepo, feeder: psutil.Process) -> tuple[Seen, dict[str, float], float, float]:
    """What was seen while the publisher ran, its account, the feeder's CPU seconds a second, its peak MiB."""
    url = json.loads((state / "stream/nats.json").read_text())["url"]
    words = ("--url", url, "--model", MODEL, "--seconds", str(WARM + SECONDS), "--rate", str(RATE))
    publisher = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stream_side", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    seen, used, began, memory = Seen(), _cpu(feeder), time.time(), 0.0
    with closing(sqlite3.connect(f"file:{live.online}?mode=ro", uri=True)) as store:
        ended = 0.0
        while not ended or time.time() < ended + 3:
            _look(store, live.project, seen)
            if not ended and publisher.poll() is not None:
                ended = time.time()
                spent = (_cpu(feeder) - used) / (ended - began)
                memory = feeder.memory_info().rss / 2**20
            time.sleep(EVERY)
    assert publisher.stdout is not None
    return seen, json.loads(publisher.stdout.read()), spent, memory


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _look(store: sqlite3.Connection, project: str, seen: Seen) -> None:
    fed = []
    for one in load_workload(WORKLOAD).definitions():
        if one.view.name == "weather":
            continue
        keys = heartbeat_keys(one.view.keys or NO_KEYS)
        query = f"SELECT MAX(event_ts), created_ts FROM {project}_{one.view.name} WHERE entity_key IN (?, ?)"  # noqa: S608
        event, created = store.execute(query, keys[:1] + keys[-1:]).fetchone()
        fed.append(known_of(event, created) if event is not None else 0.0)
    new = store.execute(f"SELECT rowid, entity_key FROM {project}_aircraft WHERE rowid > ?", (_last(seen),)).fetchall()  # noqa: S608
    now = time.time()
    if not seen.fed or min(fed) > seen.fed[-1][1]:
        seen.fed.append((now, min(fed)))
    for rowid, key in new:
        seen.aircraft[key[-6:].decode(errors="replace")] = now
        seen.aircraft["rowid"] = max(rowid, seen.aircraft.get("rowid", 0))


def _last(seen: Seen) -> float:
    return seen.aircraft.get("rowid", 0)


def _log(state: Path) -> pl.DataFrame:
    """Every event of the raw log: id, aircraft, event time, known."""
    log = StreamLog(state / "stream")
    found = []
    for table in ("departures", "flights"):
        rows = log.rows(table)
        assert rows is not None
        found.append(rows.select("flight_id", "tailnum", "event_time", KNOWN, pl.lit(table).alias("table")))
    return pl.concat(found)


def _waits(log: pl.DataFrame, seen: Seen, since: float) -> list[float]:
    """Seconds from each event's scheduled time until it was online."""
    fed = pl.DataFrame(seen.fed, schema={"at": pl.Float64, "fed": pl.Float64}, orient="row").sort("fed")
    events = log.select(_seconds("event_time").alias("due"), _seconds(KNOWN).alias("fed")).sort("fed")
    joined = events.filter(pl.col("due") >= since).join_asof(fed, on="fed", strategy="forward")
    assert not joined["at"].has_nulls(), "an event was never seen online"
    return (joined["at"] - joined["due"]).to_list()


def _probe_waits(log: pl.DataFrame, seen: Seen, since: float) -> list[float]:
    """Seconds from the first event of a new aircraft until its row was there."""
    new = log.filter(pl.col("tailnum").str.contains("^P[0-9]{5}$"), pl.col("table") == "departures")
    first = new.select("tailnum", _seconds("event_time").alias("due")).filter(pl.col("due") >= since)
    return [seen.aircraft[name] - due for name, due in first.iter_rows()]


def _seconds(column: str) -> pl.Expr:
    return pl.col(column).dt.timestamp("us") / 1e6


def _differing(state: Path, live: LiveRepo) -> int:
    """Offline rows, newest created by key and instant, that are not those of the batch computation."""
    log, known = StreamLog(state / "stream"), load_workload(WORKLOAD)
    tables = {name: rows for name in known.streams if (rows := log.rows(name)) is not None}
    tables.setdefault("weather", known.source.arrivals(tables["flights"]["event_time"].min()).get("weather").clear())  # type: ignore[union-attr, arg-type]
    until = max(rows[KNOWN].max() for rows in tables.values() if KNOWN in rows.columns)  # type: ignore[type-var]
    early = {
        name: (rows[KNOWN] - rows["event_time"] > LATENESS).any() for name, rows in tables.items() if KNOWN in rows
    }
    assert not any(early.values()), "an event came too late to be compared"
    count = 0
    for one in known.definitions():
        order = [*one.view.keys, TIME]
        wanted = build(one, tables).drop(CREATED).filter(pl.col(TIME) <= until)
        found = offline_rows(live, one.view).sort(CREATED).unique(order, keep="last").drop(CREATED)
        found = found.filter(pl.col(TIME) <= until)
        count += wanted.join(found, on=wanted.columns, how="anti", nulls_equal=True).height
        count += found.join(wanted, on=wanted.columns, how="anti", nulls_equal=True).height
    return count


def _result(
    waits: list[float], probes: list[float], spent: float, memory: float, sent: dict[str, float], differ: int
) -> Result:
    p99, rate = statistics.quantiles(waits, n=100)[98], sent["events"] / (sent["last"] - sent["first"]) * 60
    rows = [
        (name, f"{len(some):,}", *(f"{1000 * value:.0f} ms" for value in _quantiles(some)))
        for name, some in (("every event, all its views", waits), ("first event of a new aircraft, its row", probes))
    ]
    budgets = [
        Budget("100,000 events a minute, online (p99)", "within 1 s", f"{p99:.2f} s at {rate:,.0f} a minute", p99 < 1),
        Budget("the feeder", "one core", f"{spent:.2f} of a core", spent < 1),
        Budget("offline rows that differ from the batch computation", "0", str(differ), differ == 0),
    ]
    figures = {
        "p99_seconds": p99,
        "waits": dict(zip(("p50", "p95", "p99", "max"), _quantiles(waits), strict=True)),
        "probes": dict(zip(("p50", "p95", "p99", "max"), _quantiles(probes), strict=True)),
        "cores": spent,
        "memory_mib": memory,
        **sent,
        "differ": differ,
    }
    notes = [
        f"The feeder held {memory:.0f} MiB; the publisher was at most {1000 * sent['worst_behind_seconds']:.0f} ms"
        " behind its schedule. Times are from an event's scheduled time, so that a late publisher counts as well."
    ]
    columns = ("from the scheduled time until online", "events", "p50", "p95", "p99", "longest")
    return Result("stream", "100,000 events a minute on one core", columns, rows, budgets, notes, figures)


def _quantiles(values: list[float]) -> tuple[float, float, float, float]:
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[94], cuts[98], max(values)
