"""Slices of the gate window: no slice may be proved worse than the champion by more than the margin. Pure.

The 5 % are shared by all slices that are asked about. A slice of `LEAST_SLICE` rows on `LEAST_DAYS` days speaks for
itself. Fourteen days tell a variance badly, so how alike rows of one day are is pooled over its column: with V_v the
variance of a slice's mean by its days (`tidegate.evaluate.days`), R_v by its rows, n_v = sum(n_d^2) / sum(n_d),
rho = max(0, sum(V_v / R_v - 1) / sum(n_v - 1)), and the variance is the larger of V_v and R_v (1 + (n_v - 1) rho)
(Kish's design effect), its limits Student's t with the days of all these slices, less one a slice, as degrees of
freedom. Where rows have no difference of their own (roc_auc), V_v alone.

A smaller slice is shrunk towards the difference over all rows, m0 (empirical Bayes): within its column, with d_v the
slice's own mean difference and v_v = s^2 / n_v its variance (s^2 per row, pooled over the column's slices by day), t^2
= max(0, (sum (d_v - m0)^2 / v_v - K) / sum 1 / v_v) is how much slices truly differ, B = t^2 / (t^2 + v_v) how far the
slice's own rows are believed: m0 + B (d_v - m0), with variance B v_v and normal limits (Morris, JASA 1983), widened by
1 - B times the half width of m0's own limits, the two added as squares. Few rows that look bad by chance are then not a
proof; few that are terrible are one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.evaluate.days import LEAST_DAYS, LEAST_SLICE, Check, Estimate, day_check, held, paired, shared, student

Days = Mapping[str, Sequence[Any]]
Found = Mapping[str, Mapping[str, Days]]


def speaks(days: Days) -> bool:
    """Whether a slice has rows and days enough for limits of its own."""
    return sum(days["rows"]) >= LEAST_SLICE and len(days["rows"]) >= LEAST_DAYS


def slice_checks(found: Found, all_days: Days, margin: float) -> dict[str, Check]:
    """A check ``column=value`` for each slice in ``found[column][value]``; `all_days` holds the sums of all rows."""
    level = shared(sum(len(values) for values in found.values()))
    overall = paired(all_days["sums"], all_days["rows"], level)
    checks: dict[str, Check] = {}
    for column, values in found.items():
        known = shrunk(values, overall, level) | large({v: d for v, d in values.items() if speaks(d)}, level)
        checks |= {f"{column}={value}": held(known[value], margin) for value in values}
    return checks


def large(values: Mapping[str, Any], level: float) -> dict[str, Estimate]:
    """The estimate of each slice of one column that speaks for itself, by its own rows."""
    alone = {value: paired(days["sums"], days["rows"], level) for value, days in values.items()}
    if not all(_by_rows(days) > 0 for days in values.values()):
        return alone
    degrees = sum(len(days["rows"]) - 1 for days in values.values())
    rows_alike = {value: math.fsum(n * n for n in days["rows"]) / sum(days["rows"]) for value, days in values.items()}
    more = math.fsum(_by_days(days) / _by_rows(days) - 1 for days in values.values())
    alike = max(0.0, more / max(math.fsum(n - 1 for n in rows_alike.values()), 1.0))
    found = {}
    for value, days in values.items():
        pooled = _by_rows(days) * (1 + (rows_alike[value] - 1) * alike)
        half = student(degrees, level) * math.sqrt(max(_by_days(days), pooled))
        mean = alone[value].estimate
        found[value] = Estimate(mean, mean - half, mean + half)
    return found


def _by_days(days: Days) -> float:
    """Variance of a slice's mean difference by how its days differ."""
    total, count = sum(days["rows"]), len(days["rows"])
    mean = math.fsum(days["sums"]) / total
    squares = math.fsum((s - n * mean) ** 2 for s, n in zip(days["sums"], days["rows"], strict=True))
    return float(count / (count - 1) * squares / total**2)


def _by_rows(days: Mapping[str, Any]) -> float:
    """The same as if rows were independent; 0 where the sum of squares was not recorded."""
    total = sum(days["rows"])
    mean = math.fsum(days["sums"]) / total
    return float(max(0.0, (days.get("squares", 0.0) - total * mean**2) / (total - 1) / total))


def own_checks(found: Found, margin: float) -> tuple[dict[str, Check], dict[str, str]]:
    """As slices were judged under rules 1: those that speak for themselves, and the others by name with their size."""
    named = {f"{column}={value}": days for column, values in found.items() for value, days in values.items()}
    asked = {name: days for name, days in named.items() if speaks(days)}
    checks = {name: day_check(days, margin, shared(len(asked))) for name, days in asked.items()}
    small = {name: f"{sum(d['rows'])} rows on {len(d['rows'])} days" for name, d in named.items() if name not in asked}
    return checks, small


def shrunk(values: Mapping[str, Days], overall: Estimate, level: float) -> dict[str, Estimate]:
    """The estimate of each slice of one column, shrunk towards `overall`; see the module's docstring."""
    per_row = _variance_per_row(values.values())
    sized = {value: (math.fsum(days["sums"]), sum(days["rows"])) for value, days in values.items() if sum(days["rows"])}
    if per_row is None:
        return dict.fromkeys(values, overall)
    apart = {value: (total / rows - overall.estimate, per_row / rows) for value, (total, rows) in sized.items()}
    truly = _between(list(apart.values()))
    return {value: _posterior(*apart[value], truly, overall, level) if value in apart else overall for value in values}


def _variance_per_row(slices: Any) -> float | None:
    """Variance of a row's difference within slices, by the spread of day sums; None where no slice has two days."""
    sized = [(days, sum(days["rows"])) for days in slices if len(days["rows"]) > 1 and sum(days["rows"])]
    if not sized:
        return None
    return math.fsum(_by_days(days) * total**2 for days, total in sized) / float(sum(total for _, total in sized))


def _between(apart: Sequence[tuple[float, float]]) -> float:
    """t^2: how much the true differences of slices vary, from (difference to all rows, its variance)."""
    if any(variance == 0 for _, variance in apart):
        return math.inf
    if not apart:
        return 0.0
    excess = math.fsum(distance**2 / variance for distance, variance in apart) - len(apart)
    return max(0.0, excess / math.fsum(1 / variance for _, variance in apart))


def _posterior(distance: float, variance: float, truly: float, overall: Estimate, level: float) -> Estimate:
    from scipy.special import ndtri

    believed = 1.0 if math.isinf(truly) else truly / (truly + variance)
    mean = overall.estimate + believed * distance
    own, borrowed = float(ndtri(level)) * math.sqrt(believed * variance), 0.0
    if believed < 1:
        borrowed = (1 - believed) * (overall.upper - overall.estimate)
    half = math.hypot(own, borrowed)
    return Estimate(mean, mean - half, mean + half)
