"""The point-in-time join: for every entity row the newest feature values that were known at its time.

Rules, the same as Feast documents: a value counts when its timestamp is at or before the entity row's, and not older
than the view's time to live (both limits inclusive). Of values with one timestamp the one created last counts. A null
key matches nothing. No entity row is dropped or repeated, and the rows come back in the order in which they came.
With `known` a value counts only where it had been created by then, so that a backfill does not leak into the past.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import polars as pl

from tidegate.errors import UserError
from tidegate.features.bitemporal import NEVER, Ints, last_at_most

TIME = "event_timestamp"
AT, KEY, _ROW = "__asof_at", "__asof_key_", "__asof_row"
INSTANT = pl.Datetime("us", "UTC")


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

    @property
    def columns(self) -> list[str]:
        """What the join reads of the view's table."""
        return list(dict.fromkeys([*self.keys, self.timestamp, *self._made, *self.features]))

    @property
    def order(self) -> list[str]:
        """The columns by which of several candidates the last one counts."""
        return [self.timestamp, *self._made]

    @property
    def outputs(self) -> list[str]:
        """The names under which the features come back."""
        return [self.rename.get(feature, feature) for feature in self.features]

    @property
    def _made(self) -> list[str]:
        return [self.created] if self.created else []


def utc(column: str) -> pl.Expr:
    """A datetime column as UTC microseconds; a naive one is taken for UTC."""
    return pl.col(column).cast(INSTANT)


def newest_last(view: AsofView, table: pl.DataFrame, drop_null_keys: bool = True) -> pl.DataFrame:
    """Rows with a timestamp, sorted so that of several candidates the one that counts stands last."""
    named = table.select(view.columns)
    needed = [view.timestamp, *(view.keys if drop_null_keys else ())]
    # Most tables have no nulls and are sorted, and doing either again costs more than looking.
    if any(named[column].null_count() for column in needed):
        named = named.drop_nulls(needed)
    if not _is_sorted(named, view):
        named = named.sort(view.order, nulls_last=False, maintain_order=True)
    return named.with_columns(utc(view.timestamp))


def join(
    entities: pl.DataFrame,
    views: Iterable[tuple[AsofView, pl.DataFrame]],
    time: str = TIME,
    known: str | None = None,
) -> pl.DataFrame:
    """Join every view to every entity row.

    `entities`: N rows with `time` and the views' keys; `known`: the entity column (UTC microseconds) after which
    nothing may have been created, where null sets no limit. The answer has the same N rows in the same order, the
    entity columns first (`time` as UTC microseconds), then each view's features in the order of the views. UserError
    when a key is of another kind than the view's, or when two columns of the answer have one name.
    """
    rows, pairs = entities.with_columns(utc(time)), list(views)
    check_names(rows.columns, [view for view, _ in pairs])
    found = [lookup(rows, view, table, time, known) for view, table in pairs]
    return pl.concat([rows, *found], how="horizontal") if found else rows


def check_names(columns: Sequence[str], views: Sequence[AsofView]) -> None:
    """UserError when a feature would come back under the name of another column."""
    taken = set(columns)
    for view in views:
        for name in view.outputs:
            if name in taken:
                raise UserError(
                    f"view {view.name}", name, "features named as no other column; rename or use full names"
                )
            taken.add(name)


def lookup(
    rows: pl.DataFrame, view: AsofView, table: pl.DataFrame, time: str = TIME, known: str | None = None
) -> pl.DataFrame:
    """One view's features for entity rows (`time` as UTC microseconds): as many rows, in the same order."""
    asked = left_side(rows, view, table.schema, time)
    order = None if asked[AT].is_sorted() else asked[AT].arg_sort()
    if order is not None:
        asked = asked[order]
    right = newest_last(view, table)
    if known is None or view.created is None:
        found = _newest(asked, view, right, view.features)
    else:
        limit = rows[known] if order is None else rows[known].gather(order)
        number = _newest_known(asked, view, right, limit)
        found = right.select(pl.col(feature).gather(number) for feature in view.features)
    return named(found if order is None else found[order.arg_sort()], view)


def named(found: pl.DataFrame, view: AsofView) -> pl.DataFrame:
    """The view's features under the names that the answer gives them."""
    return found.select(pl.col(feature).alias(view.rename.get(feature, feature)) for feature in view.features)


def left_side(rows: pl.DataFrame, view: AsofView, schema: Mapping[str, pl.DataType], time: str) -> pl.DataFrame:
    """What a view needs of the entity rows: the time and each key in the type of the view's table."""
    keys = []
    for key in view.keys:
        column = view.entity_keys.get(key, key)
        if column not in rows.columns:
            raise UserError(f"entity rows, view {view.name}", f"no column {column}", f"its join key {key}")
        keys.append(_alike(rows, column, schema[key]).alias(KEY + key))
    return rows.select(pl.col(time).alias(AT), *keys)


