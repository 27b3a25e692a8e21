"""Whether P(y given x) changed: a doubly robust test on residuals.

Concept drift is tested on residuals y - m(x, score), where m is what the reference says of y there (Platt's scaling,
then small trees), fitted without the row's own day: their mean (calibration), their product with -logit(score) (log
loss beyond what data drift predicts), and their product with what a model of the other half's residuals says (a local
change). From each the same of the reference's rows is taken away, weighted to look like the current ones, so that the
answer is right when either m or the weights are (Robins, Rotnitzky and Zhao, 1994).
A changed base rate with unchanged P(x given y) is named concept drift too: from y given x the two look alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.monitor.clusters import Floats, Ints, Shift, shift
from tidegate.monitor.drift import Column, Evidence, Window, codes, is_numeric, single
from tidegate.monitor.learn import MOST_ROWS, SHALLOW, Table, fit, folds, some
from tidegate.monitor.ratio import Ratio

CALIBRATION_MARGIN = 0.01
LOSS_MARGIN = 0.01
"""Nats."""
LOCAL_MARGIN = 0.02
CELL_MARGIN = 0.05
LEAST_CELL = 0.05
"""Share of the rows that a cell must have on both sides."""
FOLDS, SPLITS = 5, 3


def logit(score: Floats) -> Floats:
    """log(p / (1 - p)), with p clipped to [1e-6, 1 - 1e-6]."""
    clipped = np.clip(score, 1e-6, 1 - 1e-6)
    return np.log(clipped) - np.log1p(-clipped)


def sigmoid(log_odds: Floats) -> Floats:
    """The inverse of `logit`."""
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -30, 30))), np.float64)


def platt(score: Floats, label: Floats, rounds: int = 25) -> tuple[float, float]:
    """a, b of sigmoid(a logit(score) + b) by Newton's method on the log loss (Platt, 1999), lightly penalised."""
    design = np.stack([logit(score), np.ones(len(score))], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(rounds):
        fitted = sigmoid(design @ weights)
        slope = design.T @ (fitted - label) + 1e-3 * (weights - [1.0, 0.0])
        curve = (design * (fitted * (1 - fitted))[:, None]).T @ design + 1e-3 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0]), float(weights[1])


def expected_log_loss(score: Floats, mean: Floats) -> Floats:
    """Each row's log loss in nats when y has this mean there."""
    log_odds = logit(score)
    return np.asarray(np.logaddexp(0, log_odds) - mean * log_odds, np.float64)


def expected_label(score: Floats, scale: tuple[float, float]) -> Floats:
    """What Platt's scaling says of y at a score."""
    return sigmoid(scale[0] * logit(score) + scale[1])


@dataclass(frozen=True, eq=False)
class Compared:
    """Labelled rows of both windows: features, what the reference says of y (out of fold), weights of its rows."""

    reference: Window
    current: Window
    rows: Table
    old_mean: Floats
    new_mean: Floats
    weights: Floats

    def shift(self, old_factor: Floats | float, new_factor: Floats | float) -> Shift:
        """Of factor · residual: the current mean less the reference's weighted one."""
        before = self.weights * old_factor * (self.reference.label - self.old_mean)
        return shift(before, self.reference.day, new_factor * (self.current.label - self.new_mean), self.current.day)

    @property
    def predicted(self) -> float:
        """Mean log loss of the current rows, in nats, if only the rows had changed."""
        old, new = self.reference, self.current
        known = expected_log_loss(new.score, self.new_mean).mean()
        missed = (-self.weights * (old.label - self.old_mean) * logit(old.score)).mean()
        return float(known + missed)


def compared(reference: Window, current: Window, rows: Table, ratio: Ratio | None) -> Compared:
    """Fit what the reference says of y; both windows have a score and a label in every row.

    Without a ratio all weights are 1: where rows come in days their weather tells the days apart, and weights that
    follow it would leave a handful of days.
    """
    scores = logit(reference.score), logit(current.score)
    scale = platt(reference.score, reference.label)
    start_old, start_new = (scale[0] * one + scale[1] for one in scores)
    old = np.column_stack([rows.old, scores[0].astype(np.float32)])
    new = np.column_stack([rows.new, scores[1].astype(np.float32)])
    old_fold, new_fold = folds(reference.day, len(old), FOLDS, 7), folds(current.day, len(new), FOLDS, 8)
    old_mean, new_mean = sigmoid(start_old), sigmoid(start_new)
    for fold in range(FOLDS):
        at = some(np.flatnonzero(old_fold != fold), MOST_ROWS, fold)
        if len(np.unique(reference.label[at])) < 2:
            continue
        settings = {"objective": "binary", **SHALLOW, "learning_rate": 0.05, "lambda_l2": 20.0}
        model = fit(old[at], reference.label[at], rows.categories, settings, start=start_old[at])
        # a current row uses one fold's model, as a reference row does: else m's own error would look like drift
        for fold_of, side, start, mean in (
            (old_fold, old, start_old, old_mean),
            (new_fold, new, start_new, new_mean),
        ):
            mine = fold_of == fold
            if mine.any():
                mean[mine] = sigmoid(start[mine] + model.says(side[mine]))
    weights = np.ones(len(old)) if ratio is None else ratio.weights
    return Compared(reference, current, Table(old, new, rows.categories), old_mean, new_mean, weights)


