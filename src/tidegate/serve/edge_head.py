"""The head of the traffic: which requests came most often, and what they cover. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tidegate.observations import Prediction
from tidegate.serve.edge.asked import Value, entity
from tidegate.serve.edge.bundle import Fields
from tidegate.train.model_file import FeatureSchema

Asked = bytes | str
"""As the edge looks it up: an encoded row's float32 bytes, or an entity's text."""


@dataclass(frozen=True)
class Wanted:
    """One request of the head: its features as last served."""

    asked: Asked
    count: int
    features: list[Value]
    fallback: str | None


@dataclass(frozen=True)
class Head:
    """The most frequent requests, most frequent first; `covered` of `requests` rows of the log asked one of them."""

    wanted: tuple[Wanted, ...]
    requests: int
    covered: int
    until: float | None
    """Time of the newest row of the log."""

    @property
    def share(self) -> float | None:
        """Of the logged rows that the head covers; None where nothing was logged."""
        return self.covered / self.requests if self.requests else None


def own(rows: Iterable[Prediction], versions: Collection[str], width: int) -> list[Prediction]:
    """Predictions that were answered once each, oldest first: no mirrored copies, rankings or failures, features kept.

    `versions`: those with the schema at hand; `width`: its number of features.
    """
    kept = (
        row
        for row in rows
        if row.version in versions and row.arm in (None, row.version) and row.score is not None
        and row.endpoint is None and len(row.features) == width
    )  # fmt: skip
    return sorted(kept, key=lambda row: (row.time, row.request_id))


def head_of(rows: list[Prediction], schema: FeatureSchema, fields: Fields | None, count: int) -> Head:
    """The `count` most frequent requests among `rows` (oldest first); of equally frequent ones the first in order."""
    asked = _asked(rows, schema, fields)
    counts = Counter(asked)
    first = sorted(counts, key=lambda one: (-counts[one], isinstance(one, str), one))[:count]
    newest = dict(zip(asked, rows, strict=True))
    wanted = tuple(Wanted(one, counts[one], newest[one].features, newest[one].fallback) for one in first)
    until = max((row.time for row in rows), default=None)
    return Head(wanted, len(rows), sum(one.count for one in wanted), until)


def _asked(rows: list[Prediction], schema: FeatureSchema, fields: Fields | None) -> list[Asked]:
    encoded = schema.encode([dict(zip(schema.names, row.features, strict=True)) for row in rows])
    return [
        entity(fields, {**dict(zip(schema.names, row.features, strict=True)), **row.keys})
        if row.keys is not None and fields
        else line.tobytes()
        for row, line in zip(rows, encoded, strict=True)
    ]
