"""The ingest step: every row that had arrived by a time, as partitions by month or day of event time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.ingest import taken
from tidegate.ingest.arrivals import Manifest, Partition, by_partition, format_time, parse_until
from tidegate.ingest.disk import MANIFEST, atomic_folder, link, read_parquet, sha256_of, write_parquet
from tidegate.ingest.take import Took, take
from tidegate.ingest.taken import Kept, Ledger
from tidegate.workload import EVENT_TIME, PartedSource, Workload, load_workload

if TYPE_CHECKING:
    import polars as pl

REJECTED = "rejected"


@dataclass(frozen=True)
class IngestRecord:
    """What ingest did: rows by table, and of a parted source what was new.

    `parts`: pieces that were read; `duplicates`: rows of theirs that were there already or came twice; `rejected`:
    rows put aside, of all pieces taken so far; `unreadable`: pieces put aside whole.
    """

    workload: str
    until: str
    rows: int
    tables: dict[str, int]
    parts: int = 0
    duplicates: int = 0
    rejected: int = 0
    unreadable: int = 0


def ingest(workload: str, until: str, out: Path, state: Path | None = None) -> IngestRecord:
    """Write ``<table>/<partition>.parquet`` and ``manifest.json`` into the folder `out`.

    `until` is an ISO 8601 time (UTC where it has no offset); rows with a later event time are left out. What a parted
    source has given is kept under `state`, without one everything is read again; what did not fit is put into
    ``rejected/`` and named in ``rejected.json``. Raises UserError when the source cannot be read.
    """
    limit, known = parse_until(until), load_workload(workload)
    with atomic_folder(out) as folder:
        if isinstance(known.source, PartedSource):
            with _kept_in(state, out) as place:
                return _take(known, known.source, workload, limit, folder, place)
        tables = known.source.arrivals(limit)
        written = {name: _write(table, name, known, folder) for name, table in tables.items()}
        return _finish(workload, limit, written, folder)


def _kept_in(state: Path | None, out: Path) -> AbstractContextManager[str | Path]:
    return nullcontext(state) if state else tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-")


def _take(
    known: Workload, source: PartedSource, name: str, limit: datetime, folder: Path, state: str | Path
) -> IngestRecord:
    contract = known.contract()
    kept = taken.place(Path(state), name, contract, known.partition)
    with taken.held(kept):
        ledger, took = take(source, contract, known.partition, kept, datetime.now(UTC))
        written = {table: _put(ledger.tables.get(table, {}), table, kept, limit, folder) for table in contract.tables}
        rejected, unreadable = _put_aside(ledger, kept, folder)
    return _finish(name, limit, written, folder, took, rejected, unreadable)


def _finish(
    workload: str,
    limit: datetime,
    tables: Mapping[str, tuple[Partition, ...]],
    folder: Path,
    took: Took | None = None,
    rejected: int = 0,
    unreadable: int = 0,
) -> IngestRecord:
    """Write the manifest; the record of the whole."""
    manifest, took = Manifest(workload, format_time(limit), dict(tables)), took or Took()
    (folder / MANIFEST).write_text(manifest.dump(), encoding="utf-8")
    rows = {name: sum(part.rows for part in parts) for name, parts in tables.items()}
    return IngestRecord(
        workload, manifest.until, manifest.rows, rows, took.parts, took.duplicates, rejected, unreadable
    )


def _write(table: pl.DataFrame, name: str, known: Workload, folder: Path) -> tuple[Partition, ...]:
    """A table of a source without parts, partition by partition."""
    return tuple(_file(rows, f"{name}/{part}.parquet", folder) for part, rows in by_partition(table, known.partition))


def _file(rows: pl.DataFrame, path: str, folder: Path) -> Partition:
    write_parquet(rows, folder / path)
    return Partition(path, rows.height, sha256_of(folder / path))


def _put(kept: Mapping[str, Kept], table: str, place: Path, limit: datetime, folder: Path) -> tuple[Partition, ...]:
    """The partitions of a table up to `limit`: whole ones are linked, the one that `limit` cuts is written."""
    import polars as pl

    parts = []
    for name, one in sorted(kept.items()):
        path = f"{table}/{name}.parquet"
        if parse_until(one.last) <= limit:
            link(place / one.file, folder / path)
            parts.append(Partition(path, one.rows, one.sha256))
        elif parse_until(one.first) <= limit:
            parts.append(_file(read_parquet(place / one.file).filter(pl.col(EVENT_TIME) <= limit), path, folder))
    return tuple(parts)


def _put_aside(ledger: Ledger, place: Path, folder: Path) -> tuple[int, int]:
    """Write ``rejected/`` and ``rejected.json`` where something was wrong; rows put aside, pieces put aside whole."""
    faults = [fault for _, seen in sorted(ledger.parts.items()) for fault in seen.faults]
    seen = ledger.parts.values()
    for aside in sorted(one.aside for one in seen if one.aside):
        link(place / aside, folder / REJECTED / Path(aside).name)
    if faults:
        (folder / f"{REJECTED}.json").write_text(json.dumps(faults, indent=1) + "\n", encoding="utf-8")
    return sum(one.aside_rows for one in seen), sum(one.unreadable for one in seen)
