"""Rows from files: a folder or a glob of Parquet and CSV files, on a disk or in any store that fsspec reaches."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from tidegate.errors import UserError
from tidegate.ingest.footer import LARGEST, check_sizes, chunks_of
from tidegate.ingest.sources import Parted, Unreadable
from tidegate.workload import Part

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

SUFFIXES = (".parquet", ".csv")
STAMPS = ("ETag", "etag", "md5", "mtime", "LastModified", "last_modified", "ino")
COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x9c", b"\x78\xda", b"BZh", b"PK\x03\x04")
"""How compressed files begin; polars would expand a CSV file of them whatever its size."""
REASON = 160


class Files(Parted):
    """Tables from files: ``Files({"flights": "data/flights", "weather": "s3://bucket/weather/*.csv"})``.

    A folder gives its Parquet and CSV files, at any depth, but those whose name begins with a dot or an underscore; a
    glob gives what it matches. A file is a piece; its token is its size with what the store says of its content
    (ETag, or time of change). CSV is UTF-8 with a head line, an empty field is null. `options` go to fsspec
    (``endpoint_url``, ``key`` and so on); where they are absent, the library's own environment variables count.
    """

    def __init__(self, tables: Mapping[str, str], options: Mapping[str, Any] | None = None) -> None:
        self.tables, self.options = dict(tables), dict(options or {})

    def parts(self) -> Iterable[Part]:
        """Every file that is there now; UserError when a table's place does not exist or does not answer."""
        for table, url in self.tables.items():
            fs, path = _opened(url, self.options)
            for found, info in _listed(fs, path, url):
                yield _part(table, fs, found, info)


def _opened(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError, TypeError) as error:
        raise UserError(f"files {url}", _line(error), "a path or a URL of a file system that fsspec knows") from None
    fs.invalidate_cache()
    return fs, str(path)


def _listed(fs: Any, path: str, url: str) -> list[tuple[str, Mapping[str, Any]]]:
    from fsspec.core import has_magic

    takes = "a folder, a file or a glob that can be listed"
    try:
        found = fs.glob(path, detail=True) if has_magic(path) else fs.find(path, detail=True)
        if not found and not has_magic(path) and not fs.exists(path):
            raise UserError(f"files {url}", "nothing there", takes)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  each file system has errors of its own
        raise UserError(f"files {url}", _line(error), takes) from None
    wanted = {name: info for name, info in found.items() if info.get("type") != "directory"}
    return sorted((name, info) for name, info in wanted.items() if has_magic(path) or name == path or _is_data(name))


def _is_data(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix in SUFFIXES and not path.name.startswith((".", "_"))


def _part(table: str, fs: Any, path: str, info: Mapping[str, Any]) -> Part:
    token = ":".join([str(info.get("size")), *(str(info[stamp]) for stamp in STAMPS if info.get(stamp) is not None)])
    shown = fs.unstrip_protocol(path).encode("utf-8", "backslashreplace").decode()
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return Part(table, shown, token, _refused)
    return Part(table, shown, token, partial(_read, fs, path, shown, int(info.get("size") or 0)))


def _refused() -> pl.DataFrame:
    raise Unreadable("encoding", "the file's name is not UTF-8")


def _read(fs: Any, path: str, shown: str, size: int) -> pl.DataFrame:
    if size > LARGEST:
        raise Unreadable("too_large", f"{size} bytes; at most {LARGEST} are taken")
    try:
        content: bytes = fs.cat_file(path)
    except Exception as error:  # noqa: BLE001  each file system has errors of its own
        raise UserError(f"file {shown}", _line(error), "a file that can be read; run ingest again") from None
    return _csv(content) if path.endswith(".csv") else parquet_rows(content)


def parquet_rows(content: bytes) -> pl.DataFrame:
    """The rows of a Parquet file that nobody vouches for; Unreadable when it is none or would expand beyond measure.

    Read by Arrow: on a page that lies about its size polars ends the whole process, Arrow raises.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        check_sizes(chunks_of(file.metadata), file.metadata.num_rows * file.metadata.num_columns)
        table = file.read(use_threads=False)  # with threads, a fault may end the process when it exits
        str(table.schema)  # decodes every name
        return pl.DataFrame(_checked(table))
    except UnicodeDecodeError:
        raise Unreadable("encoding", "a column's name is not UTF-8") from None
    except _faults(pa.ArrowException) as error:
        raise Unreadable("unreadable", _line(error)) from None


def _faults(*others: type[BaseException]) -> tuple[type[BaseException], ...]:
    """What a reader raises of content; a panic of polars is no Exception."""
    import polars as pl

    return OSError, ValueError, MemoryError, pl.exceptions.PolarsError, pl.exceptions.PanicException, *others


def _checked(table: pa.Table) -> pa.Table:
    """The table, valid through and through; text that is not UTF-8 stays bytes, so that it costs its rows alone."""
    import pyarrow as pa

    try:
        table.validate(full=True)
        return table
    except pa.ArrowInvalid:
        texts = (pa.types.is_string, pa.types.is_large_string)
        raw = [
            pa.field(field.name, pa.large_binary()) if any(is_text(field.type) for is_text in texts) else field
            for field in table.schema
        ]
        table = table.cast(pa.schema(raw))
        table.validate(full=True)
        return table


def _csv(content: bytes) -> pl.DataFrame:
    """Every column as text; a byte that is no UTF-8 becomes the replacement character, which no row may have."""
    import polars as pl

    if content.startswith(COMPRESSED):
        raise Unreadable("unreadable", "compressed; a CSV file is taken as plain text")
    if not content.strip():
        raise Unreadable("unreadable", "empty; a CSV file begins with a line of column names")
    try:
        return pl.read_csv(io.BytesIO(content), infer_schema=False, encoding="utf8-lossy")
    except _faults() as error:
        raise Unreadable("unreadable", _line(error)) from None


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:REASON]
