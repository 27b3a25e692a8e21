"""Sums over a trailing window, as a step function of time: exact at every instant, no grid.

A value enters the window when it happens and leaves it one window later, so each value makes two steps. A
point-in-time join with the result gives, at any time T, the sum over the values that happened in (T - window, T].
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from tidegate.features.asof import TIME


def trailing_sums(table: pl.DataFrame, key: str, time: str, values: Sequence[str], window: timedelta) -> pl.DataFrame:
    """Trailing sums by `key`.

    `values` are integer columns, so that sums do not depend on the order of the additions; nulls count as 0. The
    answer has one row a key and instant at which a sum changes: `key`, ``event_timestamp``, the sums (Int64) under
    the values' own names; sorted by time, then by key.
    """
    enter = table.select(
        key, pl.col(time).alias(TIME), *(pl.col(value).cast(pl.Int64).fill_null(0) for value in values)
    )
    leave = enter.with_columns(pl.col(TIME) + window, *(-pl.col(value) for value in values))
    return (
        pl.concat([enter, leave])
        .group_by(key, TIME)
        .agg(pl.col(values).sum())
        .sort(TIME, key)
        .with_columns(pl.col(values).cum_sum().over(key))
    )