def concept_drift(rows: Compared) -> list[Evidence]:
    """Calibration, log loss beyond the predicted one, a learned local change, and cells of each feature."""
    local_old, local_new = _learned(rows)
    tests: list[tuple[str, str | None, Shift, float]] = [
        ("calibration", None, rows.shift(1.0, 1.0), CALIBRATION_MARGIN),
        (
            "excess_log_loss",
            None,
            rows.shift(-logit(rows.reference.score), -logit(rows.current.score)),
            LOSS_MARGIN,
        ),
        ("local_residual", None, _upwards(rows.shift(local_old, local_new)), LOCAL_MARGIN),
    ]
    for name in rows.reference.features:
        for cell, one, two in _cells(rows.reference.features[name], rows.current.features[name]):
            tests.append((f"local_{cell}", name, _cell(rows, one, two), CELL_MARGIN))
    # Half the error budget goes to the first two, a quarter to the learned one, a quarter to the cells together.
    share = {"calibration": 4.0, "excess_log_loss": 4.0, "local_residual": 4.0}
    return [
        Evidence(
            "concept_drift",
            statistic,
            name,
            test.effect,
            margin,
            min(1.0, test.beyond(margin) * share.get(statistic, 4.0 * max(len(tests) - 3, 1))),
        )
        for statistic, name, test, margin in tests
    ]


def labelled(window: Window) -> Window:
    """The rows that have a score and a label."""
    return window.take(~np.isnan(window.label) & ~np.isnan(window.score))


def _upwards(one: Shift) -> Shift:
    """A model that says the opposite of what it should has learned nothing."""
    return Shift(max(one.effect, 0.0), one.error, one.freedom)


def _cell(rows: Compared, one: NDArray[np.bool_], two: NDArray[np.bool_]) -> Shift:
    weights = rows.weights[one]
    before = weights / weights.mean() * (rows.reference.label - rows.old_mean)[one]
    after = (rows.current.label - rows.new_mean)[two]
    return shift(before, _at(rows.reference.day, one), after, _at(rows.current.day, two))


def _learned(rows: Compared) -> tuple[Floats, Floats]:
    """For every row what a model of the other half's current residuals says, in units of its own spread.

    The mean of several ways to halve, since one is a matter of luck.
    """
    old, new = np.zeros(len(rows.reference)), np.zeros(len(rows.current))
    residual = rows.current.label - rows.new_mean
    settings: dict[str, Any] = {"objective": "regression", "boost_from_average": False}
    settings |= {**SHALLOW, "num_leaves": 4, "min_data_in_leaf": max(20, len(new) // 50)}
    for split in range(SPLITS):
        new_half = folds(rows.current.day, len(new), 2, 10 + split)
        old_half = folds(rows.reference.day, len(old), 2, 20 + split)
        for half in (0, 1):
            at = some(np.flatnonzero(new_half != half), MOST_ROWS, split)
            if len(at) < 50:
                continue
            model = fit(rows.rows.new[at], residual[at], rows.rows.categories, settings, rounds=30)
            for half_of, side, says in ((old_half, rows.rows.old, old), (new_half, rows.rows.new, new)):
                mine = half_of == half
                says[mine] += model.says(side[mine])
    middle, width = new.mean(), new.std()
    if not width > 1e-9:
        return np.zeros(len(old)), np.zeros(len(new))
    return (old - middle) / width, (new - middle) / width


def _cells(before: Column, after: Column) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Thirds of a numeric feature, levels of a category: (name, reference's rows, current's rows)."""
    if is_numeric(before):
        before, after = single(before), single(after)
        low, high = np.nanquantile(before, (1 / 3, 2 / 3)) if not np.isnan(before).all() else (math.nan, math.nan)
        cells = [
            ("low", before <= low, after <= low),
            ("middle", (before > low) & (before <= high), (after > low) & (after <= high)),
            ("high", before > high, after > high),
        ]
    else:
        levels, old, new = codes(before, after)
        cells = [(level, old == code, new == code) for code, level in enumerate(levels)]
    for name, one, two in cells:
        if one.mean() >= LEAST_CELL and two.mean() >= LEAST_CELL:
            yield name, one, two


def _at(day: Ints | None, mask: NDArray[np.bool_]) -> Ints | None:
    return None if day is None else day[mask]
