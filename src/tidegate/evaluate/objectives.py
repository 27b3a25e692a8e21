"""What else a candidate is held to beside the gate's metric, each with its own margin against the champion. Pure.

Quality (log_loss, brier, roc_auc, calibration, decision_cost) must be *proved* within its margin, as the gate's metric
is: upper limit < margin. Expense must not be over its margin: latency (milliseconds a row, not proved over it), size
(bytes of the served file) and training_cost (CPU-seconds), which are plain counts.

calibration is the expected calibration error over `BINS` bins of equal width of the score: the rows' residuals
(label - score) summed by bin, |.| summed, over all rows. Its difference has delete-one-day jackknife limits.
decision_cost is the mean cost of a row, decided by the score against the threshold that the two costs give,
falsePositive / (falsePositive + falseNegative).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.evaluate.blocks import merged_bins
from tidegate.evaluate.days import LEVEL, Check, Estimate, day_check, held, student

QUALITY = ("log_loss", "brier", "roc_auc", "calibration", "decision_cost")
EXPENSE = ("latency", "size", "training_cost")
BINS = 10
Floats = NDArray[np.float64]


def decision_costs(labels: Floats, scores: Floats, false_positive: float, false_negative: float) -> Floats:
    """The cost of each row when it is decided at the threshold that the two costs give."""
    chosen = scores >= false_positive / (false_positive + false_negative)
    return np.asarray(np.where(chosen, (1 - labels) * false_positive, labels * false_negative))


def residuals(days: NDArray[np.int64], labels: Floats, scores: Floats, least: int = 1) -> list[list[float]]:
    """Summed label - score by day [D] and bin [BINS]; fewer bins where each must have `least` rows on every day."""
    _, day = np.unique(days, return_inverse=True)
    bins = merged_bins(days, np.minimum((scores * BINS).astype(np.int64), BINS - 1), least)
    count, width = int(day.max()) + 1 if len(day) else 0, BINS if least <= 1 else int(bins.max(initial=0)) + 1
    sums = np.bincount(day * width + bins, labels - scores, minlength=count * width)
    return [[float(value) for value in today] for today in sums.reshape(count, width)]


def calibration_error(residual: Floats, rows: Floats) -> float:
    """Expected calibration error of [D, BINS] residual sums over [D] row counts."""
    return float(np.abs(residual.sum(0)).sum() / rows.sum())


def objective_checks(
    margins: Mapping[str, float], found: Mapping[str, Any]
) -> tuple[dict[str, Check], list[str], dict[str, str]]:
    """Checks by the objective's name, the names of those that refuse, and what was not measured and why."""
    checks, missing = {}, {}
    for name, margin in margins.items():
        measured = found.get(name)
        if measured is None or measured.get("champion", 0) is None or measured.get("candidate", 0) is None:
            missing[f"objective {name}"] = "not measured: one of the two models has no such record"
        else:
            checks[f"objective {name}"] = _check(name, measured, margin)
    return checks, [name for name, check in checks.items() if not _kept(name, check)], missing


def _check(name: str, measured: Mapping[str, Any], margin: float) -> Check:
    if name == "calibration":
        return held(_jackknife(measured), margin)
    if name in ("size", "training_cost"):
        difference = float(measured["candidate"]) - float(measured["champion"])
        return Check(difference, difference, difference, margin)
    return day_check(measured, margin, LEVEL)


def _kept(name: str, check: Check) -> bool:
    if name.removeprefix("objective ") in QUALITY:
        return check.upper is not None and check.upper < check.margin
    return check.lower is None or check.lower <= check.margin


def _jackknife(measured: Mapping[str, Any]) -> Estimate:
    rows = np.asarray(measured["rows"], float)
    pair = [np.asarray(measured[name], float) for name in ("candidate_residuals", "champion_residuals")]
    if len(rows) < 2:
        return Estimate(0.0, -math.inf, math.inf)
    whole, left = _difference(pair, rows), []
    for day in range(len(rows)):
        keep = np.arange(len(rows)) != day
        left.append(_difference([residual[keep] for residual in pair], rows[keep]))
    spread = float(((np.asarray(left) - np.mean(left)) ** 2).sum())
    half = student(len(rows) - 1, LEVEL) * math.sqrt((len(rows) - 1) / len(rows) * spread)
    return Estimate(whole, whole - half, whole + half)


def _difference(pair: list[Floats], rows: Floats) -> float:
    return calibration_error(pair[0], rows) - calibration_error(pair[1], rows)
