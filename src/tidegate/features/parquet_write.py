"""Rows added to the Parquet files behind a Feast source: whole or not at all, and once. Does I/O."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from tidegate.errors import PlatformError
from tidegate.features.parquet_source import ParquetSource, collect, scan


def add_part(source: ParquetSource, rows: pl.DataFrame, partition_by: Sequence[str] = ()) -> list[str]:
    """Write rows as new files of a folder, named by the SHA-256 of their bytes, and return the files' paths.

    What is there already is left alone. Each file appears whole or not at all. With `partition_by` there is one for
    each value of those columns, in hive folders; otherwise there is exactly one.
    """
    groups = rows.partition_by(list(partition_by), as_dict=True, include_key=False) if partition_by else {(): rows}
    paths = []
    for values, group in groups.items():
        folders = [f"{name}={value}" for name, value in zip(partition_by, values, strict=True)]
        content = parquet_bytes(group)
        path = "/".join([source.path.rstrip("/"), *folders, f"{hashlib.sha256(content).hexdigest()}.parquet"])
        if not _exists(source, path):
            put(source, path, content)
        paths.append(path)
    return paths


def add_to_file(source: ParquetSource, rows: pl.DataFrame) -> None:
    """Rewrite a file with rows at its end. On this machine writers take turns; a URL takes one writer at a time."""
    with _turn(source):
        before = collect([scan(source)], source.url)[0] if source.any_part() else rows.clear()
        put(source, source.path, parquet_bytes(pl.concat([before, rows])))


def put(source: ParquetSource, path: str, content: bytes) -> None:
    """Bytes at a path of the source's file system: readers see the old bytes or the new, never a part."""
    try:
        if source.files is not None:
            source.files.makedirs(path.rpartition("/")[0], exist_ok=True)
            source.files.pipe_file(path, content)
            return
        _put_here(Path(path), content)
    except OSError as error:
        raise PlatformError(f"{path} cannot be written: {error.strerror or error}") from error


def remove(source: ParquetSource, path: str) -> None:
    """One file, gone."""
    if source.files is None:
        Path(path).unlink(missing_ok=True)
    else:
        source.files.rm_file(path)


def parquet_bytes(rows: pl.DataFrame) -> bytes:
    """The file for these rows; the same rows give the same bytes, however they were chunked."""
    memory = io.BytesIO()
    rows.rechunk().write_parquet(
        memory, compression="zstd", compression_level=1, statistics=True, row_group_size=100_000
    )
    return memory.getvalue()


def _put_here(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden and without the suffix: no reader of the folder takes a file that is still being written.
    made = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with made.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)


@contextlib.contextmanager
def _turn(source: ParquetSource) -> Iterator[None]:
    if source.files is not None:
        yield
        return
    folder = Path(source.path).parent
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _exists(source: ParquetSource, path: str) -> bool:
    return Path(path).exists() if source.files is None else bool(source.files.exists(path))
