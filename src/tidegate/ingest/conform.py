"""Rows of any source in the columns and kinds of the contract; what does not fit is put aside with its reason. Pure.

The same rows from a CSV file, a Parquet file or an SQL table become the same frame, so that they have one data version.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from tidegate.validate.check import Violation
from tidegate.validate.contract import Column, Kind, TableContract
from tidegate.workload import EVENT_TIME

if TYPE_CHECKING:
    import polars as pl

Flag: TypeAlias = "tuple[str, str, pl.Series]"
"""A check, a column, and the rows that fail."""
REASONS = "reasons"
EXAMPLES = 3
SKEW = timedelta(days=1)
"""How far a source's clock may be ahead of ours."""
OLDEST = datetime(1900, 1, 1, tzinfo=UTC)
"""No event is known from before: such a time is a fault of reading."""
REPLACED = "\ufffd"
"""What a decoder writes for bytes that are no UTF-8."""
LONGEST = 80
CALENDAR = 700_000
"""Days before and after 1970 within which a time can be: Python's calendar has them all."""
PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class Conformed:
    """Good `rows` in the contract's columns; `aside` as they came, with `REASONS`; `violations` name every fault.

    A violation of a column that is new, or missing but nullable, puts no row aside.
    """

    rows: pl.DataFrame
    aside: pl.DataFrame
    violations: tuple[Violation, ...]


def conform(rows: pl.DataFrame, table: TableContract, now: datetime) -> Conformed:
    """Cast every column to its kind: text String, integer Int64, number Float64, time UTC microseconds.

    A value that cannot be cast without loss puts its row aside (``type``), as do text that was no UTF-8 (``encoding``),
    a null event time (``null``), one before `OLDEST` (``range``) and one a day or more after `now` (``not_yet``). A
    missing column puts all rows aside unless it is nullable: then it is null. A new column is dropped.
    """
    import polars as pl

    made, hit, faults = [], list[Flag](), _schema_faults(rows, table)
    for column in table.columns:
        if column.name in rows.columns:
            cast, wrong = _cast(rows[column.name], column)
            made.append(cast)
            hit += wrong
        else:
            made.append(pl.Series(column.name, [None] * rows.height, dtype=_dtype(column.kind)))
            hit += [("missing_column", column.name, _all(rows.height))] if not column.nullable else []
    real = pl.selectors.float()  # -0.0 becomes 0.0, since rows are compared by value
    whole = pl.DataFrame(made).with_columns(pl.when(real == 0.0).then(0.0).otherwise(real).name.keep())
    if EVENT_TIME in rows.columns:
        hit += _wrong_times(rows[EVENT_TIME], whole[EVENT_TIME], now)
    if not hit:
        return Conformed(whole, rows.clear().with_columns(pl.lit(None, pl.String).alias(REASONS)), tuple(faults))
    found = [_violation(check, name, bad, rows) for check, name, bad in hit if check != "missing_column"]
    reasons = _reasons(hit)
    good = reasons.is_null()
    aside = rows.with_columns(reasons.alias(REASONS)).filter(~good)
    return Conformed(whole.filter(good), aside, (*faults, *found))


def dtypes(table: TableContract) -> dict[str, pl.DataType]:
    """The schema of conformed rows."""
    return {column.name: _dtype(column.kind) for column in table.columns}


def in_order(rows: pl.DataFrame, table: TableContract) -> pl.DataFrame:
    """Conformed rows by event time, then key, then everything else, each different row once.

    The order is total, so that the same set of rows is the same frame whatever the order they came in.
    """
    first = dict.fromkeys((EVENT_TIME, *table.key))
    by = [*first, *(name for name in table.names if name not in first)]
    return rows.unique(maintain_order=False).sort(by, nulls_last=False)


def _schema_faults(rows: pl.DataFrame, table: TableContract) -> list[Violation]:
    missing = [Violation("missing_column", name, rows.height, ()) for name in table.names if name not in rows.columns]
    new = [name for name in rows.columns if name not in table.names]
    return [*missing, *(Violation("new_column", name, rows.height, (str(rows.schema[name]),)) for name in new)]


def _dtype(kind: Kind) -> pl.DataType:
    import polars as pl

    kinds: dict[str, pl.DataType] = {"text": pl.String(), "integer": pl.Int64(), "number": pl.Float64()}
    return kinds.get(kind) or pl.Datetime("us", "UTC")


def _cast(values: pl.Series, column: Column) -> tuple[pl.Series, list[Flag]]:
    """The column in its kind, and which of its values are misfits."""
    if column.kind == "text":
        cast = _text(values)
    elif column.kind == "time":
        cast = as_times(values)
    else:
        cast = _number(values, column.kind)
    if cast.null_count() > values.null_count():
        return cast, [("type", column.name, cast.is_null() & values.is_not_null())]
    if column.kind == "text" and (broken := cast.str.contains(REPLACED, literal=True)).any():
        return cast, [("encoding", column.name, broken.fill_null(False))]
    return cast, []


