"""The label join of a whole log: N predictions by N labels from Parquet segments, then hours of the live log.

Labels are late, doubled, corrected, of unknown requests, or missing. Everything is done by `tidegate monitor join`, a
fresh process each time, imports included; memory is the greatest that any process of it had.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.core import MODEL
from benchmarks.results import Budget, Result, say
from demo.story import TIDEGATE

SIZES = (1_000_000, 3_000_000, 10_000_000)
DAYS, HOURS = 30, 3
SPAN = DAYS * 86400
HOUR = max(SIZES) // (DAYS * 24)
"""Rows of an hour's increment: the same whatever the size, so that what history costs shows."""
ROWS_A_FILE = 500_000
KEY = "md5({0}::VARCHAR) || '/0'"


def run() -> Result:
    """Measure each size in a folder of its own, with three hours' increments after it."""
    found = {}
    for rows in SIZES:
        with tempfile.TemporaryDirectory(prefix="tidegate-label-join-") as made:
            found[rows] = _of_size(Path(made), rows)
    return _told(found)


def _of_size(state: Path, rows: int) -> dict[str, Any]:
    say(f"label_join: makes {rows:,} predictions and labels")
    folders = [state / "observations" / kind for kind in ("predictions", "labels")]
    _make(*folders, rows)
    say(f"label_join: joins {rows:,}")
    whole = _join(state)
    hours = []
    for hour in range(HOURS):
        _make_hour(state, hour)
        hours.append(_join(state))
        say(f"label_join: hour {hour + 1}: {hours[-1]['wall']:.2f} s")
    rows_bytes = sum(path.stat().st_size for path in (state / "joined").glob("rows-*.parquet"))
    return {"whole": whole, "hours": hours, "bytes": rows_bytes}


def _make(predictions: Path, labels: Path, rows: int) -> None:
    """A log of 30 days: 1 % of the rows twice; labels within two hours, 5 % missing, 5 % corrected, 1 % unknown."""
    import duckdb

    for folder in (predictions, labels):
        folder.mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        for start in range(0, rows, ROWS_A_FILE):
            part = f"range({start}, {min(start + ROWS_A_FILE, rows)}) t(i)"
            name = f"{start // ROWS_A_FILE:06d}.parquet"
            again = _predictions(part, rows, " WHERE i % 100 = 0")
            _copy(connection, f"({_predictions(part, rows)}) UNION ALL ({again})", predictions / name)
            _copy(connection, _labels(part, rows), labels / name)


def _copy(connection: Any, query: str, path: Path) -> None:
    connection.execute(f"COPY ({query}) TO '{path}' (COMPRESSION zstd)")


def _predictions(part: str, rows: int, where: str = "") -> str:
    at = f"i * {SPAN / rows}"
    return f"""SELECT {KEY.format("i")} AS request_id, {at} AS time, {at} + 0.5 AS wall, 'v' || (1 + i % 2) AS version,
        'sha256:' || repeat('a', 64) AS digest, 'v1' AS arm, 0.5::DOUBLE AS propensity, 'r1' AS release,
        (i * 7919 % 1000) / 1000.0::DOUBLE AS score, false AS error, 3.0::DOUBLE AS latency_ms,
        '["JFK","UA",' || (i % 24) || ',' || (i % 997) || '.5,null,' || (i % 7) || ']' AS features
        FROM {part}{where}"""  # noqa: S608 - numbers of our own


def _labels(part: str, rows: int) -> str:
    at = f"i * {SPAN / rows} + i * 31 % 7200"
    columns = "AS wall, (i % 3 = 0)::INT::DOUBLE AS value"
    first = f"""SELECT {KEY.format("i")} AS request_id, {at} AS time, {at} + 1 {columns},
        if(i % 50 = 7, 'cancelled', 'observed') AS outcome, NULL::VARCHAR AS metric FROM {part} WHERE i % 20 <> 3"""  # noqa: S608
    corrected = f"""SELECT {KEY.format("i")}, {at} + 3600, {at} + 3601 {columns}, 'observed', NULL
        FROM {part} WHERE i % 20 = 4"""  # noqa: S608
    late = f"""SELECT {KEY.format("i")}, {at} + 172800, {at} + 172801 {columns}, 'observed', NULL
        FROM {part} WHERE i % 200 = 3"""  # noqa: S608
    unknown = f"""SELECT {KEY.format("(i + 1000000000000)")}, {at}, {at} + 1 {columns}, 'observed', NULL
        FROM {part} WHERE i % 100 = 9"""  # noqa: S608
    return " UNION ALL ".join(f"({one})" for one in (first, corrected, late, unknown))