def pick(definitions: Sequence[AsofView], tables: Mapping[str, pl.DataFrame]) -> list[tuple[AsofView, pl.DataFrame]]:
    """Each definition with its table, by name."""
    return [(view, tables[view.name]) for view in definitions]


def _is_sorted(table: pl.DataFrame, view: AsofView) -> bool:
    """Whether the rows stand in the order of `view.order`, nulls first."""
    if not table[view.timestamp].is_sorted():
        return False
    at = table[view.timestamp].to_physical().to_numpy()
    ties = np.flatnonzero(at[1:] == at[:-1]) if view.created else np.empty(0)
    if not view.created or not len(ties):
        return True
    made = _micros(table[view.created], -NEVER)
    return bool((made[ties] <= made[ties + 1]).all())


def _newest(asked: pl.DataFrame, view: AsofView, right: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """`columns` of the newest row of `right` for each row that is asked, both sorted by time."""
    keys = [KEY + key for key in view.keys]
    table = right.select(
        pl.col(view.timestamp).alias(AT),
        *(pl.col(key).alias(KEY + key) for key in view.keys),
        *columns,
    )
    joined = asked.join_asof(table, on=AT, by=keys or None, tolerance=view.ttl, check_sortedness=False)
    return joined.select(columns)


def _newest_known(asked: pl.DataFrame, view: AsofView, right: pl.DataFrame, limit: pl.Series) -> pl.Series:
    """The number of the row of `right` that counts for each row that is asked and was created by `limit`; else null."""
    winner = _newest(asked, view, right.with_row_index(_ROW), [_ROW])[_ROW].cast(pl.Int64)
    made = _micros(right[str(view.created)], -NEVER)
    until = _micros(limit, NEVER)
    row = winner.fill_null(-1).to_numpy().copy()
    late = np.flatnonzero(row >= 0)
    late = late[made[row[late]] > until[late]] if len(late) else late
    if len(late):
        row[late] = _earlier(view, right, made, row[late], until[late], asked[AT].gather(late))
    return pl.Series(_ROW, row).set(pl.Series(row < 0), None)


def _earlier(view: AsofView, right: pl.DataFrame, made: Ints, row: Ints, until: Ints, at: pl.Series) -> Ints:
    """For winners that were created too late: the last row of the same key before them that was not; -1 for none."""
    order, first = _by_key(view, right)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    start = place[row]
    found = last_at_most(made[order], start, until)
    inside = found >= first[start]
    answer = np.where(inside, order[np.where(inside, found, 0)], -1)
    if view.ttl is None:
        return answer
    oldest = _micros(at.dt.offset_by(f"-{view.ttl // timedelta(microseconds=1)}us"), -NEVER)
    return np.where(_micros(right[view.timestamp], -NEVER)[answer] >= oldest, answer, -1)


def _by_key(view: AsofView, right: pl.DataFrame) -> tuple[Ints, Ints]:
    """Row numbers with those of one key together, in their order, and for each place the first of its key."""
    if not view.keys:
        return np.arange(right.height), np.zeros(right.height, dtype=np.int64)
    groups = right.lazy().select(view.keys).with_row_index(_ROW).group_by(view.keys).agg(pl.col(_ROW)).collect()[_ROW]
    sizes = groups.list.len().to_numpy().astype(np.int64)
    order = groups.explode().to_numpy().astype(np.int64)
    return order, np.repeat(np.cumsum(sizes) - sizes, sizes)


def _micros(times: pl.Series, null: int) -> Ints:
    return times.cast(INSTANT).cast(pl.Int64).fill_null(null).to_numpy().astype(np.int64)


def _alike(rows: pl.DataFrame, column: str, wanted: pl.DataType) -> pl.Expr:
    """An entity column as the type of the view's key, for equal values only; UserError when it is another kind."""
    got, value = rows.schema[column], pl.col(column)
    if got == wanted:
        return value
    if got == pl.Null:
        return value.cast(wanted)
    if got.is_numeric() and wanted.is_numeric():
        cast = value.cast(wanted, strict=False)
        # pandas makes 1.0 of 1 beside a null; 1.5 is no key of whole numbers.
        return pl.when(cast.cast(got, strict=False) == value).then(cast)
    if _is_text(got) and _is_text(wanted):
        return value.cast(pl.String).cast(wanted, strict=False)
    raise UserError(f"entity rows, column {column}", str(got), f"{wanted}, the type of the view's key")


def _is_text(kind: pl.DataType) -> bool:
    return kind in (pl.String, pl.Categorical, pl.Enum)
