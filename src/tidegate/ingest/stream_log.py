"""The raw log of a stream: every good event once, in Parquet files that are written once. Does I/O.

``<folder>/<table>/<first>-<last>.parquet`` holds the events of that range of the stream's sequence numbers, with the
time `KNOWN` at which their batch was taken. A file is there whole or not at all, and on disk before the stream is told
that its events were taken; after a crash the numbers up to the newest file's last are skipped. So nothing is lost and
nothing doubled, wherever the process was killed. Small files that are needed no more one by one are merged; a reader
that meets both takes the merged one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import PlatformError
from tidegate.ingest.disk import read_parquet, to_disk
from tidegate.workload import EVENT_TIME, Part

if TYPE_CHECKING:
    import polars as pl

KNOWN = "known"
"""When the batch of an event was taken: UTC microseconds, rising from batch to batch."""

FILES, ROWS = 64, 100_000
"""So many files of fewer rows than that are merged into one."""

MERGES = 5
"""So often a reader looks again when files were merged under its hands."""


@dataclass(frozen=True)
class Piece:
    """One file of the log and its range of sequence numbers."""

    first: int
    last: int
    path: Path


def write_durably(path: Path, rows: pl.DataFrame) -> None:
    """The file as a whole, on disk with its name when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        rows.write_parquet(file, compression="zstd", compression_level=1)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    to_disk(path.parent)


class StreamLog:
    """The log in one folder; one process writes it, any number read it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def pieces(self, table: str) -> list[Piece]:
        """The files of a table in order; none that is contained in another one."""
        found = sorted((_piece(path) for path in (self._folder / table).glob("[0-9]*.parquet")), key=_order)
        kept: list[Piece] = []
        for piece in found:
            if not kept or piece.last > kept[-1].last:
                kept.append(piece)
        return kept

    def last(self, table: str) -> int:
        """The newest sequence number that is on disk; 0 when there is none."""
        return max((piece.last for piece in self.pieces(table)), default=0)

    def append(self, table: str, first: int, last: int, rows: pl.DataFrame) -> None:
        """Add the good events of a range; they are on disk when this returns. Rows carry `KNOWN`."""
        write_durably(self._folder / table / f"{first:015d}-{last:015d}.parquet", rows)

    def rows(self, table: str, since: datetime | None = None) -> pl.DataFrame | None:
        """Every event of a table taken after `since`, in the order in which they were taken; None without any file."""
        import polars as pl

        for _ in range(MERGES):
            paths = [piece.path for piece in self.pieces(table)]
            with contextlib.suppress(FileNotFoundError):  # merged between the two: look again
                rows = pl.concat([pl.scan_parquet(path) for path in paths]) if paths else None
                if rows is None:
                    return None
                return rows.collect() if since is None else rows.filter(pl.col(KNOWN) > since).collect()
        raise PlatformError(f"{self._folder / table}: its files change faster than they can be read")

    def merge(self, table: str, until: datetime) -> None:
        """Merge small files with nothing taken after `until`, where there are many of them."""
        import polars as pl

        run: list[Piece] = []
        for piece in reversed(self.pieces(table)):  # those before a large one are large
            small = _summary(piece.path)
            if small["rows"] >= ROWS:
                break
            run = [piece, *run] if small["known"] <= until else []
        if len(run) >= FILES:
            merged = pl.concat([read_parquet(piece.path) for piece in run], how="vertical_relaxed")
            self.append(table, run[0].first, run[-1].last, merged)
            for piece in run:
                piece.path.unlink()


class StreamSource:
    """The log as a source of a workload: its tables are those of the stream; a file is handed over once."""

    def __init__(self, folder: Path, tables: Sequence[str], keys: dict[str, tuple[str, ...]]) -> None:
        self._log, self._tables, self._keys = StreamLog(folder), tuple(tables), keys

    def arrivals(self, until: datetime) -> dict[str, pl.DataFrame]:
        """Every event known at `until`, each key once, by event time, then by key."""
        import polars as pl

        found = {}
        for table in self._tables:
            rows, key = self._log.rows(table), self._keys[table]
            if rows is not None:
                once = rows.drop(KNOWN).unique(key, keep="first", maintain_order=True)
                found[table] = once.filter(pl.col(EVENT_TIME) <= until).sort(list(dict.fromkeys((EVENT_TIME, *key))))
        return found

    def parts(self) -> Iterable[Part]:
        """Every file that there is now."""
        for table in self._tables:
            for piece in self._log.pieces(table):
                span = f"{piece.first}-{piece.last}"
                yield Part(table, f"{table}/{span}", span, lambda path=piece.path: read_parquet(path).drop(KNOWN))  # type: ignore[misc]


def _summary(path: Path) -> dict[str, Any]:
    """Rows of a file and when the newest was taken."""
    import polars as pl

    told = pl.scan_parquet(path).select(rows=pl.len(), known=pl.col(KNOWN).max()).collect()
    return told.row(0, named=True)


def _piece(path: Path) -> Piece:
    first, _, last = path.stem.partition("-")
    return Piece(int(first), int(last), path)


def _order(piece: Piece) -> tuple[int, int]:
    return piece.first, -piece.last
