"""Rows of the joined history as the rest of the monitor takes them. Does I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tidegate.monitor import bulk
from tidegate.monitor.history import History
from tidegate.monitor.rows import PENDING, Row, number
from tidegate.observations import Prediction


def read_rows(history: History, start: float, end: float, version: str | None = None) -> list[Row]:
    """Matured rows with a time in [start, end), in order of (time, request id, version); mirrored ones included."""
    return _read(history.files(), "true", "outcome, label, label_time, metrics", start, end, version)


def read_open(history: History, start: float, end: float, version: str | None = None) -> list[Row]:
    """Rows that have not matured yet, as pending ones, in the same order."""
    deadline, until = history.manifest.deadline, history.manifest.until
    files = [*history.files("open"), *history.files("ahead")]
    return _read(files, f"time + {deadline!r} > '{until!r}'::DOUBLE", "NULL", start, end, version)


def _read(files: Sequence[Path], where: str, more: str, start: float, end: float, version: str | None) -> list[Row]:
    import duckdb

    if not files:
        return []
    query = (
        f"SELECT {', '.join(bulk.PREDICTION)}, {more} FROM read_parquet($files) WHERE {where} "  # noqa: S608
        "AND time >= $start AND time < $end AND ($version IS NULL OR version = $version) "
        "ORDER BY time, request_id, version"
    )
    values = {"files": [str(path) for path in files], "start": start, "end": end, "version": version}
    with duckdb.connect() as connection:
        found = connection.execute(query, values).fetchall()
    return [_row(row) for row in found]


def _row(found: Sequence[Any]) -> Row:
    at = len(bulk.PREDICTION)
    values = dict(zip(bulk.PREDICTION, found[:at], strict=True))
    values["features"] = msgspec.json.decode(values["features"] or "[]")
    prediction = Prediction(**values)
    if found[at] is None:
        return Row(prediction, PENDING)
    label, label_time, metrics = found[at + 1], *found[at + 2 :]
    told = tuple(sorted((metrics or {}).items()))
    return Row(prediction, found[at], math.nan if label is None else number(label), label_time, told)
