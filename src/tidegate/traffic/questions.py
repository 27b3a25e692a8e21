"""A workload's own rows as questions: each as ``/predict`` takes it, and what became of it.

Rows go through the steps ingest and validate, and features are made as the feature step makes them, so that what is
asked is what training will see. A request carries all features: serving needs no feature store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import UserError
from tidegate.workload import Tables, Workload, load_workload

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("event_timestamp", "label_timestamp", "outcome", "label")


@dataclass(frozen=True)
class Question:
    """One request and its label event; times are seconds since the epoch.

    `at` is the prediction time; `features` a raw row in model order; `value` 1 or 0, None where it was cancelled.
    """

    key: str
    at: float
    features: dict[str, float | str | None]
    label_time: float
    value: float | None
    outcome: str


def load(workload: str, since: datetime, until: datetime) -> list[Question]:
    """Every question of the workload with a prediction time in [since, until), by time, then by key.

    Raises UserError when the source cannot be read, the data gate refuses its rows, or none lies in that time.
    """
    known = load_workload(workload)
    rows = asked(known, valid_tables(workload), datetime.now(UTC) + timedelta(days=1))
    inside = rows.filter(rows["event_timestamp"].is_between(since, until, closed="left"))
    if inside.is_empty():
        first, last = rows["event_timestamp"].min(), rows["event_timestamp"].max()
        takes = f"a time that the workload has rows of: {first!s} to {last!s}"
        raise UserError("questions", f"none from {since} to {until}", takes)
    return list(questions(inside, known))


def valid_tables(workload: str) -> dict[str, pl.DataFrame]:
    """Everything that the source has and the data gate lets through, repaired."""
    from tidegate.ingest.disk import read_manifest, read_tables
    from tidegate.ingest.step import ingest
    from tidegate.validate.step import validate

    with tempfile.TemporaryDirectory(prefix="tidegate-") as made:
        arrivals, valid = Path(made) / "arrivals", Path(made) / "valid"
        ingest(workload, (datetime.now(UTC) + timedelta(days=1)).isoformat(), arrivals)
        done = validate(arrivals, workload, valid)
        if done.verdict == "refused":
            raise UserError(f"rows of {workload}", done.reason, "rows that the data gate lets through")
        return read_tables(valid, read_manifest(valid))


def asked(known: Workload, tables: Tables, until: datetime) -> pl.DataFrame:
    """The entity rows of valid tables with a label known at `until`, with the features in model order."""
    from tidegate.features import asof

    rows = known.entities(tables, until).sort("event_timestamp", known.key)
    joined = asof.join(rows, asof.pick(known.view_definitions(), known.views(tables)))
    return known.derive(joined).select(known.key, *COLUMNS, *(feature.name for feature in known.features))


def questions(rows: pl.DataFrame, known: Workload) -> Iterator[Question]:
    """The rows of `asked` one by one."""
    import polars as pl

    seconds = pl.selectors.datetime().dt.timestamp("us") / 1e6
    told = rows.select(known.key, *COLUMNS).with_columns(seconds).iter_rows()
    given = rows.select(feature.name for feature in known.features).iter_rows(named=True)
    for (key, at, label_time, outcome, value), features in zip(told, given, strict=True):
        yield Question(key, at, features, label_time, value, outcome)


def share_of(asked: Sequence[Question], share: float, seed: int) -> list[Question]:
    """A seeded share of the traffic, in its order."""
    import random

    draw = random.Random(seed)
    return [question for question in asked if draw.random() < share]
