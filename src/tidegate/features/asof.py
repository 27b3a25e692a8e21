"""The point-in-time join: for every entity row the newest feature values that were known at its time.

Rules, the same as Feast documents: a value counts when its timestamp is at or before the entity row's, and not older
than the view's time to live (both limits inclusive). Of values with one timestamp the one created last counts. A null
key matches nothing. No entity row is dropped or repeated, and the rows come back in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl

TIME = "event_timestamp"
_ROW, _AT, _KEY = "__asof_row", "__asof_at", "__asof_key_"


@dataclass(frozen=True)
class AsofView:
    """How one feature view is joined.

    Parameters
    ----------
    name: of the view.
    keys: join key columns of the view's table.
    features: columns that the join brings.
    ttl: a value older than this is null; None: never too old.
    timestamp: the view's event time column; created: breaks ties of it, the newest wins.
    entity_keys: entity column by key where the names differ.
    rename: output name by feature where the names differ.
    """

    name: str
    keys: tuple[str, ...]
    features: tuple[str, ...]
    ttl: timedelta | None = None
    timestamp: str = TIME
    created: str | None = None
    entity_keys: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)


def utc(column: str) -> pl.Expr:
    """A datetime column as UTC microseconds; a naive one is taken for UTC."""
    return pl.col(column).cast(pl.Datetime("us", "UTC"))


def newest_last(view: AsofView, table: pl.DataFrame, drop_null_keys: bool = True) -> pl.DataFrame:
    """Rows with a timestamp, sorted so that of several candidates the one that counts stands last."""
    order = [view.timestamp] + ([view.created] if view.created else [])
    needed = [view.timestamp, *(view.keys if drop_null_keys else ())]
    named = table.select(*view.keys, *order, *view.features).drop_nulls(needed)
    # Already sorted tables are the usual case, and sorting again costs more than the join.
    if not view.created and named[view.timestamp].is_sorted():
        return named.with_columns(utc(view.timestamp))
    return named.sort(order, nulls_last=False, maintain_order=True).with_columns(utc(view.timestamp))


def join_view(entities: pl.DataFrame, view: AsofView, table: pl.DataFrame, time: str = TIME) -> pl.DataFrame:
    """Join one view to entity rows that are sorted by `time` (UTC microseconds)."""
    right = newest_last(view, table).select(
        *(pl.col(key).alias(f"{_KEY}{key}") for key in view.keys),
        pl.col(view.timestamp).alias(_AT),
        *(pl.col(feature).alias(view.rename.get(feature, feature)) for feature in view.features),
    )
    joined = entities.join_asof(
        right,
        left_on=time,
        right_on=_AT,
        by_left=[view.entity_keys.get(key, key) for key in view.keys] or None,
        by_right=[f"{_KEY}{key}" for key in view.keys] or None,
        strategy="backward",
        tolerance=view.ttl,
        check_sortedness=False,
    )
    return joined.drop(_AT, *(f"{_KEY}{key}" for key in view.keys), strict=False)


def join(entities: pl.DataFrame, views: Iterable[tuple[AsofView, pl.DataFrame]], time: str = TIME) -> pl.DataFrame:
    """Join every view to every entity row.

    `entities`: N rows with `time` and the views' keys; the answer has the same N rows in the same order, the entity
    columns first (`time` as UTC microseconds), then each view's features in the order of the views.
    """
    rows = entities.with_columns(utc(time)).with_row_index(_ROW)
    ordered = rows if rows[time].is_sorted() else rows.sort(time, maintain_order=True)
    for view, table in views:
        ordered = join_view(ordered, view, table, time)
    return ordered.sort(_ROW).drop(_ROW)


def pick(definitions: Sequence[AsofView], tables: Mapping[str, pl.DataFrame]) -> list[tuple[AsofView, pl.DataFrame]]:
    """Each definition with its table, by name."""
    return [(view, tables[view.name]) for view in definitions]
