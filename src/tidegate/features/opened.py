"""A feature view with its source opened: which rows and columns of the files the join can need. Does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias, overload

import polars as pl

from tidegate.errors import UserError
from tidegate.features.asof import AsofView, utc
from tidegate.features.parquet_source import ParquetSource, scan, schema_of, within

Span: TypeAlias = tuple[datetime | None, datetime | None]


@dataclass(frozen=True)
class OpenedView:
    """A view whose files have been found and whose rows have not been read.

    `frame` and `schema`: the view's columns under Feast's names; `in_file`: the files' names of the renamed ones.
    """

    view: AsofView
    source: ParquetSource
    frame: pl.LazyFrame
    schema: pl.Schema
    in_file: Mapping[str, str]

    def reach(self, times: pl.Series) -> tuple[datetime | None, datetime] | None:
        """The oldest (None: no limit) and the newest time of rows that count at `times`; None: there are none."""
        low, high = time_range(times)
        if low is None or high is None:
            return None
        try:
            return (None if self.view.ttl is None else low - self.view.ttl), high
        except OverflowError:  # a time to live of thousands of years
            return None, high

    def between(self, low: datetime | None, high: datetime | None) -> pl.LazyFrame:
        """The rows between two times, and a few beside them."""
        return self.frame.filter(within(self.view.timestamp, self.schema[self.view.timestamp], low, high))

    def in_reach(self, times: pl.Series) -> pl.LazyFrame:
        """The rows that can count for entity rows at these times, and a few beside them."""
        reach = self.reach(times)
        return self.between(*reach) if reach else self.frame.head(0)


def opened_view(view: AsofView, source: ParquetSource, mapping: Mapping[str, str]) -> OpenedView:
    """A view with its source; `mapping`: Feast's names by the files'. UserError when the source lacks a column."""
    raw = scan(source)
    renamed = {old: new for old, new in mapping.items() if old in schema_of(raw, source.url)}
    frame = raw.rename(renamed) if renamed else raw
    schema = schema_of(frame, source.url)
    check_columns(view, schema, source)
    kept = pl.Schema({column: schema[column] for column in view.columns})
    return OpenedView(view, source, frame.select(view.columns), kept, {new: old for old, new in renamed.items()})


def check_columns(view: AsofView, schema: Mapping[str, pl.DataType], source: ParquetSource) -> None:
    """UserError when the source lacks a column that the view needs."""
    if missing := [column for column in view.columns if column not in schema]:
        raise UserError(
            source.url, f"no column {', '.join(missing)}", f"{', '.join(view.columns)}, of view {view.name}"
        )


def between(column: str, start: datetime | None, end: datetime | None) -> pl.Expr:
    """Rows whose time lies between two instants, both inclusive; naive ones are taken for UTC."""
    after = pl.lit(True) if start is None else utc(column) >= pl.lit(aware(start))
    before = pl.lit(True) if end is None else utc(column) <= pl.lit(aware(end))
    return after & before


def time_range(times: pl.Series) -> Span:
    """The first and the last of some times; None and None where there is none."""
    low, high = times.min(), times.max()
    return (low if isinstance(low, datetime) else None), (high if isinstance(high, datetime) else None)


@overload
def aware(time: datetime) -> datetime: ...
@overload
def aware(time: None) -> None: ...
def aware(time: datetime | None) -> datetime | None:
    """An instant in UTC; a naive one is taken for UTC."""
    return time if time is None else (time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC))
