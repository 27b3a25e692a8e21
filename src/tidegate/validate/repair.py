"""Values that are put right instead of refused, and how many. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.validate.contract import TableContract

if TYPE_CHECKING:
    import polars as pl

CHANGED = "__changed"


def repaired(rows: pl.DataFrame, table: TableContract) -> tuple[pl.DataFrame, dict[str, int]]:
    """Rows after every repair, in the contract's order, with a column `CHANGED`; and the changed values by repair."""
    import polars as pl

    counts, changed = {}, pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)
    for repair in table.repairs:
        after = rows.select(repair.value().alias(repair.column))[repair.column]
        differs = after.ne_missing(rows[repair.column])
        counts[repair.name] = int(differs.sum())
        if counts[repair.name]:
            rows, changed = rows.with_columns(after), changed | differs
    return rows.with_columns(changed.alias(CHANGED)), counts
