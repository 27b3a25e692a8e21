"""Statistics of rows that come in days: the day, not the row, is what repeats.

A thousand flights of one day share one weather. Every standard error here is taken over days (or over rows, where no
day is given: then every row is a cluster of its own).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DAY = 86400.0


@dataclass(frozen=True)
class Interval:
    """An estimate with its limits; the limits are nan where fewer than two days leave them unknown."""

    value: float
    lower: float
    upper: float


def days_of(times: Floats) -> Ints:
    """The UTC day of each time (seconds since the epoch), counted from the epoch."""
    return np.floor(np.asarray(times, np.float64) / DAY).astype(np.int64)


def jackknife(value: float, left_out: Floats, level: float = 0.95) -> Interval:
    """Delete-a-day jackknife: value ± t · se, se² = (D-1)/D Σ (θ(-d) - mean)², t with D-1 degrees of freedom.

    `left_out` holds the estimate without each day in turn. Reference: Efron and Stein (1981), with the t quantile
    because days are few.
    """
    from scipy.stats import t

    count = len(left_out)
    if count < 2 or not np.isfinite(left_out).all():
        return Interval(value, math.nan, math.nan)
    half = float(t.ppf(0.5 + level / 2, count - 1)) * jackknife_error(left_out)
    return Interval(value, value - half, value + half)


def jackknife_error(left_out: Floats) -> float:
    """The jackknife's standard error; `left_out` holds the estimate without each day in turn."""
    count = len(left_out)
    return math.sqrt((count - 1) / count * float(np.square(left_out - left_out.mean()).sum()))


def mean_left_out(sums: Floats, counts: Floats) -> tuple[float, Floats]:
    """The mean over all rows and without each day, from sums and counts by day."""
    total, rows = float(sums.sum()), float(counts.sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / rows if rows else math.nan), (total - sums) / (rows - counts)


def auc_left_out(positive: Sequence[Floats], negative: Sequence[Floats]) -> tuple[float, Floats]:
    """ROC AUC over all rows and without each day, exactly; one array of scores a day and class.

    AUC = Σ U[i, j] / (positives · negatives), where U[i, j] counts how often a positive of day i has a higher score
    than a negative of day j (ties a half). Leaving out a day takes a row and a column out of U.
    """
    wins = np.array([[_wins(up, np.sort(down)) for down in negative] for up in positive])
    ups = np.array([len(one) for one in positive], np.float64)
    downs = np.array([len(one) for one in negative], np.float64)
    pairs = ups.sum() * downs.sum()
    rest = wins.sum() - wins.sum(0) - wins.sum(1) + np.diag(wins)
    with np.errstate(invalid="ignore", divide="ignore"):
        left = rest / ((ups.sum() - ups) * (downs.sum() - downs))
        return (float(wins.sum() / pairs) if pairs else math.nan), left


def _wins(up: Floats, down: Floats) -> float:
    return float((np.searchsorted(down, up, "left") + np.searchsorted(down, up, "right")).sum()) / 2


@dataclass(frozen=True)
class Shift:
    """The difference of a mean between two windows: current - reference, its standard error, degrees of freedom."""

    effect: float
    error: float
    freedom: float

    def beyond(self, margin: float) -> float:
        """One-sided p value of |difference| <= margin; 1 when it is not beyond it, or nothing is known."""
        from scipy.stats import t

        if not self.error > 0 or not math.isfinite(self.effect) or abs(self.effect) <= margin:
            return 1.0
        return float(t.sf((abs(self.effect) - margin) / self.error, self.freedom))


WEEK = 7
"""Days that are taken to hang together: weather lasts, and traffic has a weekly cycle."""


def shift(before: Floats, days_before: Ints | None, after: Floats, days_after: Ints | None) -> Shift:
    """How the mean of a row's value changed from a reference to a current window.

    The variance of a day's mean is taken from the reference's days, with the autocovariances of up to a week of
    calendar days (Bartlett's weights: Newey and West, 1987), never below what independent rows would have, and from
    the current days where these vary more. So one odd day in a week does not pass for a change, and neither does a
    spell of weather of a kind that the reference has seen. Days None: rows are independent.
    """
    if not len(before) or not len(after):
        return Shift(math.nan, math.nan, math.inf)
    effect = float(after.mean() - before.mean())
    # A value that was constant and is another constant has no variance of its own: take that of both together.
    spread = float(before.var()) or float(after.var()) or float(np.concatenate([before, after]).var())
    if days_before is None or days_after is None:
        return Shift(effect, math.sqrt(spread / len(before) + float(after.var()) / len(after)), math.inf)
    lag = min(WEEK, len(np.unique(days_after)))
    one, count = _day_variance(before, days_before, lag)
    one = max(one, spread * count / len(before))
    own, count_own = _day_variance(after, days_after, 1)
    # The rows of a current day may be fewer than of a reference day: what that adds is the rows' own variance.
    fewer = spread * max(0.0, 1 / len(after) - count / (len(before) * count_own))
    theirs, ours = one / count_own + fewer, own / max(count_own - 1, 1)
    freedom = max(1.5 * count / lag - 1, 1.0) if theirs >= ours else max(count_own - 1, 1.0)
    return Shift(effect, math.sqrt(one / count + max(theirs, ours)), freedom)


def _day_variance(values: Floats, days: Ints, lag: int) -> tuple[float, int]:
    """Long-run variance of a day's deviation from the mean over all rows, and the number of days."""
    at = days - days.min()
    rows = np.bincount(at)
    count = int((rows > 0).sum())
    off = (np.bincount(at, weights=values - values.mean())) / (len(values) / count)
    total = float(off @ off)
    for gap in range(1, min(lag, len(off))):
        total += 2 * (1 - gap / lag) * float(off[gap:] @ off[:-gap])
    return max(total, 0.0) / count, count
