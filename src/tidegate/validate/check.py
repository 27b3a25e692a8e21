"""Rows against a contract: what is wrong, in which rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from tidegate.ingest.arrivals import format_time
from tidegate.validate.contract import Check, TableContract, fits, row_checks
from tidegate.workload import EVENT_TIME

if TYPE_CHECKING:
    import polars as pl

REASONS = "reasons"
EXAMPLES = 3


@dataclass(frozen=True)
class Violation:
    """One failed check: how many rows, and a few of the values (or of the types, where the schema is wrong)."""

    check: str
    column: str
    rows: int
    examples: tuple[Any, ...]


def schema_violations(schema: Mapping[str, pl.DataType], rows: int, table: TableContract) -> list[Violation]:
    """Missing columns, new columns and wrong types, each by name."""
    missing = [Violation("missing_column", name, rows, ()) for name in table.names if name not in schema]
    new = [Violation("new_column", name, rows, (str(schema[name]),)) for name in schema if name not in table.names]
    wrong = [
        Violation("type", column.name, rows, (str(schema[column.name]), f"not {column.kind}"))
        for column in table.columns
        if column.name in schema and not fits(column.kind, schema[column.name])
    ]
    return [*missing, *new, *wrong]


def failures(rows: pl.DataFrame, checks: list[Check]) -> pl.DataFrame:
    """One Boolean column a check, by position; a check that cannot tell (null) does not fail."""
    return rows.select(check.bad.fill_null(False).alias(str(i)) for i, check in enumerate(checks))


def row_violations(
    rows: pl.DataFrame, table: TableContract, until: datetime | None = None
) -> tuple[list[Violation], pl.Series]:
    """The failed checks of rows whose schema is right, and for each row its reasons (null: a good row).

    With `until`, a row with a later event time fails too: it cannot have arrived yet.
    """
    import polars as pl

    checks = row_checks(table)
    if until is not None:
        checks.append(Check("not_yet", EVENT_TIME, pl.col(EVENT_TIME) > until))
    failed = failures(rows, checks)
    counts = failed.sum().row(0) if rows.height else (0,) * len(checks)
    hit = [i for i, count in enumerate(counts) if count]
    violations = [
        Violation(checks[i].name, checks[i].column, int(counts[i]), _examples(rows.filter(failed[str(i)]), checks[i]))
        for i in hit
    ]
    if not hit:
        return [], pl.repeat(None, rows.height, dtype=pl.String, eager=True)
    said = [pl.when(pl.col(str(i))).then(pl.lit(f"{checks[i].name}({checks[i].column})")) for i in hit]
    reasons = failed.select(pl.concat_str(said, separator=", ", ignore_nulls=True).alias(REASONS))[REASONS]
    return violations, reasons.replace("", None)


def _examples(bad: pl.DataFrame, check: Check) -> tuple[Any, ...]:
    columns = check.column.split("+")
    values = bad.select(columns).unique(maintain_order=True).head(EXAMPLES).rows()
    return tuple(_plain(row[0]) if len(columns) == 1 else [_plain(value) for value in row] for row in values)


def _plain(value: object) -> object:
    """A value that JSON has; NaN and infinity become text."""
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, date) or (isinstance(value, float) and value - value != 0):
        return str(value)
    return value
