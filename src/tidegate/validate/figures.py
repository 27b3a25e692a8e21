"""What the profile page draws: distributions, missing values by time, correlations. Pure.

Every figure is made of the rows themselves and, beside them, of the rows that they are held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from tidegate.validate.contract import Column
from tidegate.validate.profile import finite
from tidegate.workload import EVENT_TIME

if TYPE_CHECKING:
    import polars as pl

BINS = 24
TAIL = 0.002
"""Share of the values on each side that the bins leave to the two end bars: one wild value flattens no picture."""
SPANS = ("1h", "6h", "1d", "1w", "1mo", "1q", "1y")
BUCKETS = 32


@dataclass(frozen=True)
class Histogram:
    """Counts of `BINS` equal bins from `low` to `high`, of what is outside, and of what the contract does not allow."""

    low: float
    high: float
    counts: tuple[int, ...]
    below: int
    above: int
    bad_below: int
    bad_above: int

    @property
    def rows(self) -> int:
        """Everything counted."""
        return sum(self.counts) + self.below + self.above


def as_numbers(values: pl.Series) -> pl.Series:
    """Finite numbers; of times, the seconds since 1970."""
    import polars as pl

    if isinstance(values.dtype, pl.Datetime):
        return values.drop_nulls().dt.epoch("us").cast(pl.Float64) / 1e6
    return finite(values)


def span_of(both: Sequence[pl.Series], column: Column) -> tuple[float, float] | None:
    """From where to where the bins go: all but the tails, inside the contract's range; None without a value."""
    import polars as pl

    values = pl.concat([as_numbers(one) for one in both])
    low, high = values.quantile(TAIL, "nearest"), values.quantile(1 - TAIL, "nearest")
    if low is None or high is None:
        return None
    least, most = limits_of(column)
    low, high = max(low, least), min(high, most)
    if low < high:
        return low, high
    around = max(0.5, abs(low) * 1e-6)  # of one value, so much that the sum is another number
    return min(low, high) - around, min(low, high) + around


def limits_of(column: Column) -> tuple[float, float]:
    """The contract's range as numbers; without bound where there is none."""
    low, high = (
        None if v is None else v if isinstance(v, int | float) else v.timestamp() for v in (column.low, column.high)
    )
    return (float("-inf") if low is None else low), (float("inf") if high is None else high)


def histogram(values: pl.Series, column: Column, span: tuple[float, float]) -> Histogram:
    """The values in the bins of `span`."""
    import polars as pl

    numbers, (low, high), (least, most) = as_numbers(values), span, limits_of(column)
    inside = numbers.filter((numbers >= low) & (numbers <= high))
    bins = ((inside - low) / (high - low) * BINS).floor().fill_nan(0).clip(0, BINS - 1).cast(pl.Int32)
    counted = dict(bins.alias("bin").value_counts().rows())
    counts = tuple(counted.get(i, 0) for i in range(BINS))
    outside = (numbers < low, numbers > high, numbers < least, numbers > most)
    return Histogram(low, high, counts, *(int(one.sum()) for one in outside))


def missing_by_time(rows: pl.DataFrame, names: Sequence[str]) -> tuple[list[str], dict[str, list[float]]]:
    """Labels of the spans of event time, and by column the share of nulls in each.

    The span is the shortest that gives at most `BUCKETS`; rows far outside (a wrong clock) are left out.
    """
    import polars as pl

    time = pl.col(EVENT_TIME)
    inner = rows.filter(time.is_between(time.quantile(0.005, "nearest"), time.quantile(0.995, "nearest")))
    for span in SPANS:
        starts = inner.select(time.dt.truncate(span).alias("__from"), *names)
        if starts["__from"].n_unique() <= BUCKETS:
            break
    shares = starts.group_by("__from").agg(pl.col(names).is_null().mean()).sort("__from")
    form = {"h": "%m-%d %H:00", "d": "%m-%d", "w": "%m-%d"}.get(span[-1], "%Y" if span == "1y" else "%Y-%m")
    return shares["__from"].dt.strftime(form).to_list(), {name: shares[name].to_list() for name in names}


def correlations(rows: pl.DataFrame, names: Sequence[str]) -> dict[tuple[str, str], float]:
    """Rank correlation (Spearman's) of each pair of numeric columns, over the rows that have both; constants have none.

    Ranks are taken over each column's own values, so a pair with nulls is a close approximation.
    """
    import polars as pl

    ranks = rows.select(
        pl.when(pl.col(n).cast(pl.Float64).is_finite()).then(pl.col(n)).rank().cast(pl.Float64).alias(n) for n in names
    )
    pairs = list(combinations(names, 2))
    if not pairs:
        return {}
    found = ranks.select(pl.corr(a, b).alias(str(i)) for i, (a, b) in enumerate(pairs)).row(0)
    return {pair: value for pair, value in zip(pairs, found, strict=True) if value is not None and value == value}
