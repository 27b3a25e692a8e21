"""What a workload has taken from its parted source: its rows by partition, and the ledger that says from which pieces.

Under ``STATE/ingest/<workload>/<digest of the contract's columns>/``: ``ledger.json``, ``<table>/`` with one file a
partition, ``aside/`` with the rows that did not fit. A file's name has its content's digest, and files are never
changed. The ledger is replaced at once after its files are on disk: whatever a killed ingest has written beside it
belongs to nobody, and the next one sweeps it away. Does I/O.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import PlatformError
from tidegate.ingest.disk import atomic_file, sha256_of, to_disk, write_parquet

if TYPE_CHECKING:
    import polars as pl

    from tidegate.validate.contract import Contract

LEDGER = "ledger.json"
FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """One partition of the rows taken: its file, rows, SHA-256, bytes, and its first and last event time (ISO)."""

    file: str
    rows: int
    sha256: str
    size: int
    first: str
    last: str


@dataclass(frozen=True)
class Seen:
    """A piece that was taken: its table, token and good rows, what was wrong with it, and its rows put aside.

    `aside` is the file of these `aside_rows`; an `unreadable` piece was put aside whole.
    """

    table: str
    token: str
    rows: int
    faults: tuple[Mapping[str, Any], ...] = ()
    aside: str = ""
    aside_rows: int = 0
    unreadable: bool = False


@dataclass(frozen=True)
class Ledger:
    """Every piece taken, by name, and the partitions, by table and name."""

    parts: Mapping[str, Seen] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, Kept]] = field(default_factory=dict)

    def with_parts(self, parts: Mapping[str, Seen]) -> Ledger:
        """The ledger with these pieces, newer ones in the place of older ones."""
        return replace(self, parts={**self.parts, **parts})

    def with_partitions(self, table: str, kept: Mapping[str, Kept]) -> Ledger:
        """The ledger with these partitions of a table."""
        return replace(self, tables={**self.tables, table: {**self.tables.get(table, {}), **kept}})

    @property
    def files(self) -> set[str]:
        """Every file that the ledger names."""
        kept = {one.file for parts in self.tables.values() for one in parts.values()}
        return kept | {seen.aside for seen in self.parts.values() if seen.aside}


def place(state: Path, workload: str, contract: Contract, unit: str) -> Path:
    """The folder of what was taken; another one when the contract's columns or the unit of partitions change."""
    tables = {
        name: [[(column.name, column.kind, column.nullable) for column in table.columns], table.key]
        for name, table in sorted(contract.tables.items())
    }
    digest = hashlib.sha256(json.dumps([FORMAT, unit, tables]).encode()).hexdigest()[:12]
    return state / "ingest" / workload.replace(":", ".") / digest


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Wait for every other ingest of this folder to end, and keep others waiting; a killed process lets go."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "lock").open("w")
    except OSError as error:
        raise PlatformError(f"{folder} cannot be written: {error.strerror or error}") from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def load(folder: Path) -> Ledger:
    """The ledger, empty where there is none; PlatformError when it or a file of it is damaged."""
    try:
        read = json.loads((folder / LEDGER).read_text(encoding="utf-8"))
        parts = {name: Seen(**{**seen, "faults": tuple(seen["faults"])}) for name, seen in read["parts"].items()}
        tables = {
            table: {name: Kept(**kept) for name, kept in partitions.items()}
            for table, partitions in read["tables"].items()
        }
    except FileNotFoundError:
        return Ledger()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder / LEDGER) from error
    for partitions in tables.values():
        for kept in partitions.values():
            _check(folder / kept.file, kept.size)
    return Ledger(parts, tables)


def save(folder: Path, ledger: Ledger) -> None:
    """Replace the ledger at once; it is on disk when this returns."""
    tables = {table: {name: vars(kept) for name, kept in parts.items()} for table, parts in ledger.tables.items()}
    text = json.dumps({"parts": {name: vars(seen) for name, seen in ledger.parts.items()}, "tables": tables})
    with atomic_file(folder / LEDGER) as made:
        made.write_text(text, encoding="utf-8")
        to_disk(made)
    to_disk(folder)


def keep(folder: Path, table: str, name: str, rows: pl.DataFrame) -> tuple[str, str]:
    """Write rows as ``<table>/<name>-<digest>.parquet``, on disk when this returns; gives the file and its SHA-256."""
    (folder / table).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as made:
        path = Path(made) / "rows.parquet"
        write_parquet(rows, path)
        to_disk(path)
        digest = sha256_of(path)
        file = f"{table}/{name}-{digest[:16]}.parquet"
        path.replace(folder / file)
    return file, digest


def sweep(folder: Path, ledger: Ledger) -> None:
    """Remove what no ledger names: older contents of partitions, and what a killed ingest left."""
    known = {*ledger.files, LEDGER, "lock"}
    for root, _, files in os.walk(folder):
        for path in (Path(root) / name for name in files):
            if path.relative_to(folder).as_posix() not in known:
                path.unlink()
    for path in folder.iterdir():
        if path.is_dir() and path.name.startswith("."):
            path.rmdir()


def _check(path: Path, size: int) -> None:
    try:
        found = path.stat().st_size
    except OSError:
        found = -1
    if found != size:
        raise _damaged(path)


def _damaged(path: Path) -> PlatformError:
    return PlatformError(f"{path} is damaged or gone; remove {path.parent} and ingest takes everything again")
