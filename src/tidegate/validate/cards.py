"""One column on the profile page: its figures now and before, its drawing, what is wrong with it. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from tidegate.validate.contract import Column
from tidegate.validate.figures import Histogram, histogram, limits_of, span_of
from tidegate.validate.findings import Table
from tidegate.validate.profile import ColumnProfile, TableProfile

TOP = 8
"""Values of a text column that are drawn."""
MARKS = {
    "missing": ({"null"}, {"null_share"}),
    "different": ({"unique", "constant"}, {"new_values"}),
    "mean": (set(), {"mean_shift"}),
}
"""The figure of a column that shows a fault (first) or a change (second)."""


def card(
    column: Column, now: TableProfile, before: TableProfile | None, table: Table, changed: set[str]
) -> dict[str, Any]:
    """One column: its figures now and before, its drawing, what is wrong with it."""
    figures = now.columns.get(column.name)
    old = before.columns.get(column.name) if before else None
    checks = [one.check for one in table.violations if column.name in one.column.split("+")]
    facts = _facts(figures, now.rows, old, before.rows if before else 0) if figures else []
    return {
        "name": column.name,
        "kind": column.kind,
        "there": figures is not None,
        "checks": checks,
        "facts": [{**fact, "mark": _mark(fact["name"], set(checks), changed)} for fact in facts],
        "bars": _bars(column, figures, old, now, before) if figures and figures.values is not None else None,
        "drawing": _drawing(column, table) if figures and column.kind != "text" else None,
    }


def _facts(now: ColumnProfile, rows: int, before: ColumnProfile | None, old_rows: int) -> list[dict[str, str]]:
    """Rows of the small table under a drawing: what, now, before."""

    def told(one: ColumnProfile | None, of: int) -> list[str]:
        if one is None:
            return [""] * 5
        share = f"{one.nulls / of:.1%}" if of else "0%"
        figures = [_short(one.low), _short(one.mean), _short(one.high)]
        return [f"{one.nulls:,} ({share})", f"{one.distinct:,}", *figures]

    names = ("missing", "different", "lowest", "mean", "highest")
    pairs = zip(names, told(now, rows), told(before, old_rows), strict=True)
    return [{"name": name, "now": a, "before": b} for name, a, b in pairs if a]


def _mark(fact: str, checks: set[str], changed: set[str]) -> str:
    wrong, other = MARKS.get(fact, (set(), set()))
    return "wrong" if wrong & checks else "changed" if other & changed else ""


def _short(figure: float | str | None) -> str:
    if figure is None:
        return ""
    return figure[:16].replace("T", " ") if isinstance(figure, str) else f"{figure:,.4g}"


def _bars(
    column: Column, now: ColumnProfile, old: ColumnProfile | None, rows: TableProfile, before: TableProfile | None
) -> list[dict[str, Any]]:
    """The most frequent values as shares of the rows; what is bad or new comes first."""
    known, values = old.values if old else None, now.values or {}

    def mark(value: str) -> str:
        return "bad" if not _accepted(column, value) else "new" if known is not None and value not in known else ""

    order = ("bad", "new", "")
    drawn = sorted(values, key=lambda value: (order.index(mark(value)), -values[value]))[:TOP]
    share = {value: values[value] / max(rows.rows, 1) for value in drawn}
    was = {v: known.get(v, 0) / max(before.rows, 1) if known is not None and before else None for v in drawn}
    longest = max([*share.values(), *(one or 0.0 for one in was.values())], default=0.0) or 1.0
    return [
        {
            "value": value,
            "share": share[value],
            "before": was[value],
            "width": share[value] / longest,
            "tick": (was[value] or 0.0) / longest,
            "mark": mark(value),
        }
        for value in drawn
    ]


def _accepted(column: Column, value: str) -> bool:
    """Whether the contract takes a text."""
    if column.isin is not None and value not in column.isin:
        return False
    return column.pattern is None or re.fullmatch(column.pattern, value) is not None


def _drawing(column: Column, table: Table) -> dict[str, Any] | None:
    """The distribution as heights from 0 to 1: `bars` now, `steps` before, the ends for what is outside."""
    name = column.name
    both = [one[name] for one in (table.rows, table.other) if one is not None and name in one.columns]
    if (span := span_of(both, column)) is None:
        return None
    now = histogram(both[0], column, span)
    old = histogram(both[1], column, span) if len(both) > 1 else None
    tops = [_shares(one) for one in (now, old) if one is not None]
    highest = max(max(one) for one in tops) or 1.0
    least, most = limits_of(column)
    return {
        "bars": [share / highest for share in tops[0]],
        "steps": [share / highest for share in tops[1]] if old else None,
        "bad_below": now.bad_below,
        "bad_above": now.bad_above,
        "low": _axis(column, span[0]),
        "high": _axis(column, span[1]),
        "limits": [_axis(column, one) if abs(one) != float("inf") else "" for one in (least, most)],
    }


def _shares(one: Histogram) -> list[float]:
    """The end bar below, the bins, the end bar above, as shares of the values."""
    total = max(one.rows, 1)
    return [count / total for count in (one.below, *one.counts, one.above)]


def _axis(column: Column, value: float) -> str:
    if column.kind == "time":
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d")
    return f"{value:,.4g}"
