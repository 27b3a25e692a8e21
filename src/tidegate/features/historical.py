"""Features of opened views at entity rows, or over a range of time: in memory by polars, else by DuckDB. Does I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias

import polars as pl

from tidegate.errors import UserError
from tidegate.features.asof import INSTANT, TIME, AsofView, lookup
from tidegate.features.memory import available_bytes, decoded_bytes
from tidegate.features.opened import OpenedView, between
from tidegate.features.parquet_source import collect, rows_in
from tidegate.features.spill import lookup_spilling

Opening: TypeAlias = Callable[[], Sequence[OpenedView]]
IN_MEMORY = 0.25
"""A view whose needed columns take more than this share of the memory is joined by DuckDB, which spills to disk."""


def features_at(
    rows: pl.DataFrame, open_views: Opening, time: str, only_known: bool, memory_bytes: int | None
) -> pl.DataFrame:
    """The entity rows with each view's features beside them."""
    opened = open_views()
    known = time if only_known else None
    memory = memory_bytes or available_bytes()
    large = [decoded_bytes(rows_in(one.source), one.schema) > memory * IN_MEMORY for one in opened]
    small = [one for one, too_large in zip(opened, large, strict=True) if not too_large]
    tables = iter(collect([one.in_reach(rows[time]) for one in small], ", ".join(one.source.url for one in small)))
    found = [
        lookup_spilling(rows, one, memory, time, known)
        if too_large
        else lookup(rows, one.view, next(tables), time, known)
        for one, too_large in zip(opened, large, strict=True)
    ]
    return pl.concat([rows, *found], how="horizontal")


def same_keys(views: Sequence[AsofView]) -> list[str]:
    """The entity columns of views that are asked about without entity rows; UserError when they differ."""
    found = {tuple(view.entity_keys.get(key, key) for key in view.keys) for view in views}
    if len(found) > 1:
        raise UserError("entity_df", "None with views of different keys", "entity rows, or views of the same keys")
    return list(found.pop())


def features_of_range(
    open_views: Opening, keys: Sequence[str], low: datetime, high: datetime, only_known: bool
) -> pl.DataFrame:
    """The keys that have rows in the range, at its end, with their newest values in it."""
    opened = open_views()
    tables = [
        collect([one.between(low, high)], one.source.url)[0].filter(between(one.view.timestamp, low, high))
        for one in opened
    ]
    if keys:
        # Keys that differ by view in their column's name are one column of the entity rows.
        found = [
            table.select(pl.col(key).alias(column) for key, column in zip(one.view.keys, keys, strict=True))
            for one, table in zip(opened, tables, strict=True)
        ]
        rows = pl.concat(found, how="vertical_relaxed").drop_nulls().unique(maintain_order=True)
    else:
        rows = pl.DataFrame({TIME: [high]})
    rows = rows.with_columns(pl.lit(high).cast(INSTANT).alias(TIME))
    known = TIME if only_known else None
    looked_up = [lookup(rows, one.view, table, TIME, known) for one, table in zip(opened, tables, strict=True)]
    return pl.concat([rows, *looked_up], how="horizontal")
