"""The Parquet files behind a Feast source: found, and read with what can matter only. Does I/O.

A source is one file or a folder of them, hive-partitioned (``day=2013-01-01/``) or not, on this machine or behind any
URL that fsspec knows. Files and folders whose names start with ``.`` or ``_`` are no part of it.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from tidegate.errors import UserError

_HIDDEN = re.compile(r"/[._]")
_HIVE = re.compile(r"^([^=/]+)=(.*)$")
WIDER = timedelta(milliseconds=1)


@dataclass(frozen=True)
class ParquetSource:
    """Parquet files in one place.

    Parameters
    ----------
    url: as the user wrote it, for messages.
    path: as `files` takes it: a path on this machine, or the URL without its scheme.
    files: an fsspec file system; None: this machine's.
    """

    url: str
    path: str
    files: Any = None

    @property
    def is_folder(self) -> bool:
        """Whether rows are added as new files: an existing folder, or a name that is not that of a Parquet file."""
        if self.files is None:
            return Path(self.path).is_dir() or not (self.path.endswith(".parquet") or Path(self.path).exists())
        return not self.path.endswith(".parquet") or bool(self.files.isdir(self.path))

    def parts(self) -> list[str]:
        """Paths of the files, sorted; none when there is nothing yet."""
        if self.files is None:
            return sorted(_walk(self.path)) if Path(self.path).is_dir() else [self.path] * Path(self.path).exists()
        found = [self.path] if self.files.isfile(self.path) else self.files.glob(f"{self.path}/**/*.parquet")
        inside = len(self.path.rstrip("/"))
        return sorted(path for path in found if not _HIDDEN.search(path[inside:]))

    def any_part(self) -> str | None:
        """One of the files, found without a look at the others; None when there is nothing yet."""
        if self.files is None and Path(self.path).is_dir():
            return next(_walk(self.path), None)
        return next(iter(self.parts()), None)

    def hive_keys(self, part: str) -> tuple[str, ...]:
        """The columns that stand in the folder names of a part."""
        folders = part[len(self.path.rstrip("/")) + 1 :].split("/")[:-1]
        return tuple(match[1] for match in map(_HIVE.match, folders) if match)


def open_source(url: str, endpoint: str | None = None, credentials: dict[str, str] | None = None) -> ParquetSource:
    """The source at a path or URL; `endpoint` and `credentials` (AWS_... names) are for ``s3://``."""
    scheme, found, rest = url.partition("://")
    if not found or scheme == "file":
        return ParquetSource(url, rest if found else url)
    import fsspec

    options: dict[str, Any] = {}
    if scheme in ("s3", "s3a"):
        given = credentials or {}
        names = {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "token": "AWS_SESSION_TOKEN"}
        options = {option: given[name] for option, name in names.items() if given.get(name)}
        # Another process may have added a part since: a listing from memory would hide it.
        options |= {"use_listings_cache": False} | ({"endpoint_url": endpoint} if endpoint else {})
    try:
        files, path = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise UserError("source", url, f"a path or a URL that fsspec can open ({error})") from None
    return ParquetSource(url, str(path), files)


def scan(source: ParquetSource) -> pl.LazyFrame:
    """The rows, read when collected; only the row groups and columns that the query can need are read."""
    parts = source.parts()
    if not parts:
        raise UserError(source.url, "no Parquet file", "a Parquet file or a folder of them")
    return _scan(source, parts)


def columns_of(source: ParquetSource, part: str) -> pl.Schema:
    """Names and types of the columns of one part, those of its folders' names included."""
    return schema_of(_scan(source, [part]), part)


def _scan(source: ParquetSource, parts: Sequence[str]) -> pl.LazyFrame:
    if source.files is not None:
        return pl.scan_pyarrow_dataset(_dataset(source, parts))
    hive = bool(source.hive_keys(parts[0]))
    if len(parts) == 1:
        return pl.scan_parquet(parts[0], glob=False, hive_partitioning=hive)
    # Files of one schema are one scan: a scan for each of a thousand takes fifty times as long.
    runs = [list(run) for _, run in itertools.groupby(parts, lambda part: tuple(_schema(part).items()))]
    scans = [pl.scan_parquet(run, glob=False, hive_partitioning=hive) for run in runs]
    return scans[0] if len(scans) == 1 else pl.concat(scans, how="diagonal_relaxed")


def rows_in(source: ParquetSource) -> int:
    """How many rows the files have, from their footers."""
    if source.files is None:
        return int(collect([scan(source).select(pl.len())], source.url)[0].item())
    return int(_dataset(source, source.parts()).count_rows())


def collect(frames: Sequence[pl.LazyFrame], url: str) -> list[pl.DataFrame]:
    """The rows of every frame, read in parallel; UserError in one line when a file is torn or no Parquet."""
    try:
        return pl.collect_all(list(frames))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable(url, error) from None


def schema_of(frame: pl.LazyFrame, url: str) -> pl.Schema:
    """Names and types of a frame's columns, from the files' footers."""
    try:
        return frame.collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable(url, error) from None


def unreadable(url: str, error: Exception) -> UserError:
    """What a reader's complaint about a file means to the user."""
    return UserError(url, " ".join(str(error).split())[:160], "readable Parquet")


def within(column: str, kind: pl.DataType, low: datetime | None, high: datetime | None) -> pl.Expr:
    """Rows whose time may lie between two UTC instants: in the column's own type, so that row groups are skipped.

    A millisecond wider at both ends, whatever the unit of `kind`; the exact limits are the caller's.
    """
    zone = getattr(kind, "time_zone", None)

    def limit(time: datetime) -> pl.Expr:
        literal = pl.lit(time if zone else time.replace(tzinfo=None))
        return (literal.dt.convert_time_zone(zone) if zone else literal).cast(kind)

    expression = pl.lit(True)
    if low is not None:
        expression = expression & (pl.col(column) >= limit(low - WIDER))
    if high is not None:
        expression = expression & (pl.col(column) <= limit(high + WIDER))
    return expression


def _walk(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "_")):
                continue
            if entry.is_dir():
                yield from _walk(entry.path)
            elif entry.name.endswith(".parquet"):
                yield entry.path


def _schema(part: str) -> dict[str, pl.DataType]:
    try:
        return pl.read_parquet_schema(part)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable(part, error) from None


def _dataset(source: ParquetSource, parts: Sequence[str]) -> Any:
    """Through pyarrow, which reads byte ranges of any fsspec file system."""
    import pyarrow as pa
    import pyarrow.dataset as dataset
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    options = dataset.FileSystemFactoryOptions(
        partition_base_dir=source.path, partitioning=dataset.HivePartitioning.discover(), exclude_invalid_files=False
    )
    try:
        files = PyFileSystem(FSSpecHandler(source.files))
        factory = dataset.FileSystemDatasetFactory(files, list(parts), dataset.ParquetFileFormat(), options)
        return factory.finish(factory.inspect(promote_options="permissive", fragments=None))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(source.url, error) from None
