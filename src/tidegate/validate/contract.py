"""The data contract: schema and checks that rows must pass, declared as plain values. Pure.

Checks run as polars expressions, all of a table in one pass. `pandera_schema` gives the same contract as a pandera
schema, for notebooks and other tools; importing pandera takes two seconds, so the gate itself does without it, and a
test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from tidegate.errors import UserError

if TYPE_CHECKING:
    import polars as pl

KNOWN = "a column of a table of the same contract"
Kind = Literal["text", "integer", "number", "time"]


@dataclass(frozen=True)
class Guard:
    """How far a column's new rows may be from the last good version's; None: as far as they like.

    `null_share`: rise of the share of nulls; `mean_shift`: difference of the means in the reference's standard
    deviations; `new_values`: share of the rows whose value the reference does not have (text of few values only).
    """

    null_share: float | None = None
    mean_shift: float | None = None
    new_values: float | None = None


@dataclass(frozen=True)
class Column:
    """What a column holds.

    `low`, `high`: inclusive range, of a time datetimes in UTC; `isin`: the only values; `pattern`: regular expression
    that a text must match from start to end. A number must be finite. Null passes every check but its own, and only
    where `nullable`. `constant`: one value in a whole partition is no fault; `same_as`: nor is it to equal that column.
    """

    name: str
    kind: Kind
    nullable: bool = False
    low: float | datetime | None = None
    high: float | datetime | None = None
    isin: tuple[str, ...] | None = None
    pattern: str | None = None
    constant: bool = False
    same_as: str | None = None
    guard: Guard | None = None


@dataclass(frozen=True)
class Rule:
    """A check over several columns of a row: `holds` builds an expression that is true for a good row."""

    name: str
    columns: tuple[str, ...]
    holds: Callable[[], pl.Expr]


def not_before(name: str, column: str, other: str, slack: timedelta = timedelta(0)) -> Rule:
    """The rule that a time is not before another one of its row, less `slack`; a null one passes."""

    def holds() -> pl.Expr:
        import polars as pl

        return pl.col(column) >= pl.col(other) - slack

    return Rule(name, (column, other), holds)


@dataclass(frozen=True)
class Monotone:
    """A column that never falls, in the order of event time, among the rows that are alike in `within`."""

    column: str
    within: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """A column whose values are all among those of a column of another table (of its good rows); null passes."""

    column: str
    table: str
    other: str


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
    """One table: its columns, what identifies a row, rules, times in order, references and repairs.

    `tolerated`: the share of bad rows that may be quarantined; with more of them the data is refused.
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    repairs: tuple[Repair, ...] = ()
    monotone: tuple[Monotone, ...] = ()
    references: tuple[Reference, ...] = ()
    tolerated: float = 0.01

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class Contract:
    """The contract of every table, by name. Raises UserError when a reference goes to a column that is not there."""

    tables: Mapping[str, TableContract]

    def __post_init__(self) -> None:
        for name, table in self.tables.items():
            for one in table.references:
                if one.table not in self.tables or one.other not in self.tables[one.table].names:
                    raise UserError(f"contract: reference of {name}.{one.column}", f"{one.table}.{one.other}", KNOWN)


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
    bounds = ([] if column.low is None else [value >= column.low]) + (
        [] if column.high is None else [value <= column.high]
    )
    if column.kind == "number":  # NaN is neither a number nor a null; infinity is out of every range
        bounds.append(value.cast(pl.Float64).is_finite())
    if bounds:
        checks.append(Check("range", name, ~pl.all_horizontal(bounds)))
    if column.isin is not None:
        checks.append(Check("value", name, ~value.is_in(column.isin)))
    if column.pattern is not None:
        checks.append(Check("pattern", name, ~value.str.contains(f"^(?:{column.pattern})$")))
    return checks


def row_checks(table: TableContract) -> list[Check]:
    """Every check of a table that needs nothing but the row itself."""
    checks = [check for column in table.columns for check in column_checks(column)]
    return checks + [Check(rule.name, "+".join(rule.columns), ~rule.holds()) for rule in table.rules]


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
