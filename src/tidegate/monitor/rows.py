"""Rows of the label join: one prediction with what is known of its label, and its columns as evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from tidegate.observations import Prediction

PENDING, OBSERVED, CANCELLED, MISSING = "pending", "observed", "cancelled", "missing"


def row_id(request_id: str) -> str:
    """The id of a row: ``ID`` means the first row of request ID, ``ID/0``."""
    return request_id if request_id.rpartition("/")[2].isdigit() and "/" in request_id else f"{request_id}/0"


class Row(msgspec.Struct, frozen=True, gc=False):
    """One prediction with what is known of its label.

    `outcome` is ``pending`` in a seen row; in a matured row ``observed``, ``cancelled`` or ``missing``. `label` is nan
    unless observed. `metrics` holds business metrics as (name, value) pairs, sorted by name.
    """

    prediction: Prediction
    outcome: str = PENDING
    label: float = math.nan
    label_time: float | None = None
    metrics: tuple[tuple[str, float], ...] = ()

    @property
    def mirrored(self) -> bool:
        """The gateway's header names another version: this row answered a copy of the request."""
        return self.prediction.arm is not None and self.prediction.arm != self.prediction.version

    @property
    def propensity(self) -> float:
        """Probability with which this version got this request: 1 for a mirrored row, nan when it went round."""
        if self.prediction.arm is None:
            return math.nan
        return 1.0 if self.mirrored else number(self.prediction.propensity)

    @property
    def loss(self) -> float:
        """Brier loss (score - label)^2; nan when either is not there."""
        return (number(self.prediction.score) - self.label) ** 2


@dataclass(frozen=True)
class Joined:
    """What one call of `LabelJoin.rows` moved: both lists are in order of (time, request id, version)."""

    seen: list[Row]
    matured: list[Row]


def evidence_columns(rows: Sequence[Row], release: str | None = None) -> dict[str, Any]:
    """Rows as the columns that the release gate judges, in the order given.

    Rows without the gateway's header went round it and are left out; so are those of another release than `release`
    (None takes all). Columns: time, request_id, version, arm, propensity, loss, error, latency_ms, release, outcome.
    """
    taken = [row for row in rows if row.prediction.arm is not None and release in (None, row.prediction.release)]
    predictions = [row.prediction for row in taken]
    return {
        "time": np.array([one.time for one in predictions], np.float64),
        "request_id": [one.request_id for one in predictions],
        "version": [one.version for one in predictions],
        "arm": [one.arm for one in predictions],
        "propensity": np.array([row.propensity for row in taken], np.float64),
        "loss": np.array([row.loss for row in taken], np.float64),
        "error": np.array([one.error for one in predictions], bool),
        "latency_ms": np.array([one.latency_ms for one in predictions], np.float64),
        "release": [one.release for one in predictions],
        "outcome": [row.outcome for row in taken],
    }


def number(value: float | None) -> float:
    """A value, or nan where there is none."""
    return math.nan if value is None else value
