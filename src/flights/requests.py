"""The flights as live traffic: each question as ``/predict`` takes it, and what becomes of it.

Features are those of the feature step, value by value: the same repairs, views, join and derived features, run once
over the whole range. A request carries all of them, so that serving needs no feature store.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flights.workload import asked, flight_delay
from tidegate.traffic.questions import Question
from tidegate.traffic.questions import questions as each
from tidegate.workload import Tables

if TYPE_CHECKING:
    import polars as pl

LABELS_END = timedelta(days=3)
"""By then every flight that was asked about has landed or is known to be cancelled."""


def traffic(tables: Tables, since: datetime, until: datetime) -> pl.DataFrame:
    """Every flight with a prediction time in [since, until), sorted by it, then by key.

    `tables`: the source's, up to `LABELS_END` after `until`. Columns: flight_id, event_timestamp, label_timestamp,
    outcome, label, the features in model order.
    """
    import polars as pl

    from tidegate.features import asof
    from tidegate.validate.repair import CHANGED, repaired

    contract = flight_delay.contract().tables
    clean = {name: repaired(tables[name], contract[name])[0].drop(CHANGED) for name in contract}
    rows = asked(clean["flights"]).filter(pl.col("event_timestamp").is_between(since, until, closed="left"))
    joined = asof.join(rows, asof.pick(flight_delay.view_definitions(), flight_delay.views(clean)))
    names = [feature.name for feature in flight_delay.features]
    return flight_delay.derive(joined).select(
        flight_delay.key, "event_timestamp", "label_timestamp", "outcome", "label", *names
    )


def load_traffic(since: datetime, until: datetime) -> pl.DataFrame:
    """`traffic` of the workload's own source."""
    return traffic(flight_delay.source.arrivals(until + LABELS_END), since, until)


def questions(rows: pl.DataFrame) -> Iterator[Question]:
    """The rows of `traffic` one by one."""
    return each(rows, flight_delay)
