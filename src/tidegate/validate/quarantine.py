"""Where rows go: the good ones on, partition by partition, the bad ones aside with their reasons. Does I/O.

Also reads what ingest put aside before the gate saw it, ``rejected.json``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import UserError
from tidegate.ingest.arrivals import Partition
from tidegate.ingest.disk import link, sha256_of, write_parquet
from tidegate.validate.check import PART, REASONS, Violation
from tidegate.validate.contract import TableContract
from tidegate.validate.repair import CHANGED
from tidegate.workload import EVENT_TIME

if TYPE_CHECKING:
    import polars as pl

QUARANTINE = "quarantine"
REJECTED = "rejected.json"


def read_rejected(arrivals: Path) -> dict[str, list[Violation]]:
    """What ingest put aside, by table; nothing when it put nothing aside.

    A whole piece that was put aside is an example of its own. UserError when the file is no such list.
    """
    path = arrivals / REJECTED
    if not path.is_file():
        return {}
    found: dict[str, list[Violation]] = {}
    try:
        for one in json.loads(path.read_text(encoding="utf-8")):
            whole = not one["column"] or not one["rows"]
            examples = [": ".join([one["part"], *map(str, one["examples"])])] if whole else one["examples"]
            violation = Violation(one["check"], one["column"], int(one["rows"]), tuple(examples))
            found.setdefault(one["table"], []).append(violation)
    except (ValueError, KeyError, TypeError):
        raise UserError(str(path), "something else", "the rejected.json of an ingest step") from None
    return found


def rows_aside(rejected: Sequence[Violation], table: TableContract) -> int:
    """Rows that ingest put aside; one that failed two checks counts twice.

    A new column is dropped and a missing one that may be null is null: neither puts a row aside.
    """
    nullable = {column.name for column in table.columns if column.nullable}
    return sum(
        one.rows
        for one in rejected
        if one.check != "new_column" and not (one.check == "missing_column" and one.column in nullable)
    )


def put_aside(rows: pl.DataFrame, path: Path) -> None:
    """Write the rows that have reasons, when there are any."""
    bad = rows.filter(rows[REASONS].is_not_null()).drop(PART, CHANGED)
    if bad.height:
        write_parquet(bad, path)


def good_part(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows without reasons, as they go on."""
    return rows.filter(rows[REASONS].is_null()).drop(PART, CHANGED, REASONS)


def keep(rows: pl.DataFrame, parts: tuple[Partition, ...], arrivals: Path, folder: Path) -> tuple[Partition, ...]:
    """Write the good rows into `folder`, partition by partition; one without a change is linked."""
    import polars as pl

    touched = set(rows.filter(pl.col(CHANGED) | pl.col(REASONS).is_not_null())[PART].unique().to_list())
    kept = []
    for i, part in enumerate(parts):
        path = folder / part.path
        if i not in touched:
            link(arrivals / part.path, path)
            kept.append(part)
            continue
        good = good_part(rows.filter(pl.col(PART) == i))
        if good.height:
            write_parquet(good.sort(EVENT_TIME, maintain_order=True), path)
            kept.append(Partition(part.path, good.height, sha256_of(path)))
    return tuple(kept)
