"""What changed in the rows: data drift, rows from a region never seen, features computed in two ways.

Every test asks for more than a margin, not for more than zero, so that more rows do not alarm on nothing, and takes
the day as the unit (`clusters.shift`). The margins are those of docs/monitor.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.monitor.clusters import Floats, Ints, Shift, shift

Column = NDArray[Any]
SHARE_MARGIN = 0.05
"""Least change of a share: of rows below a reference quantile (so of the KS distance), of a category, of nulls."""
DOMAIN_MARGIN = 0.02
SKEW_MARGIN = 0.001
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LEAST_LEVEL = 0.01
"""Categories with a smaller share of the reference are taken together."""


@dataclass(frozen=True, eq=False)
class Window:
    """Rows of a version as columns of one length.

    features: float arrays (nan = null) for numeric ones, object arrays of str or None for categories. score:
    probability of the positive class. label: nan where there is none. day: the group that a row repeats with, as
    whole numbers (UTC days); None: rows are independent. known: whether the outcome is known, cancelled ones among
    them; None: where the label is. recomputed: features again, from the pipeline, to compare with those served.
    """

    features: Mapping[str, Column]
    score: Floats
    label: Floats
    day: Ints | None = None
    known: NDArray[np.bool_] | None = None
    recomputed: Mapping[str, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.score)

    @property
    def days(self) -> int | None:
        """How many days the rows come from; None when rows are independent."""
        return None if self.day is None else len(np.unique(self.day))

    def take(self, index: Any) -> Window:
        """The rows at `index`."""
        return Window(
            {name: column[index] for name, column in self.features.items()},
            self.score[index],
            self.label[index],
            None if self.day is None else self.day[index],
            None if self.known is None else self.known[index],
            {name: column[index] for name, column in self.recomputed.items()},
        )


@dataclass(frozen=True)
class Evidence:
    """One test: its effect beside its margin, and p, corrected for the number of tests of its kind."""

    kind: str
    statistic: str
    feature: str | None
    effect: float
    margin: float
    p: float


def is_numeric(column: Column) -> bool:
    """Whether a column holds numbers; any other holds categories."""
    return column.dtype.kind in "fiub"


def data_drift(reference: Window, current: Window) -> list[Evidence]:
    """Per feature: shares below the reference's quantiles (KS), of each category, of nulls."""
    tests = []
    for name, before in reference.features.items():
        after = current.features[name]
        for statistic, old, new in _indicators(before, after):
            tests.append((statistic, name, shift(old, reference.day, new, current.day)))
    return _evidence("data_drift", tests, SHARE_MARGIN)


def domain_shift(reference: Window, current: Window) -> list[Evidence]:
    """Per feature: share of rows with a category never seen, or far outside the reference's range.

    Never seen is tested beyond what a reference of this size leaves unseen (Good and Turing: singletons / rows).
    """
    tests, margins = [], []
    for name, before in reference.features.items():
        after = current.features[name]
        outside, expected = _far(before, after) if is_numeric(before) else _unseen(before, after)
        tests.append(("far" if is_numeric(before) else "unseen", name, _own_shift(outside, current.day)))
        margins.append(DOMAIN_MARGIN + expected)
    return [
        Evidence("domain_shift", statistic, name, test.effect, margin, min(1.0, test.beyond(margin) * len(tests)))
        for (statistic, name, test), margin in zip(tests, margins, strict=True)
    ]


def skew(current: Window) -> list[Evidence]:
    """Per feature that was recomputed: share of rows where it differs from the one served (exact binomial)."""
    from scipy.stats import binom

    found = []
    for name, again in current.recomputed.items():
        wrong = int((~same(current.features[name], again)).sum())
        p = float(binom.sf(wrong - 1, len(current), SKEW_MARGIN)) * len(current.recomputed)
        found.append(Evidence("skew", "share_unequal", name, wrong / len(current), SKEW_MARGIN, min(1.0, p)))
    return found


