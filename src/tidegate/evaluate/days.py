"""Paired differences with days as clusters: rows of one day are alike, so days are what is counted.

The mean difference over rows is the ratio of the days' sums, its variance that of a ratio estimator over D clusters:
with s_d a day's summed difference, n_d its rows, N their sum and m = sum(s) / N,
se^2 = D / (D - 1) * sum((s_d - n_d m)^2) / N^2; limits are
Student's t with D - 1 degrees of freedom (Cochran, Sampling Techniques, 3rd ed., section 6.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEVEL = 0.95
LEAST_SLICE, LEAST_DAYS = 200, 5
"""Rows and days under which a group of rows has no limits of its own."""


@dataclass(frozen=True)
class Estimate:
    """A mean difference with its one-sided limits at the level that was asked for; an unknown limit is infinite."""

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Check:
    """One comparison: `margin` is what the limit is held against; a limit that is not known is None."""

    estimate: float | None
    lower: float | None
    upper: float | None
    margin: float


def paired(sums: Sequence[float], rows: Sequence[int], level: float) -> Estimate:
    """Mean difference from each day's summed difference and row count; limits at one-sided `level` (0.95).

    Fewer than two days have no variance: the limits are then infinite.
    """
    total, days = sum(rows), len(rows)
    if not total:
        return Estimate(0.0, -math.inf, math.inf)
    mean = math.fsum(sums) / total
    spread = math.fsum((s - n * mean) ** 2 for s, n in zip(sums, rows, strict=True))
    return _limits(mean, spread, total, days, level)


def moments(sums: Sequence[float], rows: Sequence[int]) -> dict[str, float]:
    """What `paired_moments` needs of many days: their number, sums and products, instead of a number for each."""
    pairs = list(zip(sums, rows, strict=True))
    return {
        "days": len(pairs),
        "rows": sum(rows),
        "sum": math.fsum(sums),
        "sum_squares": math.fsum(s * s for s in sums),
        "sum_rows": math.fsum(s * n for s, n in pairs),
        "rows_squares": sum(n * n for n in rows),
    }


def paired_moments(found: Mapping[str, Any], level: float) -> Estimate:
    """`paired` from the `moments` of the days."""
    total, days = found["rows"], int(found["days"])
    if not total:
        return Estimate(0.0, -math.inf, math.inf)
    mean = found["sum"] / total
    spread = found["sum_squares"] - 2 * mean * found["sum_rows"] + mean * mean * found["rows_squares"]
    return _limits(mean, max(spread, 0.0), total, days, level)


def held(found: Estimate, margin: float) -> Check:
    """The estimate as a check against `margin`."""
    return Check(found.estimate, _finite(found.lower), _finite(found.upper), margin)


def day_check(days: Mapping[str, Sequence[Any]], margin: float, level: float) -> Check:
    """`paired` of ``{"rows": [n], "sums": [summed difference]}``, one entry a day, as a check."""
    return held(paired(days["sums"], days["rows"], level), margin)


def shared(checks: int) -> float:
    """The level of each of `checks` that share the 5 % (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(checks, 1)


def _limits(mean: float, spread: float, total: float, days: int, level: float) -> Estimate:
    if days < 2:
        return Estimate(mean, -math.inf, math.inf)
    half = student(days - 1, level) * math.sqrt(days / (days - 1) * spread) / total
    return Estimate(mean, mean - half, mean + half)


def student(degrees: int, level: float) -> float:
    """Quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, level))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