def _make_hour(state: Path, hour: int) -> None:
    """The next hour as the services and the intake append it: JSON lines; its labels, and late ones of older rows."""
    from tidegate.observations import Label, Prediction, SegmentWriter

    count, start = HOUR, SPAN + hour * 3600.0
    writers = [
        SegmentWriter(state / "observations" / kind, "live", background=False) for kind in ("predictions", "labels")
    ]
    for i in range(count):
        at, name = start + i * 3600 / count, f"hour-{hour}-{i}/0"
        rest = ("v1", "sha256:" + "a" * 64, "v1", 0.5, "r1", (i % 1000) / 1000, False, 3.0, ["JFK", "UA", i % 24, 1.5])
        writers[0].append(Prediction(name, at, at, *rest))
        writers[1].append(Label(name, at + 1800, at + 1800, float(i % 3 == 0), "observed"))
    for i in range(count // 10):
        writers[1].append(Label(f"hour-{max(hour - 1, 0)}-{i}/0", start, start, 1.0, "observed"))
    for writer in writers:
        writer.flush()


def _join(state: Path) -> dict[str, Any]:
    """One `tidegate monitor join`: seconds by the clock and of CPU, MiB at most, and what it counted."""
    words = (*TIDEGATE, "monitor", "join", str(MODEL), "--state", str(state), "--json")
    out = state / "out.json"
    began = time.monotonic()
    with out.open("wb") as file:
        process = os.posix_spawn(words[0], words, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, file.fileno(), 1)])
        _, status, used = os.wait4(process, 0)
    wall = time.monotonic() - began
    if status:
        raise SystemExit(f"label_join: tidegate monitor join failed with {status}")
    cpu = used.ru_utime + used.ru_stime
    return {"wall": wall, "cpu": cpu, "mib": used.ru_maxrss / 1024, "counts": json.loads(out.read_text())}


def _told(found: dict[int, dict[str, Any]]) -> Result:
    columns = ("predictions", "whole join", "CPU", "memory", "an hour's increment", "its CPU", "its memory")
    rows = [_row(size, one) for size, one in found.items()]
    largest = found[max(found)]
    whole, hour = largest["whole"], statistics.median(one["wall"] for one in largest["hours"])
    peak = max(one["mib"] for one in (whole, *largest["hours"]))
    budgets = [
        Budget(f"{max(found):,} by {max(found):,} joined", "under 60 s", f"{whole['wall']:.1f} s", whole["wall"] < 60),
        Budget("memory of the process", "within 2 GB", f"{peak:,.0f} MiB", peak * 2**20 < 2e9),
        Budget("one hour's increment to it, median of 3", "under 2 s", f"{hour:.2f} s", hour < 2),
    ]
    kept = {name: value for name, value in whole["counts"].items() if name != "folder"}
    notes = (
        f"the largest whole join counted {json.dumps(kept)}.",
        f"its joined rows take {largest['bytes'] / 2**20:,.0f} MiB.",
        f"an hour is {HOUR:,} predictions and {HOUR + HOUR // 10:,} labels in JSON lines, whatever the size; the log"
        f" has {DAYS} days, labels are due after one and matured rows remembered for one more.",
    )
    return Result("label_join", "labels joined to predictions", columns, rows, budgets, notes, {"sizes": found})


def _row(size: int, one: dict[str, Any]) -> tuple[str, ...]:
    def median(name: str) -> float:
        return statistics.median(hour[name] for hour in one["hours"])

    whole = one["whole"]
    first = (f"{size:,}", f"{whole['wall']:.1f} s", f"{whole['cpu']:.1f} s", f"{whole['mib']:,.0f} MiB")
    return (*first, f"{median('wall'):.2f} s", f"{median('cpu'):.2f} s", f"{median('mib'):,.0f} MiB")
