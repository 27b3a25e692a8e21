"""What the gate decides from: sums by day of candidate and champion on the same rows. Pure; arrays in, plain data out.

Everything that `tidegate.evaluate.gate` reads is made here or in the module of its rule, as numbers that JSON holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.evaluate import fairness
from tidegate.evaluate.blocks import OTHERS, blocks, values_of
from tidegate.evaluate.days import LEAST_SLICE
from tidegate.evaluate.metrics import Floats, brier, log_loss, roc_auc
from tidegate.evaluate.objectives import decision_costs, residuals
from tidegate.spec import GateSpec, Objective

Days = NDArray[np.int64]


@dataclass(frozen=True)
class Compared:
    """The gate's rows: day numbers, 0/1 labels, both models' scores, all [N]; `columns` by slice name.

    `first`: there is no champion, and its scores are the base rate of the candidate's training rows. `least`: rows that
    every recorded sum must stand for; more than 1 where rows are not retained.
    """

    days: Days
    labels: Floats
    candidate: Floats
    champion: Floats
    base_rate: float
    first: bool = False
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    least: int = 1

    def part(self, mask: NDArray[np.bool_]) -> Compared:
        """The rows of `mask`."""
        columns = {name: values[mask] for name, values in self.columns.items()}
        parts = (self.days[mask], self.labels[mask], self.candidate[mask], self.champion[mask])
        return Compared(*parts, self.base_rate, self.first, columns, self.least)


def measure(rows: Compared, policy: GateSpec) -> dict[str, Any]:
    """The measurements of the gate window that do not need the files; see `tidegate.evaluate.gate.gate`."""
    fine = rows if len(rows.days) >= rows.least else rows.part(np.zeros(len(rows.days), bool))
    rows = replace(fine, days=blocks(fine.days, fine.least))
    found: dict[str, Any] = {
        "compared_with": "base_rate" if rows.first else "champion",
        "candidate": values(rows.labels, rows.candidate),
        "champion": values(rows.labels, rows.champion),
        "first_day": int(rows.days.min()) if len(rows.days) else None,
        "rows": len(rows.labels),
        "days": by_day(policy.metric, rows.days, rows.labels, rows.candidate, rows.champion),
        "slices": {name: _by_value(policy.metric, fine, name) for name in policy.slices},
    }
    if policy.fairness is not None:
        found["fairness"] = _fairness(fine, policy.fairness.protected)
    if policy.objectives and not rows.first:
        quality = {one.metric: quality_of(one, rows) for one in policy.objectives}
        found["objectives"] = {name: days for name, days in quality.items() if days is not None}
    return found


def quality_of(one: Objective, rows: Compared) -> dict[str, Any] | None:
    """What a quality objective is decided from; None for an expense, which no row tells of."""
    if one.metric == "calibration":
        return _calibration(rows)
    if one.metric == "decision_cost" and one.false_positive and one.false_negative:
        costs = one.false_positive, one.false_negative
        losses = decision_costs(rows.labels, rows.candidate, *costs) - decision_costs(
            rows.labels, rows.champion, *costs
        )
        return _sums(rows.days, losses)
    if one.metric in ("log_loss", "brier", "roc_auc"):
        return by_day(one.metric, rows.days, rows.labels, rows.candidate, rows.champion)
    return None


def by_day(metric: str, days: Days, labels: Floats, candidate: Floats, other: Floats) -> dict[str, list[Any]]:
    """Rows and summed difference of each day that has rows; for roc_auc a day counts with its loss 1 - AUC."""
    if metric == "roc_auc":
        return _auc_by_day(days, labels, candidate, other)
    losses = brier if metric == "brier" else log_loss
    return _sums(days, losses(labels, candidate) - losses(labels, other))


def values(labels: Floats, scores: Floats) -> dict[str, float | None]:
    """Log loss, Brier score and AUC of one model; None where the rows do not have them."""
    if not len(labels):
        return {"log_loss": None, "brier": None, "roc_auc": None}
    auc = roc_auc(labels, scores) if 0 < labels.mean() < 1 else None
    return {
        "log_loss": float(log_loss(labels, scores).mean()),
        "brier": float(brier(labels, scores).mean()),
        "roc_auc": auc,
    }


def _by_value(metric: str, rows: Compared, name: str) -> dict[str, Any]:
    """Sums by day of each value of a column; the values of too few rows together, where that is enough."""
    column = values_of(rows.columns[name], rows.least)
    masks = {str(value): column == value for value in np.unique(column)}
    if masks.get(OTHERS, np.ones(rows.least)).sum() < rows.least:
        del masks[OTHERS]
    return {value: _of_value(metric, rows.part(mask)) for value, mask in masks.items()}


def _of_value(metric: str, rows: Compared) -> dict[str, Any]:
    parts = (rows.labels, rows.candidate, rows.champion)
    found: dict[str, Any] = by_day(metric, blocks(rows.days, rows.least), *parts)
    if metric != "roc_auc":  # of which a row has none
        losses = brier if metric == "brier" else log_loss
        squares = (losses(rows.labels, rows.candidate) - losses(rows.labels, rows.champion)) ** 2
        found["squares"] = float(squares.sum())
    return found


def _fairness(rows: Compared, protected: str) -> dict[str, Any]:
    """Counts of the groups; one that is too small to be asked about is left out where rows are not retained."""
    if rows.least > 1:
        kept = values_of(rows.columns[protected], LEAST_SLICE)
        rows = rows.part(kept != OTHERS)
        rows = replace(rows, days=blocks(rows.days, rows.least, rows.columns[protected]))
    scores = {"candidate": rows.candidate} | ({} if rows.first else {"champion": rows.champion})
    return fairness.measure(rows.columns[protected], rows.days, rows.labels, scores, rows.base_rate)


def _sums(days: Days, differences: Floats) -> dict[str, list[Any]]:
    _, index = np.unique(days, return_inverse=True)
    return {"rows": np.bincount(index).tolist(), "sums": np.bincount(index, differences).tolist()}


def _auc_by_day(days: Days, labels: Floats, candidate: Floats, other: Floats) -> dict[str, list[Any]]:
    rows, sums = [], []
    for day in np.unique(days):
        today = days == day
        if 0 < labels[today].mean() < 1:
            rows.append(int(today.sum()))
            sums.append(rows[-1] * (roc_auc(labels[today], other[today]) - roc_auc(labels[today], candidate[today])))
    return {"rows": rows, "sums": sums}


def _calibration(rows: Compared) -> dict[str, Any]:
    _, index = np.unique(rows.days, return_inverse=True)
    return {
        "rows": np.bincount(index).tolist(),
        "candidate_residuals": residuals(rows.days, rows.labels, rows.candidate, rows.least),
        "champion_residuals": residuals(rows.days, rows.labels, rows.champion, rows.least),
    }
