"""What the profile page shows, as plain values: findings first, then each column, missing values, correlations. Pure.

The page itself is ``profile.html.j2``; it needs nothing but itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tidegate.validate.cards import card
from tidegate.validate.contract import Column, TableContract, fits
from tidegate.validate.figures import correlations, missing_by_time
from tidegate.validate.findings import Table, change_findings, changes_of, faults, pair_findings
from tidegate.validate.profile import TableProfile, profile_table
from tidegate.workload import EVENT_TIME

if TYPE_CHECKING:
    import polars as pl


def shown(table: Table) -> dict[str, Any]:
    """The table for the template; also what ``--json`` prints, but for the drawings."""
    columns = _columns(table)
    table = replace(table, rows=_readable(table.rows, columns), other=_alike(table.other, columns))
    wanted = TableContract(columns, table.contract.key)
    now = profile_table(table.rows, wanted)
    before = None if table.other is None else profile_table(table.other, wanted)
    numeric = [c.name for c in columns if c.kind in ("integer", "number") and c.name in now.columns]
    pairs = correlations(table.rows, numeric)
    changes = changes_of(table, columns, now, before) if before else {}
    return {
        "name": table.name,
        "rows": now.rows,
        "before_rows": before.rows if before else None,
        "findings": [*faults(table), *change_findings(changes), *pair_findings(table, pairs, numeric)],
        "columns": [card(c, now, before, table, set(changes.get(c.name, ()))) for c in columns],
        "missing": _missing(table, now),
        "correlations": _matrix(numeric, pairs),
    }


def _columns(table: Table) -> tuple[Column, ...]:
    """The contract's columns (of another type: as what they are), then the ones that it does not know."""
    declared = {column.name: column for column in table.contract.columns}
    wrong = {v.column for v in table.violations if v.check == "type"}
    known = [c if c.name not in wrong else Column(c.name, _kind(table.rows[c.name])) for c in declared.values()]
    new = [Column(name, _kind(table.rows[name])) for name in table.rows.columns if name not in declared]
    return (*known, *new)


def _kind(values: pl.Series) -> Any:
    if values.dtype.is_numeric():
        return "integer" if values.dtype.is_integer() else "number"
    return "time" if values.dtype.is_temporal() and "Datetime" in str(values.dtype) else "text"


def _readable(rows: pl.DataFrame, columns: Sequence[Column]) -> pl.DataFrame:
    """The rows with whatever is neither number nor time as text."""
    import polars as pl

    odd = [c.name for c in columns if c.kind == "text" and c.name in rows.columns and rows.schema[c.name] != pl.String]
    return rows.with_columns(
        pl.Series(name, [None if v is None else str(v) for v in rows[name]], pl.String) for name in odd
    )


def _alike(other: pl.DataFrame | None, columns: Sequence[Column]) -> pl.DataFrame | None:
    """The columns of the other version that have the same kind."""
    if other is None:
        return None
    return other.select(c.name for c in columns if c.name in other.columns and fits(c.kind, other.schema[c.name]))


def _missing(table: Table, now: TableProfile) -> dict[str, Any]:
    """The shares of nulls by time, of the columns that have any."""
    time = next((c for c in table.contract.columns if c.kind == "time"), None)
    names = [name for name, one in now.columns.items() if one.nulls and name != EVENT_TIME]
    if not names or time is None or EVENT_TIME not in now.columns or now.columns[EVENT_TIME].kind != "time":
        return {"labels": [], "columns": []}
    labels, shares = missing_by_time(table.rows, names)
    return {"labels": labels, "columns": [{"name": name, "shares": shares[name]} for name in names]}


def _matrix(names: Sequence[str], pairs: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    """The correlations as rows of a square."""

    def cell(a: str, b: str) -> float | None:
        return 1.0 if a == b else pairs.get((a, b), pairs.get((b, a)))

    return {"names": list(names), "rows": [[cell(a, b) for b in names] for a in names]}
