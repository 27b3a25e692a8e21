"""Rows of the joined history as the rest of the monitor takes them. Does I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tidegate.monitor import bulk
from tidegate.monitor.history import History
from tidegate.monitor.rows import Row, number
from tidegate.observations import Prediction

BATCH = 10_000
"""Rows that are in memory at once."""
_WINDOW = "FROM read_parquet($files) WHERE time >= $start AND time < $end"


def read_rows(history: History, start: float, end: float) -> Iterator[Row]:
    """Matured rows with a time in [start, end), in no order; mirrored ones included."""
    import duckdb

    if not history.files():
        return
    query = f"SELECT {', '.join(bulk.PREDICTION)}, outcome, label, label_time, metrics {_WINDOW}"
    with duckdb.connect() as connection:
        cursor = connection.execute(query, _values(history, start, end))
        while found := cursor.fetchmany(BATCH):
            yield from map(_row, found)


def score_quantiles(history: History, start: float, end: float, at: Sequence[float]) -> dict[str, list[float]]:
    """By version the quantiles `at` of the scores of its matured rows with a time in [start, end)."""
    import duckdb

    if not history.files():
        return {}
    query = f"SELECT version, quantile_cont(score, {list(at)}) {_WINDOW} AND score IS NOT NULL GROUP BY 1"
    with duckdb.connect() as connection:
        return dict(connection.execute(query, _values(history, start, end)).fetchall())


def _values(history: History, start: float, end: float) -> dict[str, Any]:
    return {"files": [str(path) for path in history.files()], "start": start, "end": end}


def _row(found: Sequence[Any]) -> Row:
    *values, outcome, label, label_time, metrics = found
    named = dict(zip(bulk.PREDICTION, values, strict=True))
    named["features"] = msgspec.json.decode(named["features"] or "[]")
    told = tuple(sorted((metrics or {}).items()))
    return Row(Prediction(**named), outcome, number(label), label_time, told)
