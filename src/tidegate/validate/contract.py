"""The data contract: schema and checks that rows must pass, declared as plain values. Pure.

Checks run as polars expressions, all of a table in one pass. `pandera_schema` gives the same contract as a pandera
schema, for notebooks and other tools; importing pandera takes two seconds, so the gate itself does without it, and a
test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["text", "integer", "number", "time"]


@dataclass(frozen=True)
class Column:
    """What a column holds.

    `low`, `high`: inclusive range; `isin`: the only values; `pattern`: regular expression that a text must match from
    start to end. A number must be finite. Null passes every check but its own, and only where `nullable`.
    """

    name: str
    kind: Kind
    nullable: bool = False
    low: float | None = None
    high: float | None = None
    isin: tuple[str, ...] | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class Rule:
    """A check over several columns of a row: `holds` builds an expression that is true for a good row."""

    name: str
    columns: tuple[str, ...]
    holds: Callable[[], pl.Expr]


@dataclass(frozen=True)
class Repair:
    """A value that is put right instead of refused: `value` builds the expression of the column's new value.

    A row counts as repaired when its value changes; runs before the checks.
    """

    name: str
    column: str
    value: Callable[[], pl.Expr]


@dataclass(frozen=True)
class TableContract:
    """One table: its columns, what identifies a row, rules and repairs.

    `tolerated`: the share of bad rows that may be quarantined; with more of them the data is refused.
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    repairs: tuple[Repair, ...] = ()
    tolerated: float = 0.01

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class Contract:
    """The contract of every table, by name."""

    tables: Mapping[str, TableContract]


@dataclass(frozen=True)
class Check:
    """One check as it runs: `bad` is true for a row that fails it."""

    name: str
    column: str
    bad: pl.Expr


def fits(kind: Kind, dtype: pl.DataType) -> bool:
    """Whether a polars type holds values of this kind; a time needs the zone UTC."""
    import polars as pl

    if kind == "text":
        return dtype == pl.String
    if kind == "integer":
        return dtype.is_integer()
    if kind == "number":
        return dtype.is_numeric()
    return isinstance(dtype, pl.Datetime) and dtype.time_zone == "UTC"


def column_checks(column: Column) -> list[Check]:
    """The checks of one column, by name: null, range, value, pattern."""
    import polars as pl

    value, name = pl.col(column.name), column.name
    checks = [] if column.nullable else [Check("null", name, value.is_null())]
    if column.kind in ("integer", "number"):
        # NaN is neither a number nor a null; infinity is out of every range.
        inside = value.cast(pl.Float64).is_finite() if column.kind == "number" else pl.lit(True)
        low = pl.lit(True) if column.low is None else value >= column.low
        high = pl.lit(True) if column.high is None else value <= column.high
        if column.kind == "number" or column.low is not None or column.high is not None:
            checks.append(Check("range", name, ~(inside & low & high)))
    if column.isin is not None:
        checks.append(Check("value", name, ~value.is_in(column.isin)))
    if column.pattern is not None:
        checks.append(Check("pattern", name, ~value.str.contains(f"^(?:{column.pattern})$")))
    return checks


def row_checks(table: TableContract) -> list[Check]:
    """Every check of a table that looks at rows; of rows with one key the first is good, the others are duplicates."""
    import polars as pl

    checks = [check for column in table.columns for check in column_checks(column)]
    checks += [Check(rule.name, "+".join(rule.columns), ~rule.holds()) for rule in table.rules]
    repeated = (
        ~pl.struct(table.key).is_first_distinct() if len(table.key) > 1 else ~pl.col(table.key[0]).is_first_distinct()
    )
    return [*checks, Check("unique", "+".join(table.key), repeated)]


def pandera_schema(table: TableContract) -> Any:
    """Columns and key of the contract as a ``pandera.polars.DataFrameSchema``; rules and repairs are ours alone."""
    import pandera.polars as pa
    import polars as pl

    types = {"text": pl.String, "integer": None, "number": None, "time": pl.Datetime("us", "UTC")}

    def checks(column: Column) -> list[Any]:
        made = []
        if column.low is not None:
            made.append(pa.Check.ge(column.low))
        if column.high is not None:
            made.append(pa.Check.le(column.high))
        if column.isin is not None:
            made.append(pa.Check.isin(column.isin))
        if column.pattern is not None:
            made.append(pa.Check.str_matches(f"^(?:{column.pattern})$"))
        return made

    columns = {c.name: pa.Column(types[c.kind], checks(c), nullable=c.nullable) for c in table.columns}
    return pa.DataFrameSchema(columns, strict=True, unique=list(table.key))
