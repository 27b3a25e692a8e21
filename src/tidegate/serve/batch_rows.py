"""From rows of Parquet partitions to scores: partitions listed, read in batches, encoded, scored on several threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import PlatformError, UserError
from tidegate.serve.loaded import LoadedModel
from tidegate.train.model_file import FeatureSchema

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from tidegate.workload import Workload

READ = 65_536
"""Rows that are read, scored and written as one batch."""
CHUNK = 2048
"""Rows in one run of the model: their input and the model's trees stay in the cache of one core."""

Columns = Sequence[NDArray[Any]]
"""The F features of N rows as the model takes them, one array [N] each."""
Encode = Callable[["pa.RecordBatch"], Columns]


@dataclass(frozen=True)
class Partition:
    """One Parquet file: its URL, and a token that changes when its content does."""

    name: str
    token: str


@dataclass(frozen=True)
class Shape:
    """What is read of a partition. `keys`: the columns that tell its rows apart, written beside each score."""

    keys: tuple[str, ...]
    columns: tuple[str, ...]
    categories: tuple[str, ...] = ()
    by_key: bool = False
    """The rows hold entity keys and a time; their features are joined."""


def partitions(url: str) -> list[Partition]:
    """The Parquet files of a file, a folder or a glob, in order of their names; UserError when there are none."""
    from tidegate.ingest.files import Files

    found = [Partition(part.name, part.token) for part in Files({"input": url}).parts()]
    found = [part for part in found if part.name.endswith(".parquet")] or found
    if not found or any(part.name.endswith(".csv") for part in found):
        raise UserError("--input", url, "a Parquet file, a folder or a glob of Parquet files")
    return found


def open_parquet(name: str, dictionaries: Sequence[str] = ()) -> Any:
    """A pyarrow ParquetFile by URL; UserError in one line when it is none."""
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        fs, path = fsspec.core.url_to_fs(name)
        source = path if "file" in fs.protocol else fs.open(path, "rb")
        return pq.ParquetFile(source, read_dictionary=list(dictionaries), pre_buffer="file" not in fs.protocol)
    except (OSError, ValueError, ImportError, pa.ArrowException) as error:
        raise UserError(name, " ".join(str(error).split())[:160], "a readable Parquet file") from None


def shape_of(columns: Sequence[str], schema: FeatureSchema, workload: Workload, where: str) -> Shape:
    """How rows with these columns are scored: by their features, else by entity keys and a time."""
    from tidegate.features.asof import TIME
    from tidegate.serve.by_key import fields_of

    fields, have = fields_of(workload, schema.names), set(columns)
    entities = (*fields.keys, TIME)
    keys = (workload.key,) if workload.key in have else tuple(name for name in entities if name in have)
    if not keys:
        raise UserError(where, f"columns {', '.join(columns)}", f"{workload.key}, or the keys {', '.join(fields.keys)}")
    if have.issuperset(schema.names):
        texts = tuple(feature.name for feature in schema.features if feature.kind == "category")
        return Shape(keys, tuple(dict.fromkeys([*keys, *schema.names])), tuple(n for n in texts if n not in keys))
    asked = (*entities, *fields.inputs)
    if have.issuperset(asked):
        return Shape(keys, tuple(dict.fromkeys([*keys, *asked])), by_key=True)
    lacking = [name for name in schema.names if name not in have], [name for name in asked if name not in have]
    takes = f"also {', '.join(lacking[0])} (features), or also {', '.join(lacking[1])} (keys)"
    raise UserError(where, f"columns {', '.join(columns)}", takes)


def read(file: Any, shape: Shape, where: str) -> Iterator[pa.RecordBatch]:
    """The rows of an open partition, batch by batch; UserError when a page of it is broken."""
    import pyarrow as pa

    try:
        yield from file.iter_batches(READ, columns=list(shape.columns))
    except (OSError, pa.ArrowException) as error:
        raise UserError(where, " ".join(str(error).split())[:160], "a readable Parquet file") from None


def by_features(schema: FeatureSchema) -> Encode:
    """Encodes rows that hold the features; equal to `FeatureSchema.encode` of the same rows."""
    codes = schema.codes()

    def encode(batch: pa.RecordBatch) -> Columns:
        return [
            numbers(batch.column(feature.name), feature.name)
            if known is None
            else category(batch.column(feature.name), known, feature.name)
            for feature, known in zip(schema.features, codes, strict=True)
        ]

    return encode


