"""Figures of every column of a data set, small enough to keep beside it and to compare with. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tidegate.errors import UserError
from tidegate.ingest.arrivals import format_time
from tidegate.validate.contract import Column, Contract, TableContract

if TYPE_CHECKING:
    import polars as pl

VALUES = 200
"""A text column with more different values has no list of them."""


@dataclass(frozen=True)
class ColumnProfile:
    """One column. `mean`, `sd`: of finite numbers, None for other kinds; `low`, `high`: numbers or ISO 8601 times.

    `values`: count by value of a text column that has at most `VALUES` different ones, most frequent first.
    """

    kind: str
    nulls: int
    distinct: int
    low: float | str | None = None
    high: float | str | None = None
    mean: float | None = None
    sd: float | None = None
    values: Mapping[str, int] | None = None


@dataclass(frozen=True)
class TableProfile:
    """One table: its rows and its columns by name."""

    rows: int
    columns: Mapping[str, ColumnProfile]


@dataclass(frozen=True)
class Profile:
    """Every table of a data set that had arrived by `until` (ISO 8601)."""

    until: str
    tables: Mapping[str, TableProfile]

    def dump(self) -> str:
        """The text of ``profile.json``."""
        return json.dumps(asdict(self), indent=1) + "\n"


def parse_profile(text: str, where: str) -> Profile:
    """The inverse of `Profile.dump`; UserError when the text is no profile."""
    try:
        read = json.loads(text)
        tables = {
            name: TableProfile(table["rows"], {c: ColumnProfile(**one) for c, one in table["columns"].items()})
            for name, table in read["tables"].items()
        }
        return Profile(read["until"], tables)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(where, text[:40], "the profile.json of a validate step") from None


def profile_of(until: str, tables: Mapping[str, pl.DataFrame], contract: Contract) -> Profile:
    """The profile of tables whose schema is right."""
    return Profile(until, {name: profile_table(rows, contract.tables[name]) for name, rows in tables.items()})


def profile_table(rows: pl.DataFrame, table: TableContract) -> TableProfile:
    """The profile of one table; columns that the rows lack are left out."""
    found = {c.name: profile_column(rows[c.name], c) for c in table.columns if c.name in rows.columns}
    return TableProfile(rows.height, found)


def profile_column(values: pl.Series, column: Column) -> ColumnProfile:
    """The profile of one column; NaN and infinity count as values and are in none of the figures."""
    nulls, distinct = values.null_count(), values.drop_nulls().n_unique()
    if column.kind == "text":
        counts = _counts(values) if distinct <= VALUES else None
        return ColumnProfile(column.kind, nulls, distinct, values=counts)
    if column.kind == "time":
        return ColumnProfile(column.kind, nulls, distinct, _time(values.min()), _time(values.max()))
    numbers = finite(values)
    low, high, mean, sd = (_number(f) for f in (numbers.min(), numbers.max(), numbers.mean(), numbers.std()))
    return ColumnProfile(column.kind, nulls, distinct, low, high, mean, sd)


def finite(values: pl.Series) -> pl.Series:
    """The numbers of a series as Float64, without null, NaN and infinity."""
    import polars as pl

    numbers = values.drop_nulls().cast(pl.Float64)
    return numbers.filter(numbers.is_finite())


def _counts(values: pl.Series) -> dict[str, int]:
    import polars as pl

    counted = values.drop_nulls().alias("value").value_counts().sort(pl.col("count"), pl.col("value"))
    return dict(reversed(counted.rows()))


def _number(figure: Any) -> float | None:
    return None if figure is None else float(f"{figure:.9g}")


def _time(value: Any) -> str | None:
    return format_time(value) if isinstance(value, datetime) else None
