"""Looks for texts and numbers in every file of a folder: in its bytes, and in what it holds once it is decoded."""

from __future__ import annotations

import gzip
import io
import sqlite3
import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl


def found_in(folder: Path, texts: Sequence[str], numbers: Sequence[float]) -> list[tuple[str, str | float]]:
    """(file, value) of everything that is found; files are read whole, links are followed."""
    hits = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            for content in _forms(path, path.read_bytes()):
                hits += [(str(path.relative_to(folder)), value) for value in _values(content, texts, numbers)]
    return hits


def signs_of(number: float) -> list[bytes]:
    """How a number may stand in bytes: its first digits as text, its bits in 8 and in 4 bytes."""
    text = repr(number)[:8].encode()
    return [text, struct.pack("<d", number), struct.pack(">d", number), struct.pack("<f", number)]


def _values(content: bytes, texts: Sequence[str], numbers: Sequence[float]) -> list[str | float]:
    words = [text for text in texts if any(text.encode(code) in content for code in ("utf-8", "utf-16-le"))]
    return [*words, *(number for number in numbers if any(sign in content for sign in signs_of(number)))]


def _forms(path: Path, content: bytes) -> Iterator[bytes]:
    """The bytes themselves, and what they decode to as text."""
    yield content
    if content[:4] == b"PAR1":
        frame = pl.read_parquet(io.BytesIO(content))
        floats = frame.select(pl.selectors.float().cast(pl.Float64))
        yield frame.write_csv().encode()
        yield np.ascontiguousarray(floats.to_numpy(), "<f8").tobytes()
    elif content[:15] == b"SQLite format 3":
        yield _database(path)
    elif content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    elif content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            yield from (packed.read(name) for name in packed.namelist())


def _database(path: Path) -> bytes:
    """Every cell of every table, with what the write-ahead log holds."""
    with sqlite3.connect(path) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [row for name in names for row in database.execute(f'SELECT * FROM "{name}"')]  # noqa: S608 - names of its own
    return b"\n".join(cell if isinstance(cell, bytes) else repr(cell).encode() for row in rows for cell in row)
