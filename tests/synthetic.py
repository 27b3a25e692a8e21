"""A workload of drawn rows for the tests of training and gate: two categories, six numbers, days that differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from tidegate.spec import GateSpec, TrainingSpec
from tidegate.train.settings import ParentFacts, RunSettings
from tidegate.workload import Feature, Workload

NAME = "synthetic:drawn"
START = datetime(2024, 1, 1, tzinfo=UTC)
GATE = GateSpec(slices=("origin",))

drawn = Workload(
    name="drawn",
    key="key",
    source=None,
    contract=None,
    definitions=tuple,
    entities=None,
    features=(
        Feature("carrier", "category", ("AA", "B6", "DL")),
        Feature("origin", "category", ("EWR", "JFK", "LGA")),
        *(Feature(f"x{i}", "numeric") for i in range(6)),
    ),
    feature_service="drawn",
    slices={"origin": "origin"},
    params={"lightgbm": {"num_boost_round": 30, "num_leaves": 7, "min_data_in_leaf": 20}},
)


def rows(days: int, per_day: int = 150, seed: int = 0, effect: float = 1.0, turn: int | None = None) -> pl.DataFrame:
    """Labelled rows of `days` days; from day `turn` on the effect of x0 has the other sign."""
    draw, n = np.random.default_rng(seed), days * per_day
    day = np.repeat(np.arange(days), per_day)
    numbers = draw.normal(size=(n, 6))
    carrier, origin = draw.integers(0, 5, n), draw.integers(0, 3, n)
    sign = np.where(day >= (days if turn is None else turn), -1.0, 1.0)
    odds = -0.8 + effect * (1.2 * sign * numbers[:, 0] + 0.5 * (carrier == 1)) + 0.2 * draw.normal(size=days)[day]
    numbers[draw.uniform(size=numbers.shape) < 0.05] = np.nan
    asked = [
        START + timedelta(days=int(d), seconds=int(s)) for d, s in zip(day, draw.integers(0, 86_400, n), strict=True)
    ]
    columns = {
        "event_timestamp": asked,
        "label_timestamp": [time + timedelta(hours=5) for time in asked],
        "outcome": ["observed"] * n,
        "label": (draw.uniform(size=n) < 1 / (1 + np.exp(-odds))).astype(np.float32),
        "carrier": [("AA", "B6", "DL", "ZZ", None)[i] for i in carrier],
        "origin": [("EWR", "JFK", "LGA")[i] for i in origin],
        **{f"x{i}": numbers[:, i].astype(np.float32) for i in range(6)},
    }
    frame = pl.DataFrame(columns).with_columns(pl.selectors.float().fill_nan(None))
    return frame.sort("event_timestamp").with_row_index("key").with_columns(pl.col("key").cast(pl.String))


def until(day: int) -> str:
    return (START + timedelta(days=day)).strftime("%Y-%m-%dT%H:%M:%SZ")


def settings(training: dict | None = None, parent: ParentFacts | None = None, seed: int = 7, **gate: object) -> str:
    """Settings with a gate window of 7 days."""
    spec = RunSettings(
        training=TrainingSpec(**(training or {})),
        gate=GATE.model_copy(update=gate),
        gate_window=timedelta(days=7),
        seed=seed,
        parent=parent,
    )
    return spec.text()


def parent_of(training: dict, version: str = "v1") -> ParentFacts:
    names = ("digest", "feature_schema_digest", "architecture_digest", "train_until")
    return ParentFacts(version=version, **{name: training[name] for name in names})


def write(frame: pl.DataFrame, path: Path) -> Path:
    frame.write_parquet(path)
    return path