def same(served: Column, again: Column) -> NDArray[np.bool_]:
    """Whether two columns agree, row by row: within 1e-5 of each other's size, or both null."""
    if not is_numeric(served):
        return np.asarray(served == again, bool)
    one, two = served.astype(np.float64), again.astype(np.float64)
    return np.isclose(one, two, rtol=1e-5, atol=1e-8, equal_nan=True)


def _evidence(kind: str, tests: list[tuple[str, str, Shift]], margin: float) -> list[Evidence]:
    return [
        Evidence(kind, statistic, name, test.effect, margin, min(1.0, test.beyond(margin) * len(tests)))
        for statistic, name, test in tests
    ]


def _indicators(before: Column, after: Column) -> Iterator[tuple[str, Floats, Floats]]:
    """The shares that describe a column, as 0/1 values of each row, reference and current."""
    if not is_numeric(before):
        yield from _levels(before, after)
        return
    old, new = before.astype(np.float64), after.astype(np.float64)
    null_old, null_new = np.isnan(old), np.isnan(new)
    if null_old.any() or null_new.any():
        yield "null_share", null_old.astype(np.float64), null_new.astype(np.float64)
    if null_old.all() or null_new.all():
        return
    for cut in np.unique(np.quantile(old[~null_old], QUANTILES)):
        yield f"share_below_{cut:.4g}", (old <= cut).astype(np.float64), (new <= cut).astype(np.float64)


def _levels(before: Column, after: Column) -> Iterator[tuple[str, Floats, Floats]]:
    levels, old, new = codes(before, after)
    shares = np.bincount(old, minlength=len(levels)) / len(old)
    small = shares < LEAST_LEVEL
    for code in np.flatnonzero(~small):
        yield f"share_of_{levels[code]}", (old == code).astype(np.float64), (new == code).astype(np.float64)
    if small.any():
        yield "share_of_others", small[old].astype(np.float64), small[new].astype(np.float64)


def codes(before: Column, after: Column) -> tuple[list[str], Ints, Ints]:
    """Levels of both columns together (null is ``null``) and each row's code."""
    levels: dict[str, int] = {}
    found = []
    for column in (before, after):
        seen, inverse = np.unique(
            np.array(["null" if one is None else str(one) for one in column]), return_inverse=True
        )
        found.append(np.array([levels.setdefault(str(one), len(levels)) for one in seen], np.int64)[inverse])
    return list(levels), found[0], found[1]


def _unseen(before: Column, after: Column) -> tuple[Floats, float]:
    levels, old, new = codes(before, after)
    counts = np.bincount(old, minlength=len(levels))
    return (counts == 0)[new].astype(np.float64), float((counts == 1).sum()) / len(old)


def _far(before: Column, after: Column) -> tuple[Floats, float]:
    """Rows beyond the reference's range by more than half the distance of its quartiles, and their expected share."""
    old, new = before.astype(np.float64), after.astype(np.float64)
    if np.isnan(old).all():
        return (~np.isnan(new)).astype(np.float64), 0.0
    low, first, third, high = np.nanquantile(old, (0.001, 0.25, 0.75, 0.999))
    room = 0.5 * (third - first)
    return ((new < low - room) | (new > high + room)).astype(np.float64), 0.001


def _own_shift(values: Floats, day: Ints | None) -> Shift:
    """A share of the current window alone, with the variance of its own days (or rows)."""
    share = float(values.mean())
    least = max(share * (1 - share), 1 / len(values)) / len(values)
    if day is None:
        return Shift(share, math.sqrt(least), math.inf)
    at = np.unique(day, return_inverse=True)[1]
    off = np.bincount(at, weights=values - share) / (len(values) / (at.max() + 1))
    count = len(off)
    variance = float(off @ off) / count / max(count - 1, 1)
    return Shift(share, math.sqrt(max(variance, least)), max(count - 1, 1))
