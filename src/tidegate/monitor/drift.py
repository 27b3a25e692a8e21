"""What changed in the rows: data drift, features computed in two ways.

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
SHARE_MARGIN, DAYS_SHARE_MARGIN = 0.03, 0.05
"""Least change of a share: of rows below a reference quantile (so of the KS distance), of a category, of nulls."""
AUC_MARGIN = 0.03
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


def data_drift(reference: Window, current: Window, told_apart: Shift) -> list[Evidence]:
    """Per feature: shares below the reference's quantiles (KS), of each category, of nulls; over all `told_apart`.

    `told_apart`: how much better than chance a classifier tells current rows from the reference's (AUC - 0.5).
    """
    tests = []
    for name, before in reference.features.items():
        after = current.features[name]
        for statistic, old, new in _indicators(before, after):
            tests.append((statistic, name, shift(old, reference.day, new, current.day)))
    # Half the error budget goes to the classifier, half to the features together.
    margin = SHARE_MARGIN if reference.day is None else DAYS_SHARE_MARGIN
    p = 2 * told_apart.beyond(AUC_MARGIN)
    apart = Evidence("data_drift", "auc_of_classifier", None, told_apart.effect, AUC_MARGIN, min(1.0, p))
    found = [
        Evidence("data_drift", what, name, one.effect, margin, min(1.0, 2 * one.beyond(margin) * len(tests)))
        for what, name, one in tests
    ]
    return [apart, *found] if math.isfinite(told_apart.effect) else found


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


def single(column: Column) -> Floats:
    """Numbers as single precision has them: what was served so must not differ from what was kept in double."""
    return column.astype(np.float32).astype(np.float64)


def _indicators(before: Column, after: Column) -> Iterator[tuple[str, Floats, Floats]]:
    """The shares that describe a column, as 0/1 values of each row, reference and current."""
    if not is_numeric(before):
        yield from _levels(before, after)
        return
    old, new = single(before), single(after)
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
    found = [
        np.array([levels.setdefault("null" if one is None else str(one), len(levels)) for one in column], np.int64)
        for column in (before, after)
    ]
    return list(levels), found[0], found[1]
