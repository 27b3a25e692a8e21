"""The prediction log of one serving process: what was answered, appended off the hot path."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import UNSET
from numpy.typing import ArrayLike

from tidegate.observations import Answered, Prediction, SegmentWriter
from tidegate.serve.by_key import Found
from tidegate.serve.rows import SINGLE, Rows


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
        # who reads only this module's types has no such package
        from pybase64 import b64encode

        self._base64, self._writer = b64encode, SegmentWriter(folder, writer)
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
        self, heard: Heard, at: float, rows: Rows, scores: ArrayLike | None, latency_ms: float,
        found: Found | None = None, endpoint: str | None = None,
    ) -> None:  # fmt: skip
        """Log the rows of an answer; `scores` [N], None: the model failed; `found`: what was looked up by key.

        `endpoint`: as of `tidegate.observations.Prediction`.
        """
        wall, failed, kept = time.time(), scores is None, found if self._retain else None
        packed = None if scores is None else np.asarray(scores, SINGLE)
        keys, known, levels = (kept.keys, kept.known, kept.fallbacks) if kept else (None, None, None)
        if len(rows) == 1:
            own = rows.lists()[0] if self._retain else []
            key, level = (keys[0], levels[0]) if keys and levels else (None, None)
            one = Prediction(
                f"{heard.request_id}/0", at, wall, self._version, self._digest, heard.arm, heard.propensity,
                heard.release, None if packed is None else packed.item(0), failed, latency_ms, own, key, known, level,
                endpoint, weights=heard.weights, region=heard.region, returning=heard.returning,
            )  # fmt: skip
            return self._writer.append(one)
        told: bytes | list[float | None] = [None] * len(rows) if packed is None else packed.tobytes()
        numbers, texts, names = (rows.numbers, rows.texts, rows.names) if self._retain else (b"", {}, UNSET)
        self._writer.append(
            Answered(
                heard.request_id, at, wall, self._version, self._digest, heard.arm, heard.propensity, heard.release,
                told, failed, latency_ms, b"", texts, keys, known, levels, endpoint, heard.weights,
                heard.region, heard.returning, rows.single, names,
            ),
            self._base64(numbers),
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
