"""From entity keys to model rows: online features, cold-start fallbacks, on-demand features; bit-equal to offline.

The same rules as `tidegate.features.derive`, value by value. What a request must bring: every join key of the
workload's views, and those model features that nothing else gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tidegate.errors import UserError
from tidegate.features.derive import fall_back_row

if TYPE_CHECKING:
    from tidegate.features.online import OnlineReader
    from tidegate.features.wire import Value
    from tidegate.train.model_file import FeatureSchema
    from tidegate.workload import OnDemand, Workload


@dataclass(frozen=True)
class Fields:
    """What one entry of ``"keys"`` holds: the join keys, all required, and the request-time inputs."""

    keys: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """N model rows made of keys, as served: `rows` in the schema's order, the keys as text, each row's fallback level.

    `known`: as of `tidegate.features.online.Looked`.
    """

    rows: list[list[float | str | None]]
    keys: list[dict[str, str | None]]
    known: list[float | None]
    fallbacks: list[str | None]


class KeyLookup:
    """Makes model rows of one workload; UserError when an on-demand input can come from nowhere."""

    def __init__(self, workload: Workload, schema: FeatureSchema, reader: OnlineReader) -> None:
        self.reader, self._schema, self._workload = reader, schema, workload
        self.fields = fields_of(workload, schema.names)

    def look_up(self, asked: Sequence[Mapping[str, Value]], at: float) -> Found:
        """Model rows of entries that hold `fields`, as of `at` (seconds since the epoch)."""
        looked = self.reader.read(asked, at)
        rows = [{**values, **entry} for values, entry in zip(looked.values, asked, strict=True)]
        fallbacks = [fall_back_row(row, self._workload.fallbacks) for row in rows]
        for one in self._workload.derived:
            _derive(rows, one)
        served = [[_plain(row[name]) for name in self._schema.names] for row in rows]
        keys = [{key: _text(entry[key]) for key in self.fields.keys} for entry in asked]
        return Found(served, keys, looked.known, fallbacks)


def fields_of(workload: Workload, features: Sequence[str]) -> Fields:
    """The join keys of the workload's views, and the model features that no view and no on-demand function gives."""
    views = workload.view_definitions()
    keys = tuple(dict.fromkeys(view.entity_keys.get(key, key) for view in views for key in view.keys))
    given = {name for view in views for name in view.outputs} | {n for one in workload.derived for n in one.outputs}
    for one in workload.derived:
        for name in one.inputs:
            if name not in features and name not in given:
                raise UserError("on-demand input", name, "a model feature or a looked-up one")
    return Fields(keys, tuple(name for name in features if name not in given and name not in keys))


def _derive(rows: Sequence[dict[str, Value]], one: OnDemand) -> None:
    """Put one on-demand function's features into every row."""
    arrays = [
        np.array([math.nan if row[name] is None else row[name] for row in rows], np.float32).astype(np.float64)
        for name in one.inputs
    ]
    for name, values in one.compute(*arrays).items():
        for row, value in zip(rows, values.tolist(), strict=True):
            row[name] = value


def _plain(value: Value) -> float | str | None:
    """A value as the model takes it; NaN is null."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value  # type: ignore[return-value]


def _text(value: Value) -> str | None:
    return None if value is None else str(value)
