"""Fairness by protected group: gaps in false-positive, false-negative and selection rate, days as clusters. Pure.

A row is selected when its score reaches the threshold (the base rate of the candidate's training rows). A rate is a
ratio of sums over days, a gap the difference of two groups' rates; its variance is that of the linearised difference,
D / (D - 1) * sum(u_d^2) with u_d = (x_d - r n_d) / N of one group less the same of the other. Of each rate the widest
pair of groups is shown; the 5 % are shared by all pairs and rates.

A candidate is unfair when a gap is proved above the largest allowed *and* proved wider than the champion's gap of the
same pair: what the world already holds apart is no reason to refuse a model that narrows it. So a first version is
measured and shown, and refuses nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.evaluate.days import LEAST_DAYS, LEAST_SLICE, Check, shared, student

RATES = {
    "false_positive_rate": ("false_positives", "negatives"),
    "false_negative_rate": ("false_negatives", "positives"),
    "selection_rate": ("selected", "rows"),
}
Floats = NDArray[np.float64]


def measure(
    groups: NDArray[Any], days: NDArray[np.int64], labels: Floats, scores: Mapping[str, Floats], threshold: float
) -> dict[str, Any]:
    """Counts of each group by day: of rows and labels, and of what each model in `scores` selects at `threshold`."""
    _, day = np.unique(days, return_inverse=True)

    def by_day(mask: NDArray[np.bool_]) -> list[int]:
        return np.bincount(day[mask], minlength=int(day.max()) + 1).tolist()  # type: ignore[no-any-return]

    found = {}
    for group in np.unique(groups).tolist() if len(groups) else []:
        here = groups == group
        counts: dict[str, Any] = {"rows": by_day(here)}
        counts |= {"positives": by_day(here & (labels == 1)), "negatives": by_day(here & (labels == 0))}
        for name, values in scores.items():
            over = values >= threshold
            counts[name] = {
                "selected": by_day(here & over),
                "false_positives": by_day(here & over & (labels == 0)),
                "false_negatives": by_day(here & ~over & (labels == 1)),
            }
        found[str(group)] = counts
    return {"threshold": threshold, "groups": found}


def fairness_checks(found: Mapping[str, Any], most: float) -> tuple[dict[str, Check], list[str], dict[str, str]]:
    """Checks by name, the names of those that refuse, and what could not be asked and why."""
    groups, small = _asked(found["groups"])
    if len(groups) < 2:
        return {}, [], {**small, "fairness": f"{len(groups)} groups to compare"}
    pairs = list(itertools.combinations(sorted(groups), 2))
    level, checks, failed = shared(len(pairs) * len(RATES)), {}, []
    for rate in RATES:
        one, other = max(pairs, key=lambda pair: abs(_gap(rate, groups, pair, "candidate")[0]))
        gap, parts = _gap(rate, groups, (one, other), "candidate")
        high, low = (one, other) if gap >= 0 else (other, one)
        name = f"fairness {rate} {high}-{low}"
        checks[name] = _check(abs(gap), math.copysign(1, gap) * parts, most, level)
        if "champion" in groups[one]:
            before, was = _gap(rate, groups, (one, other), "champion")
            wider = math.copysign(1, gap) * parts - math.copysign(1, before) * was
            checks[f"{name} wider"] = _check(abs(gap) - abs(before), wider, 0.0, level)
            failed += [name] if all(_proved(checks[n]) for n in (name, f"{name} wider")) else []
    return checks, failed, small


def moved(found: Mapping[str, Any], rate: str, one: str, other: str) -> str:
    """Which of two groups' rates the candidate moved further from the champion's: the group that it treats anew."""

    def shift(group: str) -> float:
        counts = found["groups"][group]
        return abs(_rate(rate, counts, "candidate") - _rate(rate, counts, "champion"))

    return max((one, other), key=shift)


def rates(found: Mapping[str, Any], who: str) -> dict[str, dict[str, float]]:
    """``{group: {rate: value}}`` of `who` (candidate or champion), NaN where a group has no such rows."""
    return {
        group: {rate: _rate(rate, counts, who) for rate in RATES}
        for group, counts in found["groups"].items()
        if who in counts
    }


def _asked(groups: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    def enough(counts: Mapping[str, Any]) -> bool:
        days = sum(n > 0 for n in counts["rows"])
        return sum(counts["rows"]) >= LEAST_SLICE and days >= LEAST_DAYS and all(map(sum, _labelled(counts)))

    asked = {name: counts for name, counts in groups.items() if enough(counts)}
    small = {f"fairness {name}": f"{sum(c['rows'])} rows" for name, c in groups.items() if name not in asked}
    return asked, small


def _labelled(counts: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    return counts["positives"], counts["negatives"]


def _rate(rate: str, counts: Mapping[str, Any], who: str) -> float:
    over, under = RATES[rate]
    total = sum(counts[under])
    return sum(counts[who][over]) / total if total else math.nan


def _gap(rate: str, groups: Mapping[str, Any], pair: tuple[str, str], who: str) -> tuple[float, Floats]:
    """The gap between the two groups' rates and each day's part in its error."""
    over, under = RATES[rate]
    parts = []
    for group in pair:
        counts, value = groups[group], _rate(rate, groups[group], who)
        parts.append((np.asarray(counts[who][over]) - value * np.asarray(counts[under])) / sum(counts[under]))
    return _rate(rate, groups[pair[0]], who) - _rate(rate, groups[pair[1]], who), parts[0] - parts[1]


def _check(estimate: float, parts: Floats, margin: float, level: float) -> Check:
    days = len(parts)
    half = student(days - 1, level) * math.sqrt(days / (days - 1) * float((parts**2).sum()))
    return Check(estimate, estimate - half, estimate + half, margin)


def _proved(check: Check) -> bool:
    return check.lower is not None and check.lower > check.margin
