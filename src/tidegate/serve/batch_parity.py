"""Batch = online, in production: a version's newest logged predictions scored again by the batch path. Does I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.observations import Prediction, parse_segment, read_segment
from tidegate.serve import batch_rows
from tidegate.serve.loaded import LoadedModel

if TYPE_CHECKING:
    import pyarrow as pa

TOLERANCE = 1e-6
"""How far a score by the batch path may be from the one that was served."""
SAMPLE = 10_000
"""Predictions that a scheduled batch scores again."""


@dataclass(frozen=True)
class Rescored:
    """`rows` were scored again, `differing` of them are off by more than the tolerance, `furthest` is the widest gap.

    `equal` of them have the same bits.
    """

    rows: int
    equal: int
    differing: int
    furthest: float

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.differing

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return {"ok": self.ok, **asdict(self)}

    def to_text(self) -> str:
        """The counts in a line."""
        return (
            f"{self.differing} of {self.rows} predictions differ, {self.equal} are bit-equal; {self.furthest:g} at most"
        )


def rescore(model: LoadedModel, state: Path, limit: int = SAMPLE) -> Rescored:
    """Score the newest `limit` logged predictions of the model again and compare."""
    logged = newest(state / "observations" / "predictions", model.digest, limit)
    if not logged:
        return Rescored(0, 0, 0, 0.0)
    again = batch_rows.score(model, batch_rows.by_features(model.schema)(as_batch(model, logged)))
    served = np.array([one.score for one in logged])
    gap = np.abs(again.astype(np.float64) - served)
    return Rescored(len(logged), int((gap == 0).sum()), int((~(gap <= TOLERANCE)).sum()), float(gap.max()))


def newest(folder: Path, digest: str, limit: int) -> list[Prediction]:
    """The newest answered rows of a version whose features were retained, oldest first.

    Only the newest segments are read, and one at a time: a log may be larger than the memory.
    """
    found: list[Prediction] = []
    segments = [path for path in folder.glob("*.jsonl") if parse_segment(path.name)]
    for path in sorted(segments, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        if len(found) >= limit:
            break
        rows = (one for one in read_segment(path) if isinstance(one, Prediction) and one.digest == digest)
        found += [one for one in rows if one.score is not None and one.features]
    return sorted(found, key=lambda one: one.wall)[-limit:]


def as_batch(model: LoadedModel, logged: list[Prediction]) -> pa.RecordBatch:
    """Logged rows as a batch of features: texts and float64."""
    import pyarrow as pa

    kinds = [pa.string() if feature.kind == "category" else pa.float64() for feature in model.schema.features]
    columns = [pa.array([one.features[place] for one in logged], kind) for place, kind in enumerate(kinds)]
    return pa.RecordBatch.from_arrays(columns, names=list(model.schema.names))
