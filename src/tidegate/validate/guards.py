"""New rows against the last good version, the data that the champion was trained on: has a column become another? Pure.

Rows are new when their event time is after everything in the reference. The limits stand in the contract, column by
column; a column without a `Guard` may be what it likes. A breach refuses the table: the fault is in no single row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tidegate.ingest.arrivals import parse_until
from tidegate.validate.check import Violation
from tidegate.validate.contract import Column, Guard, TableContract
from tidegate.validate.profile import ColumnProfile, Profile, TableProfile, profile_table
from tidegate.workload import EVENT_TIME

if TYPE_CHECKING:
    import polars as pl

LEAST = 1000
"""New rows of a table below which its guards say nothing."""
UNITS = {
    "null_share": "of all rows more are null",
    "mean_shift": "reference standard deviations",
    "new_values": "of all rows have a value that was not there",
}


def guard_table(
    rows: pl.DataFrame, table: TableContract, name: str, reference: Profile | None
) -> tuple[list[Violation], str]:
    """The breached guards of a table's good rows, and in a few words what they were held against."""
    if not any(column.guard for column in table.columns):
        return [], "nothing to assess: no column has a guard"
    if reference is None or name not in reference.tables:
        return [], "not assessed: no last good version"
    new = rows.filter(rows[EVENT_TIME] > parse_until(reference.until))
    if new.height < LEAST:
        return [], f"not assessed: {new.height} rows after {reference.until}, at least {LEAST} are needed"
    found = breaches(profile_table(new, table), reference.tables[name], table)
    return found, f"{new.height} rows after {reference.until} against {reference.tables[name].rows} before"


def breaches(now: TableProfile, before: TableProfile, table: TableContract) -> list[Violation]:
    """Each guard that is broken; examples: the figure and its limit."""
    found = []
    for column in table.columns:
        limits, figures = column.guard or Guard(), figures_of(column, now, before)
        for check, figure in figures.items():
            limit = getattr(limits, check)
            if limit is not None and figure > limit:
                found.append(Violation(check, column.name, now.rows, (round(figure, 4), limit)))
    return found


def figures_of(column: Column, now: TableProfile, before: TableProfile) -> dict[str, float]:
    """What a guard may limit, as far as both profiles tell: ``null_share``, ``mean_shift``, ``new_values``."""
    if column.name not in now.columns or column.name not in before.columns or not now.rows or not before.rows:
        return {}
    a, b = now.columns[column.name], before.columns[column.name]
    figures = {"null_share": a.nulls / now.rows - b.nulls / before.rows}
    if a.mean is not None and b.mean is not None:
        figures["mean_shift"] = _shift(abs(a.mean - b.mean), b.sd or 0.0)
    if b.values is not None and column.kind == "text":
        figures["new_values"] = _new(a, b.values, now.rows) / now.rows
    return figures


def said(violation: Violation) -> str:
    """A breach in words, for the report's reasons."""
    figure, limit = violation.examples
    return f"{violation.check} {violation.column}: {figure} {UNITS[violation.check]}, at most {limit}"


def _shift(difference: float, sd: float) -> float:
    """In standard deviations; from a constant any difference is without bound (1e9, which JSON can write)."""
    return min(difference / sd, 1e9) if sd else (1e9 if difference else 0.0)


def _new(now: ColumnProfile, known: Mapping[str, int], rows: int) -> int:
    """Rows with a value that is not in `known`; of a column with too many values to list all but the nulls."""
    if now.values is None:
        return rows - now.nulls
    return sum(count for value, count in now.values.items() if value not in known)
