"""Drawn streams with a planted process of change, for the backtest of windows and cadences.

A stream is rows with a prediction time and a label that came hours later. What is best is planted by how it changes:
| kind | change | best window | best cadence |
|---|---|---|---|
| drift | the effects turn all the time, fast | 28d | weekly |
| billed | the effects turn slowly, labels come once in four weeks, many features that say nothing | 90d | monthly |
| still | none; few rows, many features that say nothing | all | never |
| seasons | four seasons that recur, each with effects of its own; the season is a feature | all | never |
| broken | the effects changed once, 100 days before the first cut | 90d | never |
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from tidegate.evaluate.backtest import Bench, named, play
from tidegate.evaluate.freshness import Answer, Played, answer
from tidegate.evaluate.freshness_grid import DAY, Grid, cadences_of, chosen, windows_of
from tidegate.train import families
from tidegate.train.fitting import Rows
from tidegate.train.model_file import Feature, FeatureSchema
from tidegate.train.settings import RunSettings

START = datetime(2023, 1, 1, tzinfo=UTC)
BEST = {
    "drift": ("28d", "weekly"),
    "billed": ("90d", "monthly"),
    "still": ("all", "never"),
    "seasons": ("all", "never"),
    "broken": ("90d", "never"),
}
WINDOWS, CADENCES = "28d,90d,all", "never,monthly,weekly"
MARGIN = 0.002
Floats = np.ndarray


@dataclass(frozen=True)
class Stream:
    """Numbers [N, F], log-odds [N], day numbers [N]; `billed`: labels come once in four weeks, a day before a cut."""

    numbers: Floats
    odds: Floats
    day: Floats
    billed: bool = False


def stream(kind: str, seed: int) -> Rows:
    """A stream of one kind as the rows of a backtest."""
    rng = np.random.default_rng([seed, sorted(MAKERS).index(kind)])
    return rows_of(MAKERS[kind](rng), rng)


def drift(rng) -> Stream:
    numbers, day = _normal(rng, days=280, per_day=150, features=6)
    return Stream(numbers, _turning(numbers, day, period=150, size=1.5, phase=rng.uniform(0, 2 * np.pi)), day)


def billed(rng) -> Stream:
    numbers, day = _normal(rng, days=336, per_day=120, features=80)
    turning = _turning(numbers, day, period=2800, size=1.2, phase=rng.uniform(0, 2 * np.pi))
    return Stream(numbers, turning, day, billed=True)


def still(rng) -> Stream:
    numbers, day = _normal(rng, days=588, per_day=60, features=60)
    return Stream(numbers, -0.5 + numbers[:, :5] @ np.array([0.8, -0.6, 0.5, 0.4, -0.3]), day)


def seasons(rng) -> Stream:
    numbers, day = _normal(rng, days=448, per_day=100, features=3)
    season = (day // 56) % 4
    effects = rng.choice([-1.0, 1.0], (4, 3)) * rng.uniform(0.6, 1.2, (4, 3))
    apart = np.hstack([numbers * (season == one)[:, None] for one in range(4)])
    return Stream(apart, -0.5 + (numbers * effects[season]).sum(axis=1), day)


def broken(rng) -> Stream:
    numbers, day = _normal(rng, days=448, per_day=90, features=60)
    effects = np.r_[0.9, -0.7, 0.5, np.zeros(57)]
    before = np.r_[-0.9, 0.7, 0.5, np.zeros(57)]
    later = day >= 448 - 168 - 100
    return Stream(numbers, -0.5 + np.where(later, numbers @ effects, numbers @ before), day)


def emerging(rng) -> Stream:
    """Newer data pays: from the first cut on a number matters more and more that said nothing before."""
    numbers, day = _normal(rng, days=170, per_day=150, features=6)
    return Stream(numbers, -0.5 + 0.8 * numbers[:, 0] + np.clip((day - 85) / 28, 0, 1) * 1.2 * numbers[:, 1], day)


def crossed(rng) -> Stream:
    """Another family pays: nothing changes, and what matters is a product of two numbers."""
    numbers, day = _normal(rng, days=170, per_day=150, features=6)
    return Stream(numbers, -0.5 + 0.5 * numbers[:, 0] + 1.2 * np.sign(numbers[:, 1] * numbers[:, 2]), day)


def settled(rng) -> Stream:
    """Nothing pays: nothing changes, and the effects are linear."""
    numbers, day = _normal(rng, days=170, per_day=150, features=6)
    return Stream(numbers, -0.5 + numbers[:, :3] @ np.array([0.8, -0.6, 0.5]), day)


def emerging_and_crossed(rng) -> Stream:
    """Both pay."""
    numbers, day = _normal(rng, days=170, per_day=150, features=6)
    later = np.clip((day - 85) / 28, 0, 1) * 1.2 * numbers[:, 1]
    return Stream(numbers, -0.5 + later + 1.0 * np.sign(numbers[:, 2] * numbers[:, 3]), day)


MAKERS = {
    **{"drift": drift, "billed": billed, "still": still, "seasons": seasons, "broken": broken},
    **{"data": emerging, "model": crossed, "neither": settled, "both": emerging_and_crossed},
}
PAYS = ("data", "model", "neither", "both")
"""Kinds by what the report has to say of data and model iterations, at the family logistic regression."""


def bench_of(rows: Rows, family: str = "logistic_regression", others: bool = False, **more) -> Bench:
    """A bench with one family, and where asked the other ones beside it."""
    names = [name for name in rows.frame.columns if name.startswith("x")]
    schema = FeatureSchema(tuple(Feature(name, "numeric") for name in names))
    option = families.configured(families.family(family), HINTS.get(family, {}))
    return Bench(rows, schema, "key", option, named(option, HINTS) if others else {}, RunSettings(), **more)


HINTS = {
    "lightgbm": {"num_boost_round": 60, "num_leaves": 15, "min_data_in_leaf": 50, "learning_rate": 0.1},
    "hist_gradient_boosting": {"max_iter": 60, "max_leaf_nodes": 15, "min_samples_leaf": 50, "learning_rate": 0.1},
}


def grid_of(rows: Rows, windows: str = WINDOWS, cadences: str = CADENCES) -> Grid:
    return chosen(float(rows.times[0]), float(rows.times[-1]), DAY, windows_of(windows), cadences_of(cadences))


def recovered(kind: str, seed: int) -> tuple[Played, Answer]:
    """The backtest of a stream's windows and cadences, and what is recommended."""
    rows = stream(kind, seed)
    played = play(bench_of(rows), grid_of(rows), ("stateless",))
    return played, answer(played, "log_loss", MARGIN)


