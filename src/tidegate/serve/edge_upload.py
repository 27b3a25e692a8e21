"""``tidegate serve edge upload``: what an edge observed goes into the state folder's prediction log, each row once."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tidegate.errors import UserError
from tidegate.ingest.disk import atomic_file
from tidegate.observations import END, Mark, Prediction
from tidegate.serve.edge.kept import Batch, Kept


@dataclass(frozen=True)
class Uploaded:
    """How many rows went up, in how many segments."""

    rows: int
    segments: int


def upload(folder: Path, state: Path) -> Uploaded:
    """Hand on everything that waits in the edge folder `folder`; it may run meanwhile.

    A batch is fixed before it is written, its segment is named after it and appears whole, and only then it is
    forgotten: killed at any moment, a next call goes on without a row lost or twice.
    """
    database = folder / "var" / "edge.db"
    if not database.is_file():
        raise UserError(str(folder), "no observations in it", "the folder of an edge that has run")
    kept, writer, rows, segments = Kept(database), _writer(folder), 0, 0
    try:
        while (batch := kept.batch()) is not None:
            _write(state / "observations/predictions", writer, batch)
            kept.uploaded(batch)
            rows, segments = rows + len(batch.rows), segments + 1
    finally:
        kept.close()
    return Uploaded(rows, segments)


def _writer(folder: Path) -> str:
    """The edge's own name as a writer, made once."""
    path = folder / "var" / "id"
    if not path.is_file():
        with atomic_file(path) as made:
            made.write_text(f"edge-{uuid.uuid4().hex[:12]}", encoding="ascii")
    return path.read_text(encoding="ascii")


def _write(predictions: Path, writer: str, batch: Batch) -> None:
    target = predictions / f"{writer}.{batch.first:06d}.jsonl"
    if not target.exists():
        with atomic_file(target) as made:
            made.write_bytes(b"".join(_lines(batch.rows)))


def _lines(rows: Iterable[dict[str, Any]]) -> Iterable[bytes]:
    """JSON lines of a finished segment. No arm: an edge's rows went round the gateway and are no evidence."""
    encode = msgspec.json.encode
    for row in rows:
        told = Prediction(
            row["request_id"], row["time"], row["time"], row["version"], row["digest"], None, None, None, row["score"],
            False, row["latency_ms"], row["features"], row["keys"], None, row["fallback"],
        )  # fmt: skip
        yield encode(told) + b"\n"
    yield encode(Mark(END)) + b"\n"
