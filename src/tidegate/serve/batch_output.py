"""Where predictions are written: a folder of Parquet files, a CSV file, a table of a database.

An output takes one partition at a time, whole or not at all, and remembers what each was made of. So a run that was
killed goes on after the last partition that is there, and every row is in the output exactly once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from tidegate.errors import PlatformError, UserError

if TYPE_CHECKING:
    import pyarrow as pa

FOOTER = b"tidegate.batch"
"""Key of a Parquet file's metadata that holds `Made` as JSON."""
TABLES = ("sqlite", "postgresql")
TAKES = "a folder for Parquet files, a file NAME.csv, or the SQLAlchemy URL of a database with #table"


@dataclass(frozen=True)
class Made:
    """What a partition's predictions were made of. `at`: seconds since the epoch, the time of the run."""

    partition: str
    token: str
    digest: str
    at: float


class Output(Protocol):
    """Where predictions go."""

    def begin(self) -> None:
        """Nobody else writes: remove what killed runs left half-written."""

    def rows(self, made: Made) -> int | None:
        """How many rows it has of this partition, made of exactly this; None when it has not."""

    def write(self, made: Made, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Take a partition's rows in place of earlier ones of the same partition; all of them or none."""

    def finish(self) -> None:
        """Every partition is there: make of them what is read."""


def open_output(place: str) -> Output:
    """The output at a place as a person writes it; UserError when it cannot be one."""
    url, _, table = place.partition("#")
    kind = re.split(r"[+:]", url, maxsplit=1)[0]
    if "://" in url and kind in TABLES:
        from tidegate.serve.batch_table import Table

        return Table(url, table)
    if table:
        raise UserError("--output", place, f"{TAKES} (sqlite:// or postgresql://)")
    return CsvFile(place) if place.endswith(".csv") else Folder(place)


class Folder:
    """A folder of Parquet files, one a partition, at any place that fsspec reaches.

    What a file was made of stands in its own footer.
    """

    def __init__(self, place: str) -> None:
        import fsspec

        try:
            self.fs, path = fsspec.core.url_to_fs(place)
        except (ImportError, ValueError, TypeError) as error:
            raise UserError("--output", place, f"{TAKES} ({' '.join(str(error).split())[:100]})") from None
        self.place, self.path = place, str(path).rstrip("/")

    def begin(self) -> None:
        """As `Output.begin`."""
        self.clear("")

    def clear(self, name: str) -> None:
        """Remove what was half-written of files whose name begins so."""
        with _told(self.path):
            for path in self.fs.glob(f"{self.path}/.{name}*.writing"):
                self.fs.rm(path)

    def finish(self) -> None:
        """As `Output.finish`: nothing is left to be done."""

    def rows(self, made: Made) -> int | None:
        """As `Output.rows`."""
        import pyarrow.parquet as pq

        path = self._file(made)
        if not self.fs.exists(path):
            return None
        with _told(path), self.fs.open(path, "rb") as file:
            footer = pq.ParquetFile(file).metadata
        found = (footer.metadata or {}).get(FOOTER)
        return int(footer.num_rows) if found == _footer(made)[FOOTER] else None

    def write(self, made: Made, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """As `Output.write`: beside its place, then renamed."""
        path = self._file(made)
        with self.beside(path) as beside, self.fs.open(beside, "wb") as file:
            write_parquet(file, schema, batches, _footer(made))

    def files(self) -> list[str]:
        """Every finished file, in order."""
        return sorted(str(path) for path in self.fs.glob(f"{self.path}/*.parquet"))

    def _file(self, made: Made) -> str:
        """``part-000-1f3a9c2e.parquet``: the partition's name, and a digest of its whole URL."""
        stem = re.sub(r"[^A-Za-z0-9=_-]", "-", PurePosixPath(made.partition).name.removesuffix(".parquet"))[:80]
        return f"{self.path}/{stem}-{hashlib.sha256(made.partition.encode()).hexdigest()[:8]}.parquet"

    @contextlib.contextmanager
    def beside(self, path: str) -> Iterator[str]:
        """A path to write to; renamed to `path` when the block ends well, removed otherwise."""
        folder, name = path.rsplit("/", 1)
        beside = f"{folder}/.{name}.{os.getpid()}.writing"
        with _told(path):
            self.fs.makedirs(folder, exist_ok=True)
            try:
                yield beside
                self.fs.mv(beside, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    self.fs.rm(beside)
                raise


class CsvFile:
    """One CSV file. Its partitions are kept as Parquet in a hidden folder beside it, and put together at the end."""

    def __init__(self, place: str) -> None:
        folder, slash, self._name = place.rpartition("/")
        self._parts, self._folder = Folder(f"{folder}{slash}.{self._name}.parts"), Folder(folder or slash or ".")
        self.rows, self.write = self._parts.rows, self._parts.write

    def begin(self) -> None:
        """As `Output.begin`."""
        self._parts.begin()
        self._folder.clear(self._name)

    def finish(self) -> None:
        """Write the file anew, beside its place, and rename it."""
        folder = self._folder
        with folder.beside(f"{folder.path}/{self._name}") as beside, folder.fs.open(beside, "wb") as file:
            head = True
            for batch in self._batches():
                _write_csv(batch, file, head)
                head = False

    def _batches(self) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        for name in self._parts.files():
            with self._parts.fs.open(name, "rb") as part:
                yield from pq.ParquetFile(part).iter_batches()


def _write_csv(batch: pa.RecordBatch, file: Any, head: bool) -> None:
    import pyarrow.csv

    pyarrow.csv.write_csv(as_text(batch), file, pyarrow.csv.WriteOptions(include_header=head))


def as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with its times as ISO 8601 in UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for place, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type):
            whole = pc.all(pc.equal(pc.subsecond(batch.column(place)), 0)).as_py() is not False
            seconds = batch.column(place).cast(pa.timestamp("s" if whole else "us", "UTC"), safe=False)
            batch = batch.set_column(place, field.name, pc.strftime(seconds, "%Y-%m-%dT%H:%M:%SZ"))
    return batch


def write_parquet(
    file: Any, schema: pa.Schema, batches: Iterable[pa.RecordBatch], footer: Mapping[bytes, bytes]
) -> None:
    """A row group a batch, with fixed settings: the same rows give the same bytes."""
    import pyarrow.parquet as pq

    # keys and scores are seldom there twice: without dictionaries for them this costs half of the writer's defaults
    # columns of one value come as dictionaries; readers see plain texts
    keys, constants = schema.names[:-4], schema.names[-3:]
    options = {"compression": "snappy", "use_dictionary": constants, "write_statistics": [*keys, "scored_at"]}
    with pq.ParquetWriter(file, schema, store_schema=False, **options) as writer:
        for batch in batches:
            writer.write_batch(batch)
        writer.add_key_value_metadata(footer)


def _footer(made: Made) -> Mapping[bytes, bytes]:
    return {FOOTER: json.dumps(asdict(made), sort_keys=True).encode()}


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """What a file system refuses, in one line of ours."""
    try:
        yield
    except OSError as error:
        raise PlatformError(
            f"{path} cannot be written: {error.strerror or ' '.join(str(error).split())[:160]}"
        ) from None


def columns_of(keys: Sequence[pa.Field]) -> pa.Schema:
    """The columns of every output: the keys, then score, model, digest and scored_at."""
    import pyarrow as pa

    constant = pa.dictionary(pa.int32(), pa.string())
    own = [
        pa.field("score", pa.float64()),
        pa.field("model", constant),
        pa.field("digest", constant),
        pa.field("scored_at", pa.timestamp("us", "UTC")),
    ]
    return pa.schema([*keys, *own])
