"""Statistics of rows that come in days: the day, not the row, is what repeats.

A thousand flights of one day share one weather. Every standard error here is taken over days (or over rows, where no
day is given: then every row is a cluster of its own).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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


def own_shift(values: Floats, day: Ints | None) -> Shift:
    """A mean of one window alone (of values from 0 to 1), with the variance of its own days (or rows)."""
    share = float(values.mean())
    least = max(float(values.var()), 1 / len(values)) / len(values)
    if day is None:
        return Shift(share, math.sqrt(least), math.inf)
    at = np.unique(day, return_inverse=True)[1]
    off = np.bincount(at, weights=values - share) / (len(values) / (at.max() + 1))
    count = len(off)
    variance = float(off @ off) / count / max(count - 1, 1)
    return Shift(share, math.sqrt(max(variance, least)), max(count - 1, 1))


WEEK = 7
"""Days that are taken to hang together: weather lasts, and traffic has a weekly cycle."""


def shift(before: Floats, days_before: Ints | None, after: Floats, days_after: Ints | None) -> Shift:
    """How the mean of a row's value changed from a reference to a current window.

    The variance of a day's mean is taken from the reference's days, with the autocovariances of up to a week of
    calendar days between days of the window (Bartlett's weights: Newey and West, 1987), never below what independent
    rows would have, and from the current days where these vary more. So one odd day in a week does not pass for a
    change, and neither does a spell of weather of a kind that the reference has seen. Days None: rows are independent;
    their variance too is the reference's, or their own where it is more: of a few rows that happen to have one label it
    is hardly any.
    """
    if not len(before) or not len(after):
        return Shift(math.nan, math.nan, math.inf)
    effect = float(after.mean() - before.mean())
    # A value that was constant and is another constant has no variance of its own: take that of both together.
    spread = float(before.var()) or float(after.var()) or float(np.concatenate([before, after]).var())
    if days_before is None or days_after is None:
        return Shift(effect, math.sqrt(spread / len(before) + max(spread, float(after.var())) / len(after)), math.inf)
    off, present = _by_day(before, days_before)
    own, own_present = _by_day(after, days_after)
    count, count_own = int(present.sum()), int(own_present.sum())
    # The rows of a current day may be fewer than of a reference day: what that adds is the rows' own variance.
    fewer = spread * max(0.0, 1 / len(after) - count / (len(before) * count_own))
    floor = spread * count / len(before)
    one = max(_mean_variance(off, present, present), floor) / count
    theirs = max(_mean_variance(off, present, own_present), floor) / count_own + fewer
    ours = _mean_variance(own, own_present, np.ones(1, bool)) / max(count_own - 1, 1)
    hang = 1 + 2 * sum(weight * pairs for _, weight, pairs in _gaps(own_present))
    freedom = min(1.5 * count / hang, count) - 1 if theirs >= ours else count_own - 1
    return Shift(effect, math.sqrt(one + max(theirs, ours)), max(freedom, 1.0))


def _by_day(values: Floats, days: Ints) -> tuple[Floats, NDArray[np.bool_]]:
    """Each calendar day's deviation from the mean over all rows, in rows of a mean day, and whether it has rows."""
    at = days - days.min()
    present = np.bincount(at) > 0
    off = np.bincount(at, weights=values - values.mean()) / (len(values) / int(present.sum()))
    return off, present


def _gaps(present: NDArray[np.bool_]) -> Iterator[tuple[int, float, float]]:
    """Gaps under a week: how many days apart, Bartlett's weight, pairs of days that far apart for each day."""
    count = int(present.sum())
    lag = min(WEEK, count)
    for gap in range(1, min(lag, len(present))):
        yield gap, 1 - gap / lag, int((present[gap:] & present[:-gap]).sum()) / count


def _mean_variance(off: Floats, present: NDArray[np.bool_], asked: NDArray[np.bool_]) -> float:
    """Long-run variance of a day's deviation, for days that lie to each other as the asked ones do."""
    count = int(present.sum())
    total = float(off @ off) / count
    for gap, weight, pairs in _gaps(asked):
        if gap < len(off):
            known = max(int((present[gap:] & present[:-gap]).sum()), count / 2)
            total += 2 * weight * pairs * float(off[gap:] @ off[:-gap]) / known
    return max(total, 0.0)
