"""The ingest step: every row that had arrived by a time, as partitions by month."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tidegate.ingest.arrivals import Manifest, Partition, by_month, format_time, parse_until
from tidegate.ingest.sources import MANIFEST, atomic_folder, sha256_of, write_parquet
from tidegate.workload import load_workload


@dataclass(frozen=True)
class IngestRecord:
    """What ingest did: rows by table, and the newest event time of all."""

    workload: str
    until: str
    rows: int
    tables: dict[str, int]


def ingest(workload: str, until: str, out: Path) -> IngestRecord:
    """Write ``<table>/<YYYY-MM>.parquet`` and ``manifest.json`` into the folder `out`.

    `until` is an ISO 8601 time (UTC where it has no offset); rows with a later event time are left out. Raises
    UserError when the source cannot be read.
    """
    limit = parse_until(until)
    tables = load_workload(workload).source.arrivals(limit)
    with atomic_folder(out) as folder:
        written = {}
        for name, table in tables.items():
            parts = []
            for month, rows in by_month(table):
                path = folder / name / f"{month}.parquet"
                write_parquet(rows, path)
                parts.append(Partition(f"{name}/{month}.parquet", rows.height, sha256_of(path)))
            written[name] = tuple(parts)
        manifest = Manifest(workload, format_time(limit), written)
        (folder / MANIFEST).write_text(manifest.dump(), encoding="utf-8")
    rows_by_table = {name: table.height for name, table in tables.items()}
    return IngestRecord(workload, manifest.until, manifest.rows, rows_by_table)
