"""Alternatives for a route and a day, two rankers of known quality, and the stated user.

The user looks at place k of a list with probability 1/k and clicks what is looked at with probability .8 when that
flight will land on time, .05 when it will be late or not fly at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flights.requests import load_traffic
from flights.workload import FEATURES
from tests.tiny_models import write_model_of
from tidegate.train.model_file import FeatureSchema

RANKED_BY = ("hour", "wind_speed", "precip", "origin_delay_3h", "inbound_delay", "carrier_late_28d", "dest_late_28d")
ON_TIME, LATE = 0.8, 0.05


@dataclass(frozen=True)
class Session:
    """One question: alternatives as ``/rank`` takes them, when it is asked (seconds), which of them will be late."""

    at: float
    rows: list[dict[str, Any]]
    late: list[bool]

    def clicks(self, rng: np.random.Generator, ranks: list[int]) -> list[int]:
        """The items that the user clicks in a list with these ranks."""
        looks = rng.random(len(ranks)) < 1 / np.asarray(ranks)
        wants = rng.random(len(ranks)) < np.where(self.late, LATE, ON_TIME)
        return np.flatnonzero(looks & wants).tolist()


def load(since: str, days: int) -> tuple[list[Session], list[float]]:
    """Sessions in order of time, and the weights of the better ranker: a logistic fit of lateness on these flights.

    It has seen what it is asked: what is tested is the experiment, not the model.
    """
    start = datetime.fromisoformat(since)
    rows = load_traffic(start, start + timedelta(days=days)).with_columns(
        day=pl.col("event_timestamp").dt.date(), late=pl.col("label").fill_null(1.0) > 0
    )
    return sessions(rows), fitted(rows)


def sessions(rows: pl.DataFrame) -> list[Session]:
    """Routes and days with four to ten alternatives, asked two hours before the first one leaves."""
    names = [feature.name for feature in FEATURES]
    found = [
        Session(
            part["event_timestamp"].min().timestamp(),
            part.select(names).to_dicts(),
            part["late"].to_list(),
        )
        for _, part in rows.group_by("origin", "dest", "day", maintain_order=True)
        if 4 <= part.height <= 10
    ]
    return sorted(found, key=lambda session: session.at)


def fitted(rows: pl.DataFrame) -> list[float]:
    """One weight a feature of the schema, of raw values with null as 0."""
    values = rows.select(RANKED_BY).fill_null(0).fill_nan(0).to_numpy().astype(float)
    late, spread = rows["late"].to_numpy().astype(float), values.std(0) + 1e-9
    scaled, weights, bias = (values - values.mean(0)) / spread, np.zeros(len(RANKED_BY)), 0.0
    for _ in range(300):
        wrong = 1 / (1 + np.exp(-(scaled @ weights + bias))) - late
        weights, bias = weights - scaled.T @ wrong / len(late), bias - wrong.mean()
    by_name = dict(zip(RANKED_BY, weights / spread, strict=True))
    return [float(by_name.get(feature.name, 0.0)) for feature in FEATURES]


def write_ranker(store: Path, weights: list[float]) -> str:
    """A model version of the flights' schema that scores by these weights; returns its digest."""
    plain = [
        {"name": f.name, "kind": f.kind, "categories": None if f.categories is None else list(f.categories)}
        for f in FEATURES
    ]
    return write_model_of(store, FeatureSchema.parse(json.dumps({"features": plain})), weights)
