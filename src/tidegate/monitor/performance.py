"""Performance of each version over windows of event time, on matured rows, with intervals over days.

Rows are kept as arrays by (version, day): a new day costs its own rows, and a window is put together from its days.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tidegate.errors import UserError
from tidegate.monitor.clusters import DAY, Floats, Interval, auc_left_out, jackknife, mean_left_out
from tidegate.monitor.rows import CANCELLED, MISSING, OBSERVED, Row

METRICS = ("roc_auc", "log_loss", "brier")
LEAST_SCORE = 1e-6
"""Scores are clipped to [LEAST_SCORE, 1 - LEAST_SCORE] in the log loss, so that one sure miss stays finite."""


@dataclass(frozen=True)
class Metric:
    """One metric over a window: estimate, limits over days (nan with fewer than two days), labels behind it."""

    name: str
    value: float
    lower: float
    upper: float
    labels: int


@dataclass(frozen=True)
class Coverage:
    """What became of the matured rows of a window, in rows."""

    matured: int = 0
    observed: int = 0
    cancelled: int = 0
    missing: int = 0

    @property
    def share(self) -> float:
        """Share of matured rows whose outcome is known, cancelled ones among them; nan without rows."""
        return (self.observed + self.cancelled) / self.matured if self.matured else math.nan


@dataclass
class _Day:
    """One version's matured rows of one day: growing buffers, read as numpy arrays."""

    scores: array[float] = field(default_factory=lambda: array("d"))
    labels: array[float] = field(default_factory=lambda: array("d"))
    slices: list[tuple[str, ...]] = field(default_factory=list)
    outcomes: dict[tuple[str, ...], dict[str, int]] = field(default_factory=dict)

    def add(self, row: Row, where: tuple[str, ...]) -> None:
        counts = self.outcomes.setdefault(where, {OBSERVED: 0, CANCELLED: 0, MISSING: 0})
        counts[row.outcome] += 1
        if row.outcome == OBSERVED and row.prediction.score is not None:
            self.scores.append(row.prediction.score)
            self.labels.append(row.label)
            self.slices.append(where)

    def arrays(self, at: int, value: str) -> tuple[Floats, Floats]:
        scores, labels = np.array(self.scores, np.float64), np.array(self.labels, np.float64)
        if at < 0:
            return scores, labels
        taken = np.array([where[at] == value for where in self.slices], bool)
        return scores[taken], labels[taken]


@dataclass
class Performance:
    """Matured rows by version and day, and the metrics of any window of them.

    `slices` are names; `slice_of` gives a row's value for each of them, in the same order.
    """

    slices: tuple[str, ...] = ()
    slice_of: Callable[[Row], tuple[str, ...]] = lambda row: ()
    _days: dict[tuple[str, int], _Day] = field(default_factory=dict)

    def add(self, matured: Iterable[Row]) -> None:
        """Take rows of `LabelJoin.rows(...).matured`, each once."""
        for row in matured:
            key = row.prediction.version, math.floor(row.prediction.time / DAY)
            self._days.setdefault(key, _Day()).add(row, self.slice_of(row))

    def forget(self, before: float) -> None:
        """Drop the days that ended before a time."""
        for key in [key for key in self._days if (key[1] + 1) * DAY <= before]:
            del self._days[key]

    def versions(self) -> list[str]:
        """The versions with matured rows."""
        return sorted({version for version, _ in self._days})

    def metrics(
        self,
        version: str,
        start: float,
        end: float,
        names: Sequence[str] = METRICS,
        where: tuple[str, str] | None = None,
    ) -> tuple[Metric, ...]:
        """The metrics of one version over whole days from `start` to before `end`, both taken down to their day.

        `where` is a slice's name and value. Limits are two-sided 95 %, by the delete-a-day jackknife. A metric that
        the rows do not define (one class only, no label) has the value nan.
        """
        at = -1 if where is None else self._slice(where[0])
        parts = [day.arrays(at, where[1] if where else "") for day in self._window(version, start, end)]
        parts = [(scores, labels) for scores, labels in parts if len(scores)]
        rows = sum(len(scores) for scores, _ in parts)
        return tuple(_metric(name, parts, rows) for name in names)

    def coverage(self, version: str, start: float, end: float, where: tuple[str, str] | None = None) -> Coverage:
        """What became of the matured rows of a version in a window (of a slice)."""
        at = -1 if where is None else self._slice(where[0])
        totals = {OBSERVED: 0, CANCELLED: 0, MISSING: 0}
        for day in self._window(version, start, end):
            for values, counts in day.outcomes.items():
                if where is None or values[at] == where[1]:
                    totals = {outcome: totals[outcome] + counts[outcome] for outcome in totals}
        return Coverage(sum(totals.values()), totals[OBSERVED], totals[CANCELLED], totals[MISSING])

    def values(self, name: str, version: str, start: float, end: float) -> list[str]:
        """The values of a slice that a window has."""
        at = self._slice(name)
        return sorted({values[at] for day in self._window(version, start, end) for values in day.outcomes})

    def _slice(self, name: str) -> int:
        if name not in self.slices:
            raise UserError("slice", name, f"one of {', '.join(self.slices) or 'none: no slices are set'}")
        return self.slices.index(name)

    def _window(self, version: str, start: float, end: float) -> list[_Day]:
        days = range(math.floor(start / DAY), math.floor(end / DAY))
        return [self._days[version, day] for day in days if (version, day) in self._days]


def measure(name: str, parts: Sequence[tuple[Floats, Floats]]) -> Interval:
    """One metric with its interval from (scores, labels) by day; labels are 0 or 1 for roc_auc."""
    if name == "roc_auc":
        value, left = auc_left_out([s[y > 0.5] for s, y in parts], [s[y <= 0.5] for s, y in parts])
    elif name in METRICS:
        loss = log_losses if name == "log_loss" else brier_losses
        sums = np.array([loss(s, y).sum() for s, y in parts], np.float64)
        value, left = mean_left_out(sums, np.array([len(s) for s, _ in parts], np.float64))
    else:
        raise UserError("metric", name, f"one of {', '.join(METRICS)}")
    return jackknife(value, left)


def log_losses(scores: Floats, labels: Floats) -> Floats:
    """-y log p - (1-y) log(1-p) of each row, scores clipped."""
    scores = np.clip(scores, LEAST_SCORE, 1 - LEAST_SCORE)
    return -labels * np.log(scores) - (1 - labels) * np.log1p(-scores)


def brier_losses(scores: Floats, labels: Floats) -> Floats:
    """(p - y)² of each row."""
    return np.square(scores - labels)


def _metric(name: str, parts: Sequence[tuple[Floats, Floats]], rows: int) -> Metric:
    found = measure(name, parts) if parts else Interval(math.nan, math.nan, math.nan)
    return Metric(name, found.value, found.lower, found.upper, rows)