def _text(values: pl.Series) -> pl.Series:
    import polars as pl

    if values.dtype == pl.Binary:
        decoded = [None if value is None else value.decode("utf-8", "replace") for value in values]
        return pl.Series(values.name, decoded, dtype=pl.String)
    known = values.dtype
    if known.is_numeric() or known in (pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null):
        return values.cast(pl.String, strict=False)
    return _none(values, pl.String())


def _number(values: pl.Series, kind: Kind) -> pl.Series:
    """Int64 or Float64, null where that would lose something."""
    import polars as pl

    whole, known = kind == "integer", values.dtype
    if not (known.is_numeric() or known in (pl.String, pl.Boolean, pl.Null)):
        return _none(values, pl.Int64() if whole else pl.Float64())
    if known == pl.String:
        values = values.str.strip_chars()
    if not whole:
        return values.cast(pl.Float64, strict=False)
    cast = values.cast(pl.Int64, strict=False)
    if known == pl.String:  # "12.0" is a whole number too; "12.5" is none
        number = values.cast(pl.Float64, strict=False)
        exact = pl.select(pl.when((number == number.floor()) & (number.abs() < 2.0**53)).then(number)).to_series()
        return cast.fill_null(exact.cast(pl.Int64, strict=False)).alias(values.name)
    if known.is_float() or known.is_decimal():
        kept = pl.select(pl.when(cast.cast(pl.Float64) == values.cast(pl.Float64)).then(cast))
        return kept.to_series().alias(values.name)
    return cast


def as_times(values: pl.Series) -> pl.Series:
    """UTC microseconds of a time (without a zone: UTC), a date or ISO 8601 text; null for anything else."""
    import polars as pl

    utc, most = pl.Datetime("us", "UTC"), CALENDAR * 86_400 * PER_SECOND["us"]
    if isinstance(values.dtype, pl.Datetime):
        zoned = values if values.dtype.time_zone else values.dt.replace_time_zone("UTC")
        cast = zoned.dt.convert_time_zone("UTC").cast(utc, strict=False)
    elif values.dtype == pl.Date:
        cast = values.cast(pl.Datetime("us"), strict=False).dt.replace_time_zone("UTC")
    elif values.dtype == pl.String:
        cast = _from_text(values)
    else:
        return _none(values, utc)
    number = cast.to_physical()
    return values.to_frame().select(pl.when(number.is_between(-most, most)).then(cast).alias(values.name)).to_series()


def _from_text(values: pl.Series) -> pl.Series:
    import polars as pl

    text = pl.col(values.name).str.strip_chars().str.replace(" ", "T", literal=True)
    text = pl.when(text.str.len_chars() == 10).then(text + "T00:00:00").otherwise(text)
    text = text.str.replace("[zZ]$", "+00:00").str.replace(r"(T.*[+-]\d\d)$", "${1}:00")
    text = pl.when(text.str.contains(r"T.*[+-]\d\d:?\d\d$")).then(text).otherwise(text + "+00:00")
    read = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", time_zone="UTC", strict=False)
    return values.to_frame().select(read).to_series()


def _none(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    import polars as pl

    return pl.Series(values.name, [None] * len(values), dtype=dtype)


def _all(height: int) -> pl.Series:
    import polars as pl

    return pl.repeat(True, height, dtype=pl.Boolean, eager=True)


def _wrong_times(came: pl.Series, times: pl.Series, now: datetime) -> list[Flag]:
    flags = [("null", came.is_null()), ("range", times < OLDEST), ("not_yet", times > now + SKEW)]
    return [(check, EVENT_TIME, bad.fill_null(False)) for check, bad in flags if bad.any()]


def _reasons(hit: list[Flag]) -> pl.Series:
    """For each row ``check(column), ...`` of what it fails; null for a good row."""
    import polars as pl

    said = [pl.when(bad).then(pl.lit(f"{check}({name})")) for check, name, bad in hit]
    return pl.select(pl.concat_str(said, separator=", ", ignore_nulls=True)).to_series().replace("", None)


def _violation(check: str, name: str, bad: pl.Series, rows: pl.DataFrame) -> Violation:
    some = _plain(rows[name].filter(bad).head(EXAMPLES)).to_list()
    shown = tuple(dict.fromkeys(None if value is None else str(value)[:LONGEST] for value in some))
    return Violation(check, name, int(bad.sum()), shown)


def _plain(values: pl.Series) -> pl.Series:
    """Values that Python has: times far outside its calendar, on which polars panics, become bare numbers."""
    import polars as pl

    if values.dtype not in (pl.Datetime, pl.Date):
        return values
    per_day = 1 if values.dtype == pl.Date else 86_400 * PER_SECOND[getattr(values.dtype, "time_unit", None) or "us"]
    number, most = values.to_physical(), min(CALENDAR * per_day, 2**63 - 1)
    return values if number.is_between(-most, most).fill_null(True).all() else number
