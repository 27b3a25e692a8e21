"""Files of the data steps: atomic outputs, partitions and their manifest. Does I/O."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import PlatformError, UserError
from tidegate.ingest.arrivals import Manifest, parse_manifest

if TYPE_CHECKING:
    import polars as pl

MANIFEST = "manifest.json"


@contextmanager
def _writing(out: Path) -> Iterator[Path]:
    """A folder beside `out`, gone after the block; what the disk refuses is a PlatformError in one line."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as made:
            yield Path(made)
    except OSError as error:
        raise PlatformError(f"{out} cannot be written: {error.strerror or error}") from error


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """A folder to write into; takes the place of `out` when the block ends well, is removed otherwise."""
    with _writing(out) as beside:
        made = beside / "new"
        made.mkdir()
        yield made
        if out.exists():
            out.rename(beside / "old")
        made.rename(out)


@contextmanager
def atomic_file(out: Path) -> Iterator[Path]:
    """A path to write to; renamed to `out` when the block ends well, is removed otherwise."""
    with _writing(out) as beside:
        made = beside / out.name
        yield made
        made.replace(out)


def to_disk(path: Path) -> None:
    """Returns when a power cut takes neither the file, nor, of a folder, the names in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_parquet(table: pl.DataFrame, path: Path) -> None:
    """Parquet with fixed settings: the same rows give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write_parquet(path, compression="zstd", compression_level=1, statistics=True, row_group_size=100_000)


def read_parquet(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """A Parquet file; UserError in one line when it is missing or no Parquet."""
    import polars as pl

    try:
        return pl.read_parquet(path, columns=columns, glob=False)
    except FileNotFoundError:
        raise UserError(str(path), "no file", "the path of a Parquet file") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(str(path), " ".join(str(error).split())[:160], "a readable Parquet file") from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link(source: Path, target: Path) -> None:
    """The same bytes at `target`: a hard link where the file system has them, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def read_manifest(folder: Path) -> Manifest:
    """The folder's manifest; UserError when there is none."""
    path = folder / MANIFEST
    try:
        return parse_manifest(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UserError(str(path), error.strerror, "the manifest.json of an ingest or a validate step") from None


def read_tables(folder: Path, manifest: Manifest) -> dict[str, pl.DataFrame]:
    """Every table of the folder, its partitions one after the other."""
    import polars as pl

    return {
        name: pl.concat([read_parquet(folder / part.path) for part in parts], how="vertical_relaxed")
        for name, parts in manifest.tables.items()
        if parts
    }
