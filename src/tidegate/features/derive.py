"""From looked-up values to the model's inputs: cold-start fallbacks, then what is worked out at request time. Pure.

The same two rules run over a data frame here (training, live traffic, parity) and value by value in serving.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from tidegate.workload import Fallback, OnDemand


def fall_back(rows: pl.DataFrame, fallbacks: Sequence[Fallback]) -> pl.DataFrame:
    """Each feature's null becomes the value of the first coarser level that has one; the level columns go."""
    import polars as pl

    coarser = {column for one in fallbacks for _, column in one.levels[1:]}
    found = [pl.coalesce(column for _, column in one.levels).alias(one.feature) for one in fallbacks]
    return rows.with_columns(found).drop(coarser)


def on_demand(rows: pl.DataFrame, derived: Sequence[OnDemand]) -> pl.DataFrame:
    """The rows with the on-demand features as further Float32 columns; a missing value is null."""
    import polars as pl

    columns = []
    for one in derived:
        inputs = [rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in one.inputs]
        columns += [pl.Series(name, values).fill_nan(None) for name, values in one.compute(*inputs).items()]
    return rows.with_columns(columns)
