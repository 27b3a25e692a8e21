"""Paired differences with days as clusters: rows of one day are alike, so days are what is counted.

The mean difference over rows is the ratio of the days' sums, its variance that of a ratio estimator over D clusters:
with s_d a day's summed difference, n_d its rows, N their sum and m = sum(s) / N,
se^2 = D / (D - 1) * sum((s_d - n_d m)^2) / N^2; limits are
Student's t with D - 1 degrees of freedom (Cochran, Sampling Techniques, 3rd ed., section 6.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean difference with its one-sided limits at the level that was asked for; an unknown limit is infinite."""

    estimate: float
    lower: float
    upper: float


def paired(sums: Sequence[float], rows: Sequence[int], level: float) -> Estimate:
    """Mean difference from each day's summed difference and row count; limits at one-sided `level` (0.95).

    Fewer than two days have no variance: the limits are then infinite.
    """
    total, days = sum(rows), len(rows)
    if not total:
        return Estimate(0.0, -math.inf, math.inf)
    mean = math.fsum(sums) / total
    if days < 2:
        return Estimate(mean, -math.inf, math.inf)
    spread = math.fsum((s - n * mean) ** 2 for s, n in zip(sums, rows, strict=True))
    half = _t(days - 1, level) * math.sqrt(days / (days - 1) * spread) / total
    return Estimate(mean, mean - half, mean + half)


def _t(degrees: int, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, level))
