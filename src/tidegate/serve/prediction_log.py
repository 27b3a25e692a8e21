"""The prediction log of one serving process: what was answered, appended off the hot path."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.observations import Prediction, SegmentWriter
from tidegate.serve.by_key import Found
from tidegate.serve.decoder import Value


@dataclass(slots=True)
class Heard:
    """What a request's headers say: the only ones that a service reads."""

    request_id: str = ""
    release: str | None = None
    arm: str | None = None
    propensity: float | None = None
    weights: str | None = None
    region: str | None = None
    returning: bool = False


class PredictionLog:
    """Rows of one version under one writer's name; `dropped` counts what the disk did not take.

    `retain` false: neither features nor entity keys are written, only what was answered, when and by which version.
    """

    def __init__(self, folder: Path, writer: str, version: str, digest: str, retain: bool = True) -> None:
        self._writer = SegmentWriter(folder, writer)
        self._version, self._digest, self._retain = version, digest, retain
        self.before_mark: Callable[[], None] = lambda: None
        """Logs what was accepted and is not logged yet."""

    @property
    def rows(self) -> int:
        """Rows logged so far by this process."""
        return self._writer.rows

    @property
    def dropped(self) -> int:
        """Rows that were lost to a full disk."""
        return self._writer.dropped

    def record(
        self, heard: Heard, at: float, rows: Sequence[list[Value]], scores: Sequence[float] | None, latency_ms: float,
        found: Found | None = None, endpoint: str | None = None,
    ) -> None:  # fmt: skip
        """Log each row of an answer; `scores` None: the model failed; `found`: what was looked up by key.

        `endpoint`: as of `tidegate.observations.Prediction`.
        """
        wall, failed = time.time(), scores is None
        nothing: list[None] = [None] * len(rows)
        kept = found if self._retain else None
        keys, known, levels = (kept.keys, kept.known, kept.fallbacks) if kept else (nothing, None, nothing)
        for index, (features, score, key, level) in enumerate(zip(rows, scores or nothing, keys, levels, strict=True)):
            self._writer.append(
                Prediction(
                    f"{heard.request_id}/{index}", at, wall, self._version, self._digest, heard.arm, heard.propensity,
                    heard.release, score, failed, latency_ms, features if self._retain else [], key, known, level,
                    endpoint, weights=heard.weights, region=heard.region, returning=heard.returning,
                )
            )  # fmt: skip

    def promise(self, now: float) -> None:
        """Put a mark behind what was accepted so far."""
        self.before_mark()
        self._writer.promise(now)

    def flush(self) -> None:
        """Write everything; blocks on the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Write everything and finish the segment."""
        self._writer.close()