def by_keys(schema: FeatureSchema, workload: Workload, tables: dict[str, pl.DataFrame]) -> Encode:
    """Encodes rows that hold entity keys: features joined as of each row's time, then as in training.

    `tables`: every view's offline rows by name.
    """
    import polars as pl

    from tidegate.features import asof
    from tidegate.serve.by_key import fields_of

    views = asof.pick(workload.view_definitions(), tables)
    fields = fields_of(workload, schema.names)
    numeric = [
        feature.name for feature in schema.features if feature.kind == "numeric" and feature.name in fields.inputs
    ]
    asked = list(dict.fromkeys([*fields.keys, *fields.inputs, asof.TIME]))

    def encode(batch: pa.RecordBatch) -> Columns:
        rows = pl.DataFrame(batch.select(asked)).with_columns(pl.col(numeric).cast(pl.Float32))
        return list(schema.encode_frame(workload.derive(asof.join(rows, views))).T)

    return encode


def numbers(column: pa.Array, name: str) -> NDArray[Any]:
    """A numeric column, null as NaN; UserError for one of another kind."""
    import pyarrow as pa

    kind = column.type
    takes = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    if not any(is_kind(kind) for is_kind in takes):
        raise UserError(f"column {name}", str(kind), "numbers")
    if not pa.types.is_float32(kind):
        column = column.cast(pa.float64(), safe=False)
    filled: NDArray[Any] = column.fill_null(float("nan")).to_numpy(zero_copy_only=False)
    return filled


def category(column: pa.Array, codes: dict[str, int], name: str) -> NDArray[Any]:
    """A column of texts as codes; unknown and null are 0. UserError for one of another kind."""
    import pyarrow as pa

    if pa.types.is_null(column.type):
        return np.zeros(len(column))
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    if not (pa.types.is_string(column.type.value_type) or pa.types.is_large_string(column.type.value_type)):
        raise UserError(f"column {name}", str(column.type.value_type), "texts")
    table = np.array([*(codes.get(value, 0) for value in column.dictionary.to_pylist()), 0], np.float32)
    found: NDArray[Any] = table[column.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)]
    return found


def score(model: LoadedModel, columns: Columns) -> NDArray[np.float32]:
    """Probabilities of the positive class for N rows, [N], in calls of `CHUNK` rows.

    By what the service runs, so that a row has the same bits here and there. Raises PlatformError as
    `LoadedModel.score`, and UserError for an infinite number, which /predict does not take either.
    """
    rows, scores = len(columns[0]), np.empty(len(columns[0]), np.float32)
    for start in range(0, rows, CHUNK):
        part = slice(start, min(start + CHUNK, rows))
        encoded = np.empty((part.stop - start, len(columns)), np.float32)
        with np.errstate(over="ignore"):
            for place, column in enumerate(columns):
                encoded[:, place] = column[part]
        if np.isinf(encoded).any():
            name = model.schema.names[int(np.isinf(encoded).any(axis=0).argmax())]
            raise UserError(f"column {name}", "an infinite number", "a finite float32")
        scores[part] = model.run(encoded)
    if not np.isfinite(scores).all():
        raise PlatformError(f"model failed: row {int(np.isfinite(scores).argmin())} of a batch has no finite score")
    return scores


def scored(
    model: LoadedModel, encode: Encode, batches: Iterable[pa.RecordBatch], threads: int
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.float32]]]:
    """Each batch with its scores, in order, scored on `threads` threads while the caller reads and writes."""

    def work(batch: pa.RecordBatch) -> NDArray[np.float32]:
        return score(model, encode(batch))

    waiting: deque[tuple[pa.RecordBatch, Future[NDArray[np.float32]]]] = deque()
    with ThreadPoolExecutor(threads, "score") as pool:
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(work, batch)))
                if len(waiting) > 2 * threads:
                    first, found = waiting.popleft()
                    yield first, found.result()
            while waiting:
                first, found = waiting.popleft()
                yield first, found.result()
        finally:
            pool.shutdown(cancel_futures=True)
