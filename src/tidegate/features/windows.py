"""How a view's rows are made of events: declared once, computed here in batch and by `streaming` as events come.

`Latest` keeps each key's newest event. `Trailing` sums over a trailing window, as a step function of time: a value
enters the window when it happens and leaves it one window later, so each value makes two steps, and a point-in-time
join gives, at any time T, the sum over the values that happened in (T - window, T]. Exact at every instant, no grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl

from tidegate.features.asof import TIME, AsofView
from tidegate.workload import EVENT_TIME

CREATED = "created"
"""When a row became visible; null in batch, where a row's own time is when it was known."""

OF_ALL = "all_"
"""Prefix of the sums over every key."""


@dataclass(frozen=True)
class Events:
    """What a view takes from one table: the rows that pass `where`, with `values` (name -> expression).

    A row with a null key counts for nothing.
    """

    table: str
    values: Mapping[str, pl.Expr]
    where: pl.Expr | None = None

    def take(self, keys: Sequence[str], rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of the table -> `keys`, ``event_timestamp`` and the values; in the order of the rows."""
        kept = rows if self.where is None else rows.filter(self.where)
        named = [value.alias(name) for name, value in self.values.items()]
        return kept.select(*keys, pl.col(EVENT_TIME).alias(TIME), *named).drop_nulls(list(keys))


@dataclass(frozen=True)
class Latest:
    """A view whose row is its key's newest event; its features are the values, cast to Float32.

    Several events of one instant: the last in the order of the values named by `tie` counts.
    """

    view: AsofView
    events: tuple[Events, ...]
    tie: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trailing:
    """A view made of sums over a trailing window.

    Parameters
    ----------
    events: their values are integers, so that sums do not depend on the order of the additions; null counts as 0.
    features: feature -> expression over the sums, by the values' names; with `of_all`, ``all_<value>`` are the sums
        over every key as of the same instant.
    """

    view: AsofView
    events: Events
    window: timedelta
    features: Mapping[str, pl.Expr] = field(default_factory=dict)
    of_all: bool = False


Definition = Latest | Trailing


def events_of(definition: Definition) -> tuple[Events, ...]:
    """The events that a view is made of."""
    return definition.events if isinstance(definition, Latest) else (definition.events,)


def build(definition: Definition, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The view's table of all events: keys, ``event_timestamp``, features (Float32), ``created`` (null).

    Sorted by time, then by key; one row a key and instant.
    """
    if isinstance(definition, Latest):
        taken = [one.take(definition.view.keys, tables[one.table]) for one in definition.events]
        rows = newest(definition, pl.concat(taken, how="vertical_relaxed"))
    else:
        rows = featured(
            definition, sums(definition, definition.events.take(definition.view.keys, tables[definition.events.table]))
        )
    return rows.with_columns(pl.lit(None, pl.Datetime("us", "UTC")).alias(CREATED))


def newest(definition: Latest, taken: pl.DataFrame) -> pl.DataFrame:
    """Of the events of one key and instant the one that counts, as rows of the view."""
    return shown(definition, counting(definition, taken))


def counting(definition: Latest, taken: pl.DataFrame) -> pl.DataFrame:
    """Of the events of one key and instant the one that counts, with every column; by time, then by key."""
    keys = definition.view.keys
    ordered = taken.sort(TIME, *keys, *definition.tie, maintain_order=True)
    return ordered.unique([*keys, TIME], keep="last", maintain_order=True)


def shown(definition: Latest, counted: pl.DataFrame) -> pl.DataFrame:
    """Events that count -> rows of the view."""
    return counted.select(*definition.view.keys, TIME, pl.col(definition.view.features).cast(pl.Float32))


def sums(definition: Trailing, taken: pl.DataFrame) -> pl.DataFrame:
    """Every instant at which a key's sums change, with the sums from then on; those over every key where asked."""
    keys, values = definition.view.keys, tuple(definition.events.values)
    own = trailing_sums(taken, keys, values, definition.window)
    if not definition.of_all:
        return own
    every = trailing_sums(taken, (), values, definition.window)
    return own.join_asof(every.rename({value: OF_ALL + value for value in values}), on=TIME)


def featured(definition: Trailing, summed: pl.DataFrame) -> pl.DataFrame:
    """Sums -> rows of the view."""
    features = [value.cast(pl.Float32).alias(name) for name, value in definition.features.items()]
    return summed.select(*definition.view.keys, TIME, *features)


def trailing_sums(taken: pl.DataFrame, keys: Sequence[str], values: Sequence[str], window: timedelta) -> pl.DataFrame:
    """Trailing sums by `keys`; with none, over all rows.

    The answer has one row a key and instant at which a sum changes: `keys`, ``event_timestamp``, the sums (Int64)
    under the values' own names; sorted by time, then by key.
    """
    summed = steps(taken, keys, values, window).group_by(*keys, TIME).agg(pl.col(values).sum()).sort(TIME, *keys)
    running = pl.col(values).cum_sum()
    return summed.with_columns(running.over(keys) if keys else running)


def steps(taken: pl.DataFrame, keys: Sequence[str], values: Sequence[str], window: timedelta) -> pl.DataFrame:
    """Each event twice: it enters with its values and leaves one window later with their negatives."""
    enter = taken.select(*keys, TIME, *(pl.col(value).cast(pl.Int64).fill_null(0) for value in values))
    leave = enter.with_columns(pl.col(TIME) + window, *(-pl.col(value) for value in values))
    return pl.concat([enter, leave])
