"""How good each version's answers were, day by day, from the observation store. Pure but for `read`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.monitor.join import OBSERVED, LabelJoin, Row
from tidegate.monitor.performance import Performance
from tidegate.observations import Label, Prediction, Record, SegmentReader

DAY = 86400.0
WINDOW = 7
"""Days that a point looks back on: a full cycle of the traffic."""
LEAST = 200
"""Labels under which a window says nothing."""


@dataclass(frozen=True)
class Point:
    """A version's metric over the `WINDOW` days before `time`, with 95 % limits over days; nan is unknown."""

    time: float
    value: float
    lower: float
    upper: float
    labels: int


@dataclass(frozen=True)
class Quality:
    """brier, roc_auc: points by version. late: (time, share of the flights that came late) over the same windows."""

    brier: dict[str, list[Point]]
    roc_auc: dict[str, list[Point]]
    late: list[tuple[float, float]]
    rows: int
    labelled: int


def read(folder: Path) -> list[Record]:
    """Everything in a state folder's observation store."""
    store = folder / "observations"
    return [*SegmentReader(store / "predictions").read(), *SegmentReader(store / "labels").read()]


def quality(records: Iterable[Record], deadline: float, until: float) -> Quality:
    """Join predictions and labels as the monitor does, as of event time `until`, and measure window by window."""
    join = LabelJoin(deadline)
    everything = list(records)
    join.add_predictions(r for r in everything if isinstance(r, Prediction))
    join.add_labels(r for r in everything if isinstance(r, Label))
    matured = join.rows(until).matured
    if not matured:
        return Quality({}, {}, [], 0, 0)
    measured = Performance()
    measured.add(matured)
    ends = _ends(matured)
    return Quality(
        brier=_series(measured, "brier", ends),
        roc_auc=_series(measured, "roc_auc", ends),
        late=_late(matured, ends),
        rows=len(matured),
        labelled=sum(row.outcome == OBSERVED for row in matured),
    )


def _ends(matured: Sequence[Row]) -> list[float]:
    """The midnights (UTC) at which a window ends: after every whole day from the first full window on."""
    days = [math.floor(row.prediction.time / DAY) for row in (matured[0], matured[-1])]
    return [day * DAY for day in range(min(days[0] + WINDOW, days[1]), days[1] + 1)]


def _series(measured: Performance, name: str, ends: Sequence[float]) -> dict[str, list[Point]]:
    return {version: [_point(measured, version, name, end) for end in ends] for version in measured.versions()}


def _point(measured: Performance, version: str, name: str, end: float) -> Point:
    (found,) = measured.metrics(version, end - WINDOW * DAY, end, [name])
    if found.labels < LEAST:
        return Point(end, math.nan, math.nan, math.nan, found.labels)
    return Point(end, found.value, found.lower, found.upper, found.labels)


def _late(matured: Sequence[Row], ends: Sequence[float]) -> list[tuple[float, float]]:
    """Mean label of the requests that users sent, over each window."""
    sums: dict[int, list[float]] = {}
    for row in matured:
        if row.outcome == OBSERVED and not row.mirrored:
            day = sums.setdefault(math.floor(row.prediction.time / DAY), [0.0, 0.0])
            day[0] += row.label
            day[1] += 1
    return [(end, _share(sums, round(end / DAY))) for end in ends]


def _share(sums: dict[int, list[float]], end: int) -> float:
    days = [sums[day] for day in range(end - WINDOW, end) if day in sums]
    count = sum(day[1] for day in days)
    return sum(day[0] for day in days) / count if count else math.nan
