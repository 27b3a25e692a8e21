"""Take what is new from a parted source: read it, make it conform, merge it into the partitions that it touches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tidegate.errors import UserError
from tidegate.ingest import taken
from tidegate.ingest.arrivals import by_partition, format_time
from tidegate.ingest.conform import conform, in_order
from tidegate.ingest.disk import read_parquet
from tidegate.ingest.sources import Unreadable
from tidegate.ingest.taken import Kept, Ledger, Seen
from tidegate.validate.check import Violation
from tidegate.workload import EVENT_TIME, Part, PartedSource

if TYPE_CHECKING:
    import polars as pl

    from tidegate.validate.contract import Contract, TableContract

BATCH = 1_000_000
"""Rows after which what was read is merged and the ledger saved: this bounds memory and what a kill undoes."""


@dataclass(frozen=True)
class Took:
    """What was new: pieces read, and rows that were there already or came twice."""

    parts: int = 0
    duplicates: int = 0


@dataclass(frozen=True)
class Fresh:
    """One piece, read: its good rows, none when it is put aside whole, and its entry in the ledger."""

    part: Part
    rows: pl.DataFrame | None
    seen: Seen


def take(
    source: PartedSource, contract: Contract, unit: Literal["month", "day"], folder: Path, now: datetime
) -> tuple[Ledger, Took]:
    """Bring the ledger in `folder` up to date with the source; only pieces with an unknown token are read.

    The caller holds the folder. Raises UserError when the source does not answer or has a table without a contract.
    """
    ledger = taken.load(folder)
    new = [part for part in _known_tables(source.parts(), contract) if _is_new(part, ledger)]
    duplicates = 0
    for batch in _batches(_read(part, contract.tables[part.table], folder, now) for part in new):
        dropped = 0
        for name, table in contract.tables.items():
            rows = [fresh.rows for fresh in batch if fresh.part.table == name and fresh.rows is not None]
            if rows:
                kept, twice = _merge(rows, ledger.tables.get(name, {}), name, table, unit, folder)
                ledger, dropped = ledger.with_partitions(name, kept), dropped + twice
        again = sum(ledger.parts[fresh.part.name].rows for fresh in batch if fresh.part.name in ledger.parts)
        duplicates += max(0, dropped - again)
        ledger = ledger.with_parts({fresh.part.name: fresh.seen for fresh in batch})
        taken.save(folder, ledger)
    taken.sweep(folder, ledger)
    return ledger, Took(len(new), duplicates)


def _known_tables(parts: Iterable[Part], contract: Contract) -> Iterator[Part]:
    for part in parts:
        if part.table not in contract.tables:
            raise UserError(part.name, part.table, f"a table of the contract: {', '.join(contract.tables)}")
        yield part


def _is_new(part: Part, ledger: Ledger) -> bool:
    seen = ledger.parts.get(part.name)
    return seen is None or (seen.table, seen.token) != (part.table, part.token)


def _batches(pieces: Iterable[Fresh]) -> Iterator[list[Fresh]]:
    batch: list[Fresh] = []
    rows = 0
    for fresh in pieces:
        batch.append(fresh)
        rows += fresh.seen.rows
        if rows >= BATCH:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def _read(part: Part, table: TableContract, folder: Path, now: datetime) -> Fresh:
    """Read one piece; what is wrong with it goes into its entry, rows that do not fit into a file of their own."""
    try:
        came = part.read()
    except Unreadable as error:
        fault = Violation(error.check, error.column, 0, (error.why,))
        return Fresh(part, None, Seen(part.table, part.token, 0, (_fault(part, fault),), unreadable=True))
    found = conform(came, table, now)
    aside = ""
    if found.aside.height:
        digest = hashlib.sha256(f"{part.name}\0{part.token}".encode()).hexdigest()[:16]
        aside, _ = taken.keep(folder, "aside", f"{part.table}-{digest}", found.aside)
    faults = tuple(_fault(part, violation) for violation in found.violations)
    seen = Seen(part.table, part.token, found.rows.height, faults, aside, found.aside.height)
    return Fresh(part, found.rows, seen)


def _fault(part: Part, violation: Violation) -> Mapping[str, Any]:
    return {"part": part.name, "table": part.table, **asdict(violation)}


def _merge(
    rows: list[pl.DataFrame],
    before: Mapping[str, Kept],
    name: str,
    table: TableContract,
    unit: Literal["month", "day"],
    folder: Path,
) -> tuple[dict[str, Kept], int]:
    """The partitions that the rows touch, written anew, and how many rows were there already or came twice."""
    import polars as pl

    ordered = in_order(pl.concat(rows), table)
    made, dropped = {}, sum(one.height for one in rows) - ordered.height
    for partition, new in by_partition(ordered, unit):
        whole = new
        if (old := before.get(partition)) is not None:
            whole = in_order(pl.concat([read_parquet(folder / old.file), new]), table)
            dropped += old.rows + new.height - whole.height
            if whole.height == old.rows:
                continue
        file, digest = taken.keep(folder, name, partition, whole)
        times = [format_time(time) for time in (whole[EVENT_TIME][0], whole[EVENT_TIME][-1])]
        made[partition] = Kept(file, whole.height, digest, (folder / file).stat().st_size, *times)
    return made, dropped
