"""What the profile page says first: faults by the contract, then what is notably unlike the other version. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tidegate.validate.check import Violation
from tidegate.validate.contract import Column, TableContract
from tidegate.validate.figures import as_numbers, correlations, limits_of
from tidegate.validate.guards import figures_of
from tidegate.validate.profile import TableProfile

if TYPE_CHECKING:
    import polars as pl

NOTABLE = {"null_share": 0.05, "mean_shift": 0.5, "new_values": 0.01}
"""From here on a change is named, whether or not the contract limits it."""
CORRELATION, PAIRS = 0.25, 5
"""A change of a correlation that is named, and how many of them are."""
WORDS = {
    "missing_column": "The column is not there.",
    "new_column": "The contract does not know this column.",
    "type": "The column has another type than the contract's.",
    "null": "A value is missing where one must be.",
    "range": "Outside of the accepted range.",
    "value": "Not one of the accepted values.",
    "pattern": "Not written as it must be.",
    "unique": "The key is there already: a duplicate.",
    "constant": "One and the same value in all rows.",
    "duplicate_column": "Two columns with equal values in all rows.",
    "monotone": "Falls where it may only rise.",
    "reference": "The other table has no such value.",
}


@dataclass(frozen=True)
class Table:
    """One table as it is profiled: its rows, what is wrong with them, and the rows that they are held against."""

    name: str
    rows: pl.DataFrame
    contract: TableContract
    violations: Sequence[Violation]
    other: pl.DataFrame | None


def faults(table: Table) -> list[dict[str, Any]]:
    """What breaks the contract, most rows first."""
    found = sorted(table.violations, key=lambda one: -one.rows)
    return [
        {
            "level": "fault",
            "check": one.check,
            "columns": one.column.split("+"),
            "rows": one.rows,
            "share": one.rows / max(table.rows.height, 1),
            "text": WORDS.get(one.check, "Breaks this rule of the contract."),
            "examples": [_example(example) for example in one.examples],
        }
        for one in found
    ]


def _example(example: Any) -> str:
    return "(" + ", ".join(map(str, example)) + ")" if isinstance(example, list | tuple) else str(example)


def changes_of(
    table: Table, columns: Sequence[Column], now: TableProfile, before: TableProfile
) -> dict[str, dict[str, float]]:
    """What is notably unlike the other version, by column and figure; a value out of range moves no mean."""
    found = {}
    for column in (one for one in columns if one.name in now.columns):
        figures = now.columns[column.name]
        if figures.mean is not None:
            least, most = limits_of(column)
            numbers = as_numbers(table.rows[column.name])
            allowed = numbers.filter((numbers >= least) & (numbers <= most)).mean()
            figures = replace(figures, mean=allowed if isinstance(allowed, float) else None)
        told = figures_of(column, TableProfile(now.rows, {column.name: figures}), before)
        found[column.name] = {check: figure for check, figure in told.items() if abs(figure) >= NOTABLE[check]}
    return found


def change_findings(changes: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """The changes in words."""
    words = {
        "null_share": "{:+.1%} of the rows are null, against the other version.",
        "mean_shift": "The mean is {:.1f} standard deviations away from the other version's.",
        "new_values": "{:.1%} of the rows have a value that the other version does not have.",
    }
    return [
        {"level": "change", "check": check, "columns": [name], "text": words[check].format(figure), "examples": []}
        for name, figures in changes.items()
        for check, figure in figures.items()
    ]


def pair_findings(table: Table, pairs: Mapping[tuple[str, str], float], numeric: Sequence[str]) -> list[dict[str, Any]]:
    """The pairs of columns that go together otherwise than in the other version, the most changed ones."""
    if table.other is None:
        return []
    before = correlations(table.other, [name for name in numeric if name in table.other.columns])
    moved = {pair: abs(value - before[pair]) for pair, value in pairs.items() if pair in before}
    return [
        {
            "level": "change",
            "check": "correlation",
            "columns": list(pair),
            "text": f"Rank correlation {pairs[pair]:+.2f}, in the other version {before[pair]:+.2f}.",
            "examples": [],
        }
        for pair in sorted(moved, key=lambda one: -moved[one])[:PAIRS]
        if moved[pair] >= CORRELATION
    ]
