"""Small trees over the rows of two windows, always out of fold: whole days (or groups) are in or out together.

LightGBM is imported when something is learned: who only reads a window does not pay for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.monitor.clusters import Floats, Ints
from tidegate.monitor.drift import Window, codes, is_numeric

MOST_ROWS = 20_000
"""Rows that one fit sees; with more it would only take longer."""
SHALLOW: dict[str, Any] = {"num_leaves": 8, "learning_rate": 0.1, "min_data_in_leaf": 40, "lambda_l2": 5.0}
QUIET: dict[str, Any] = {
    **{"num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 0, "verbosity": -1},
    **{"max_bin": 63, "min_data_per_group": 50, "cat_smooth": 20.0, "feature_pre_filter": False},
}


@dataclass(frozen=True, eq=False)
class Table:
    """Features of a reference and a current window as float32 [N, F]: categories are codes common to both.

    float32 on both sides: what was served in single precision must not differ from what was kept in double.
    """

    old: NDArray[np.float32]
    new: NDArray[np.float32]
    categories: tuple[int, ...]


def table(reference: Window, current: Window) -> Table:
    """The features of the reference, in its order."""
    old, new, categories = [], [], []
    for place, (name, before) in enumerate(reference.features.items()):
        after = current.features[name]
        if not is_numeric(before):
            _, before, after = codes(before, after)
            categories.append(place)
        old.append(before.astype(np.float32))
        new.append(after.astype(np.float32))
    return Table(np.stack(old, axis=1), np.stack(new, axis=1), tuple(categories))


def folds(day: Ints | None, rows: int, count: int, seed: int) -> Ints:
    """A fold from 0 to count - 1 for each row; rows of a day have the same one."""
    draw = np.random.default_rng(seed)
    if day is None:
        return draw.permutation(rows) % count
    days, at = np.unique(day, return_inverse=True)
    return np.asarray((draw.permutation(len(days)) % count)[at], np.int64)


def some(rows: Ints, most: int, seed: int) -> Ints:
    """At most so many of these rows, drawn."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


@dataclass(frozen=True, eq=False)
class Trees:
    """A fitted model; what it says is on the scale it was fitted on (log odds where the objective is binary)."""

    booster: Any

    def says(self, rows: NDArray[np.float32]) -> Floats:
        """One number a row."""
        return np.asarray(self.booster.predict(rows, raw_score=True, num_threads=1), np.float64)


def fit(
    rows: NDArray[np.float32],
    target: Floats,
    categories: tuple[int, ...],
    settings: dict[str, Any],
    *,
    rounds: int = 40,
    weight: Floats | None = None,
    start: Floats | None = None,
) -> Trees:
    """Boosted trees; `start`: what they are added to, which `Trees.says` leaves out."""
    import lightgbm

    data = lightgbm.Dataset(
        rows, target, weight=weight, init_score=start, categorical_feature=list(categories), params=dict(QUIET)
    )
    return Trees(lightgbm.train({**QUIET, **settings}, data, num_boost_round=rounds, keep_training_booster=True))