def iterated(kind: str, seed: int) -> Answer:
    """What a stream's report says of data and model iterations."""
    rows = stream(kind, seed)
    played = play(bench_of(rows, others=True), grid_of(rows, "28d,all", "never,monthly"), ("stateless",))
    return answer(played, "log_loss", MARGIN)


def rows_of(made: Stream, rng) -> Rows:
    n = len(made.day)
    seconds = np.sort(made.day * DAY + rng.uniform(0, DAY, n))
    labels = (rng.uniform(size=n) < 1 / (1 + np.exp(-made.odds))).astype(float)
    times = START.timestamp() + np.floor(seconds)
    came = times + rng.uniform(3600, 20 * 3600, n)
    if made.billed:  # a day before the cuts, which lie whole weeks before the last row
        ends = times[-1] - DAY
        came = np.maximum(came, ends - np.floor((ends - times) / (28 * DAY)) * 28 * DAY)
    encoded = made.numbers.astype(np.float32)
    columns = {f"x{i}": encoded[:, i] for i in range(encoded.shape[1])}
    frame = pl.DataFrame({"event_timestamp": times, "label_timestamp": came, **columns}).with_row_index("key")
    return Rows(frame, encoded, labels, times, came)


def _normal(rng, days: int, per_day: int, features: int):
    day = np.repeat(np.arange(days), per_day)
    return rng.normal(size=(len(day), features)), day


def _turning(numbers: Floats, day: Floats, period: float, size: float, phase: float) -> Floats:
    angle = phase + 2 * np.pi * day / period
    return -0.5 + size * (np.cos(angle) * numbers[:, 0] + np.sin(angle) * numbers[:, 1])
