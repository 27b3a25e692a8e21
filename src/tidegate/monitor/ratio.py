"""How much more often a row is seen now than in the reference: the density ratio, by a classifier, out of fold.

Reference: Bickel, Brückner and Scheffer (2009), discriminative learning under covariate shift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tidegate.monitor.clusters import Floats, Ints, Shift
from tidegate.monitor.learn import SHALLOW, Table, fit, folds, some

FOLDS, MOST_A_SIDE = 3, 5_000
LEAST_WEIGHT, MOST_WEIGHT = 0.05, 20.0


@dataclass(frozen=True, eq=False)
class Ratio:
    """p(current | x) / p(reference | x) of equally many rows, for each row by a model that has not seen its day."""

    old: Floats
    new: Floats

    @property
    def weights(self) -> Floats:
        """Weights that make the reference's rows look like the current ones; their mean is 1."""
        clipped = np.clip(self.old, LEAST_WEIGHT, MOST_WEIGHT)
        return np.asarray(clipped / clipped.mean(), np.float64)

    @property
    def share_left(self) -> float:
        """Effective sample size of the weights, as a share of the reference's rows."""
        weights = self.weights
        return float(weights.sum() ** 2 / (weights @ weights) / len(weights))

    def told_apart(self, independent: bool) -> Shift:
        """The classifier's AUC less a half (its variance: DeLong and others, 1988); unknown where rows come in days.

        Days that follow each other share their weather, so that any run of them is told from any other.
        """
        if not independent:
            return Shift(math.nan, math.nan, math.inf)
        old, new = np.sort(self.old), np.sort(self.new)
        above = (np.searchsorted(old, self.new, "left") + np.searchsorted(old, self.new, "right")) / (2 * len(old))
        below = (np.searchsorted(new, self.old, "left") + np.searchsorted(new, self.old, "right")) / (2 * len(new))
        error = math.sqrt(float(above.var()) / len(above) + float(below.var()) / len(below))
        return Shift(float(above.mean()) - 0.5, error, math.inf)


def density_ratio(rows: Table, old_day: Ints | None, new_day: Ints | None) -> Ratio:
    """Three folds; each row's ratio comes from the model of the other two."""
    old_fold, new_fold = folds(old_day, len(rows.old), FOLDS, 1), folds(new_day, len(rows.new), FOLDS, 2)
    old, new = np.ones(len(rows.old)), np.ones(len(rows.new))
    for fold in range(FOLDS):
        before = some(np.flatnonzero(old_fold != fold), MOST_A_SIDE, fold)
        after = some(np.flatnonzero(new_fold != fold), MOST_A_SIDE, fold)
        if not len(before) or not len(after):
            continue
        target = np.repeat([0.0, 1.0], [len(before), len(after)])
        weight = np.where(target > 0, len(before) / len(after), 1.0)
        seen = np.concatenate([rows.old[before], rows.new[after]])
        model = fit(seen, target, rows.categories, {"objective": "binary", **SHALLOW}, weight=weight / weight.mean())
        for fold_of, values, side in ((old_fold, old, rows.old), (new_fold, new, rows.new)):
            at = fold_of == fold
            if at.any():
                values[at] = np.exp(model.says(side[at]))
    return Ratio(old, new)
