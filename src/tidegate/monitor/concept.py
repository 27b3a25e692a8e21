"""Whether P(y given x) changed, and whether labels are missing by the score.

Concept drift is tested on residuals y - m, where m is what the reference says of y at that score (Platt's scaling):
their mean (calibration), their product with -logit(score) (log loss beyond what the scores predict), and their mean
in each cell of each feature (a local change); each against the reference's own residuals, so that only a change counts.
A changed base rate with unchanged P(x given y) is named concept drift too: from y given x the two look alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tidegate.monitor.clusters import Floats, Ints, Shift, auc_left_out, jackknife_error, shift
from tidegate.monitor.drift import Column, Evidence, Window, codes, is_numeric

CALIBRATION_MARGIN = 0.01
LOSS_MARGIN = 0.01
"""Nats."""
LOCAL_MARGIN = 0.05
LEAST_CELL = 0.05
"""Share of the rows that a cell must have on both sides."""
AUC_MARGIN, RANGE_MARGIN = 0.05, 0.15
LEAST_UNKNOWN = 20


def logit(score: Floats) -> Floats:
    """log(p / (1 - p)), with p clipped to [1e-6, 1 - 1e-6]."""
    clipped = np.clip(score, 1e-6, 1 - 1e-6)
    return np.log(clipped) - np.log1p(-clipped)


def platt(score: Floats, label: Floats, rounds: int = 25) -> tuple[float, float]:
    """a, b of sigmoid(a logit(score) + b) by Newton's method on the log loss (Platt, 1999), lightly penalised."""
    design = np.stack([logit(score), np.ones(len(score))], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(rounds):
        fitted = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (fitted - label) + 1e-3 * (weights - [1.0, 0.0])
        curve = (design * (fitted * (1 - fitted))[:, None]).T @ design + 1e-3 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0]), float(weights[1])


def calibrated(score: Floats, scale: tuple[float, float]) -> Floats:
    """What the reference says of y at a score."""
    return np.asarray(1 / (1 + np.exp(-(scale[0] * logit(score) + scale[1]))), np.float64)


def expected_log_loss(score: Floats, scale: tuple[float, float]) -> Floats:
    """Each row's log loss as the reference predicts it from the score alone, in nats."""
    mean, log_odds = calibrated(score, scale), logit(score)
    return np.asarray(np.logaddexp(0, log_odds) - mean * log_odds, np.float64)


def concept_drift(reference: Window, current: Window) -> list[Evidence]:
    """Calibration, log loss beyond the predicted one, and local residuals; on the labelled rows of both."""
    old, new = labelled(reference), labelled(current)
    scale = platt(old.score, old.label)
    before, after = old.label - calibrated(old.score, scale), new.label - calibrated(new.score, scale)
    tests: list[tuple[str, str | None, Shift, float]] = [
        ("calibration", None, shift(before, old.day, after, new.day), CALIBRATION_MARGIN),
        (
            "excess_log_loss",
            None,
            shift(-before * logit(old.score), old.day, -after * logit(new.score), new.day),
            LOSS_MARGIN,
        ),
    ]
    for name in reference.features:
        for cell, one, two in _cells(old.features[name], new.features[name]):
            local = shift(before[one], _at(old.day, one), after[two], _at(new.day, two))
            tests.append((f"local_{cell}", name, local, LOCAL_MARGIN))
    # Half the error budget goes to the two global tests, half to the cells: many cells must not drown them.
    share = {True: 4.0, False: 2.0 * max(len(tests) - 2, 1)}
    return [
        Evidence(
            "concept_drift", statistic, name, test.effect, margin, min(1.0, test.beyond(margin) * share[name is None])
        )
        for statistic, name, test, margin in tests
    ]


def selective_labels(current: Window) -> list[Evidence]:
    """Whether the score tells which rows are labelled: AUC beyond its margin and coverage that differs by decile."""
    known = ~np.isnan(current.label) if current.known is None else current.known
    if min(int(known.sum()), int((~known).sum())) < LEAST_UNKNOWN:
        return []
    day = np.arange(len(current)) % 50 if current.day is None else current.day
    parts = [(current.score[day == one], known[day == one]) for one in np.unique(day)]
    value, left = auc_left_out([s[k] for s, k in parts], [s[~k] for s, k in parts])
    # a score that tells exactly which rows are labelled leaves days nothing to differ in: not below Mann and Whitney's
    least = math.sqrt((len(known) + 1) / (12.0 * known.sum() * (~known).sum()))
    test = Shift(value - 0.5, max(jackknife_error(left), least), max(len(parts) - 1, 1))
    decile = np.searchsorted(np.quantile(current.score, np.arange(1, 10) / 10), current.score)
    rates = [float(known[decile == one].mean()) for one in np.unique(decile)]
    spread = max(rates) - min(rates)
    p = test.beyond(AUC_MARGIN) if spread > RANGE_MARGIN else 1.0
    return [
        Evidence("selective_labels", "auc_of_labelled", None, test.effect, AUC_MARGIN, p),
        Evidence("selective_labels", "coverage_range", None, spread, RANGE_MARGIN, p),
    ]


def labelled(window: Window) -> Window:
    """The rows that have a score and a label."""
    return window.take(~np.isnan(window.label) & ~np.isnan(window.score))


def _cells(before: Column, after: Column) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Thirds of a numeric feature, levels of a category: (name, reference's rows, current's rows)."""
    if is_numeric(before):
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
