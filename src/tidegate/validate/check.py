"""Rows against a contract: what is wrong, in which rows. Pure.

Checks run in this order, each on what the ones before left good: the row itself; whole columns of a partition; the
key; the order of times; references to other tables. So one bad value is one reason, not a chain of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import combinations
from typing import TYPE_CHECKING, Any

from tidegate.ingest.arrivals import format_time
from tidegate.validate.contract import Check, Column, TableContract, fits, row_checks
from tidegate.workload import EVENT_TIME

if TYPE_CHECKING:
    import polars as pl

PART = "__part"
REASONS = "reasons"
EXAMPLES = 3
LEAST = 100
"""Rows that a partition must have before a constant column, or two equal ones, say something about it."""


@dataclass(frozen=True)
class Violation:
    """One failed check: how many rows, and a few of the values (or of the types, where the schema is wrong)."""

    check: str
    column: str
    rows: int
    examples: tuple[Any, ...]


@dataclass(frozen=True)
class Failure:
    """One failed check: `bad` is true for each row that fails it. `column`: its columns, joined by +."""

    check: str
    column: str
    bad: pl.Series


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


def table_failures(rows: pl.DataFrame, table: TableContract, until: datetime | None = None) -> list[Failure]:
    """Every failed check of a table by itself, given rows whose schema is right, with their partition in `PART`.

    With `until`, a row with a later event time fails too: it cannot have arrived yet.
    """
    found = [*row_failures(rows, table, until), *column_failures(rows, table)]
    for more in (key_failures, order_failures):
        found += more(rows, good_rows(rows.height, found), table)
    return found


def row_failures(rows: pl.DataFrame, table: TableContract, until: datetime | None = None) -> list[Failure]:
    """The checks that look at one row, all of them in one pass; one that cannot tell (null) does not fail."""
    import polars as pl

    checks = row_checks(table)
    if until is not None:
        checks.append(Check("not_yet", EVENT_TIME, pl.col(EVENT_TIME) > until))
    failed = rows.select(check.bad.fill_null(False).alias(str(i)) for i, check in enumerate(checks))
    return [Failure(c.name, c.column, failed[str(i)]) for i, c in enumerate(checks) if failed[str(i)].any()]


def column_failures(rows: pl.DataFrame, table: TableContract) -> list[Failure]:
    """Columns with one value, and pairs of equal columns, in a partition of `LEAST` rows: all its rows fail."""
    import polars as pl

    names, pairs = table.names, list(_comparable(table))
    constant = [pl.col(n).eq_missing(pl.col(n).first()).all().alias(n) for n in names]
    equal = [
        pl.col(a).head(LEAST).eq_missing(pl.col(b).head(LEAST)).all().alias(f"{a}+{b}") for a, b in pairs
    ]  # the first rows tell nearly all pairs apart
    parts = rows.group_by(PART, maintain_order=True).agg(pl.len().alias("__rows"), *constant, *equal)
    told: dict[tuple[str, str], list[int]] = {}
    for part in parts.filter(pl.col("__rows") >= LEAST).iter_rows(named=True):
        for column in table.columns:
            if part[column.name] and not column.constant:
                told.setdefault(("constant", column.name), []).append(part[PART])
        for a, b in pairs:
            if part[f"{a}+{b}"] and not part[a] and not part[b] and _equal(rows, part[PART], a, b):
                told.setdefault(("duplicate_column", f"{a}+{b}"), []).append(part[PART])
    return [Failure(check, column, rows[PART].is_in(found)) for (check, column), found in told.items()]


def key_failures(rows: pl.DataFrame, good: pl.Series, table: TableContract) -> list[Failure]:
    """Of the good rows with one key the first stays good, the others are duplicates."""
    import polars as pl

    if not table.key:
        return []
    key = pl.struct(table.key) if len(table.key) > 1 else pl.col(table.key[0])
    return _failing("unique", "+".join(table.key), rows, good, ~key.is_first_distinct())


def order_failures(rows: pl.DataFrame, good: pl.Series, table: TableContract) -> list[Failure]:
    """Good rows whose value is less than that of the good row before them, in event time, within the same keys."""
    import polars as pl

    found = []
    for one in table.monotone:
        value = pl.col(one.column)
        before = value.shift(1).over(one.within) if one.within else value.shift(1)
        name = "+".join(dict.fromkeys((one.column, *one.within)))
        ordered = rows.select(pl.int_range(pl.len()).alias("__at"), *{EVENT_TIME, one.column, *one.within}).filter(good)
        fell = ordered.filter(value.is_not_null()).sort(EVENT_TIME, maintain_order=True).filter(value < before)
        found += _at("monotone", name, rows, fell["__at"])
    return found


def reference_failures(
    rows: pl.DataFrame, good: pl.Series, table: TableContract, known: Mapping[str, pl.DataFrame]
) -> list[Failure]:
    """Good rows whose value no good row of the other table has; `known`: the good rows by table.

    A table that is not known is refused by itself, so nothing is said of what refers to it.
    """
    import polars as pl

    found = []
    for one in (one for one in table.references if one.table in known):
        values = known[one.table][one.other].unique().implode()
        unknown = ~pl.col(one.column).is_in(values) & pl.col(one.column).is_not_null()
        found += _failing("reference", one.column, rows, good, unknown)
    return found


def good_rows(height: int, failures: Sequence[Failure]) -> pl.Series:
    """True for each row that fails nothing."""
    import polars as pl

    good = pl.repeat(True, height, dtype=pl.Boolean, eager=True)
    for failure in failures:
        good &= ~failure.bad
    return good


def reasons_of(height: int, failures: Sequence[Failure]) -> pl.Series:
    """For each row its reasons, as ``range(distance), null(origin)``; null for a good row."""
    import polars as pl

    if not failures:
        return pl.repeat(None, height, dtype=pl.String, eager=True)
    failed = pl.DataFrame([failure.bad.alias(str(i)) for i, failure in enumerate(failures)])
    said = [pl.when(pl.col(str(i))).then(pl.lit(f"{one.check}({one.column})")) for i, one in enumerate(failures)]
    reasons = failed.select(pl.concat_str(said, separator=", ", ignore_nulls=True).alias(REASONS))[REASONS]
    return reasons.replace("", None)


def violations_of(rows: pl.DataFrame, failures: Sequence[Failure]) -> tuple[Violation, ...]:
    """The failures as they are reported: counted, with a few different values."""
    return tuple(Violation(f.check, f.column, int(f.bad.sum()), _examples(rows.filter(f.bad), f)) for f in failures)


def merged(violations: Sequence[Violation]) -> tuple[Violation, ...]:
    """One violation a check and column; the rows of the partitions add up, the first different examples stay."""
    found: dict[tuple[str, str], Violation] = {}
    for one in violations:
        before = found.get((one.check, one.column), Violation(one.check, one.column, 0, ()))
        more = tuple(example for example in one.examples if example not in before.examples)
        examples = (*before.examples, *more)[:EXAMPLES]
        found[one.check, one.column] = Violation(one.check, one.column, before.rows + one.rows, examples)
    return tuple(found.values())


def _comparable(table: TableContract) -> Iterator[tuple[str, str]]:
    """Pairs of columns that could hold the same values and are not declared to."""
    kinds = {"number": "integer"}
    for a, b in combinations(table.columns, 2):
        if kinds.get(a.kind, a.kind) == kinds.get(b.kind, b.kind) and not _declared_equal(a, b):
            yield a.name, b.name


def _declared_equal(a: Column, b: Column) -> bool:
    return a.same_as == b.name or b.same_as == a.name


def _equal(rows: pl.DataFrame, part: int, a: str, b: str) -> bool:
    inside = rows.filter(rows[PART] == part)
    return bool(inside[a].eq_missing(inside[b]).all())


def _failing(check: str, column: str, rows: pl.DataFrame, good: pl.Series, bad: pl.Expr) -> list[Failure]:
    """The failure of `bad`, evaluated among the good rows alone."""
    import polars as pl

    looked_at = rows.with_columns(pl.int_range(pl.len()).alias("__at")).filter(good)
    return _at(check, column, rows, looked_at.filter(bad)["__at"])


def _at(check: str, column: str, rows: pl.DataFrame, places: pl.Series) -> list[Failure]:
    import polars as pl

    if places.is_empty():
        return []
    return [Failure(check, column, pl.int_range(rows.height, eager=True).is_in(places.implode()))]


def _examples(bad: pl.DataFrame, failure: Failure) -> tuple[Any, ...]:
    columns = failure.column.split("+")
    values = bad.select(columns).unique(maintain_order=True).head(EXAMPLES).rows()
    return tuple(_plain(row[0]) if len(columns) == 1 else [_plain(value) for value in row] for row in values)


def _plain(value: object) -> object:
    """A value that JSON has; NaN and infinity become text."""
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, date) or (isinstance(value, float) and value - value != 0):
        return str(value)
    return value
