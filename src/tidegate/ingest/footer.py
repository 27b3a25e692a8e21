"""What a Parquet file says of itself, looked at before anything of it is decoded. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tidegate.ingest.sources import Unreadable

RATIO = 500
"""How often larger than compressed a column may be; columns of real tables stay under 100."""
SMALL = 2**20
"""A column of at most so many bytes may have any ratio: a short constant column compresses that well."""
LARGEST = 2 * 2**30
"""Bytes of one file, uncompressed, and of its rows decoded: what a laptop's memory holds."""
CELL = 8
"""Bytes that one decoded value takes at least."""


@dataclass(frozen=True)
class Chunk:
    """One column of one row group: its bytes compressed and uncompressed."""

    column: str
    compressed: int
    uncompressed: int


def check_sizes(chunks: Iterable[Chunk], cells: int) -> None:
    """Raise Unreadable when the file would expand to too much; `cells`: rows times columns."""
    whole = 0
    for chunk in chunks:
        whole += chunk.uncompressed
        if chunk.uncompressed > SMALL and chunk.uncompressed > RATIO * max(1, chunk.compressed):
            ratio = chunk.uncompressed // max(1, chunk.compressed)
            raise Unreadable(
                "expands", f"{ratio} times its compressed size; at most {RATIO} times is taken", chunk.column
            )
    if max(whole, cells * CELL) > LARGEST:
        raise Unreadable("too_large", f"{max(whole, cells * CELL)} bytes uncompressed; at most {LARGEST} are taken")


def chunks_of(metadata: Any) -> Iterable[Chunk]:
    """The chunks of a ``pyarrow.parquet.FileMetaData``."""
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group)
        for number in range(rows.num_columns):
            column = rows.column(number)
            yield Chunk(column.path_in_schema, column.total_compressed_size, column.total_uncompressed_size)
