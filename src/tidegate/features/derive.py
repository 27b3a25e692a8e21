"""From looked-up values to the model's inputs: cold-start fallbacks, then what is worked out at request time. Pure.

The same two rules run over a data frame here (training, live traffic, parity) and value by value in serving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from tidegate.workload import Fallback, OnDemand


def fall_back(rows: pl.DataFrame, fallbacks: Sequence[Fallback]) -> pl.DataFrame:
    """Each feature's null becomes the value of the first coarser level that has one; the level columns go."""
    import polars as pl

    coarser = {column for one in fallbacks for _, column in one.levels[1:]}
    found = [pl.coalesce(column for _, column in one.levels).alias(one.feature) for one in fallbacks]
    return rows.with_columns(found).drop(coarser)


def fall_back_row(row: dict[str, Any], fallbacks: Sequence[Fallback]) -> str | None:
    """The same on one row, in place; returns the coarsest level that stood in, None where every key had its own.

    The coarser columns stay: they are no model features.
    """
    found = [_first(row, one) for one in fallbacks]
    row.update({one.feature: value for one, (_, value) in zip(fallbacks, found, strict=True)})
    depth, place = max(((depth, -place) for place, (depth, _) in enumerate(found)), default=(0, 0))
    return fallbacks[-place].levels[depth][0] if depth else None


def _first(row: Mapping[str, Any], one: Fallback) -> tuple[int, Any]:
    """(depth, value) of the first level that has a value; the feature itself, null, where none has."""
    for depth, (_, column) in enumerate(one.levels):
        if row[column] is not None:
            return depth, row[column]
    return 0, None


def on_demand(rows: pl.DataFrame, derived: Sequence[OnDemand]) -> pl.DataFrame:
    """The rows with the on-demand features as further Float32 columns; a missing value is null."""
    import polars as pl

    columns = []
    for one in derived:
        inputs = [rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in one.inputs]
        columns += [pl.Series(name, values).fill_nan(None) for name, values in one.compute(*inputs).items()]
    return rows.with_columns(columns)
