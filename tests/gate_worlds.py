"""Drawn worlds in which the model gate's error rates are counted: LightGBM models, and the gate on their scores.

A world is 20,000 rows of two gate weeks after 20,000 rows of four weeks to learn from. Days differ, regions are of very
different size (`SLICE` has 500 rows in the gate weeks), two groups of people differ in nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate.evaluate import forgetting
from tidegate.evaluate.gate import GateVerdict, gate
from tidegate.evaluate.measure import Compared, measure
from tidegate.evaluate.metrics import log_loss
from tidegate.evaluate.step import policy_of
from tidegate.spec import FairnessSpec, ForgettingSpec, GateSpec
from tidegate.train.families import Setting
from tidegate.train.stateful import compare, weights

POLICY = GateSpec(
    slices=("region", "kind"),
    fairness=FairnessSpec(protected="group", max_gap=0.05),
    forgetting=ForgettingSpec(max_loss=0.01),
)
REGIONS = np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.06, 0.03, 0.025, 0.008, 0.005, 0.002])
SLICE, GATE_DAYS, PER_DAY, TRAIN_PER_DAY, FIRST_DAY = 7, 14, 1429, 715, 19_723
DAY = 86_400.0
ALONE = Setting(60, 0.1)
ALL = slice(None)
PARAMETERS = {
    **{"objective": "binary", "num_leaves": 15, "min_data_in_leaf": 200, "lambda_l2": 20.0, "feature_fraction": 0.7},
    **{"max_bin": 63, "num_threads": 1, "verbosity": -1, "deterministic": True},
    **{"force_row_wise": True, "bagging_fraction": 0.8, "bagging_freq": 1},
}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Rows in order of day: features [N, F], labels, days, columns; `known` is where the champion's rows end."""

    features: Floats
    labels: Floats
    days: NDArray[np.int64]
    region: NDArray[np.int64]
    kind: NDArray[np.int64]
    group: NDArray[np.int64]
    known: int

    @property
    def test(self) -> NDArray[np.bool_]:
        """The rows of the gate weeks."""
        return np.asarray(self.days > self.days.max() - GATE_DAYS)


def draw(seed: int, train_days: int = 28, later: str = "") -> World:
    """A world by its seed. With `later` the parent knows two thirds of the days to learn from; the rest and the gate
    weeks are the ``same``, or ``turned``: another season, in which feature 0 has the other sign. Feature 7 tells it.

    Day numbers start at 2024-01-01.
    """
    rng = np.random.default_rng(seed)
    sizes = np.r_[np.full(train_days, TRAIN_PER_DAY), np.full(GATE_DAYS, PER_DAY)]
    day = np.repeat(np.arange(len(sizes)), sizes)
    n, first = len(day), train_days * 2 // 3 if later else train_days
    numbers, region = rng.normal(size=(n, 6)), rng.choice(len(REGIONS), n, p=REGIONS)
    kind, group = rng.integers(0, 4, n), rng.integers(0, 2, n)
    turned = (day >= first) & (later == "turned")
    season = turned.astype(float) if later == "turned" else rng.integers(0, 2, n).astype(float)
    odds = -1.0 + 0.9 * np.where(turned, -1, 1) * numbers[:, 0] + 0.5 * numbers[:, 1] * (numbers[:, 2] > 0)
    odds += 0.3 * (kind == 1) + 0.1 * (region % 3) + 0.2 * rng.normal(size=len(sizes))[day]
    labels = (rng.uniform(size=n) < 1 / (1 + np.exp(-odds))).astype(float)
    features = np.column_stack([numbers, region, season, kind]).astype(np.float32)
    return World(features, labels, day + FIRST_DAY, region, kind, group, int((day < first).sum()))


def fit(world: World, seed: int, labels: Floats | None = None, setting: Setting = ALONE, rows=None, parent=None):
    """A LightGBM booster on the rows to learn from (or on the positions `rows`); with `parent`, its trees first.

    Replayed rows weigh what they weigh in the train step.
    """
    import lightgbm

    chosen = np.flatnonzero(~world.test) if rows is None else rows
    known = (world.labels if labels is None else labels)[chosen]
    weight = weights(chosen, world.known - 1, setting.replay) if parent else None
    data = lightgbm.Dataset(world.features[chosen], known, weight=weight, params=PARAMETERS, free_raw_data=False)
    options = {**PARAMETERS, "seed": seed, "learning_rate": setting.learning_rate}
    return lightgbm.train(options, data, num_boost_round=setting.trees, init_model=parent)


def scores(world: World, booster, rows: slice | NDArray[np.bool_] = ALL) -> Floats:
    """Its probabilities on all rows, or on `rows`."""
    return np.asarray(booster.predict(world.features[rows], num_threads=1))


def decide(world: World, candidate: Floats, champion: Floats, spec: GateSpec = POLICY) -> GateVerdict:
    """The gate on the scores [N] of two models."""
    test, labels = world.test, world.labels
    columns = {name: getattr(world, name).astype(str) for name in ("region", "kind", "group")}
    part = Compared(
        days=world.days[test],
        labels=labels[test],
        candidate=candidate[test],
        champion=champion[test],
        base_rate=float(labels[~test].mean()),
        columns={name: values[test] for name, values in columns.items()},
    )
    past = {name: columns[name][: world.known] for name in spec.slices}
    times = world.days * DAY
    slices = forgetting.frozen(times[: world.known], past, np.inf)
    losses = log_loss(labels, candidate) - log_loss(labels, champion)
    lost = forgetting.measure(slices, times, losses)
    return gate(policy_of(spec), {"reference_distance": 0.0, **measure(part, spec), "forgetting": lost})


def worse(world: World, seed: int, by: float, where: NDArray[np.bool_]) -> Floats:
    """Scores of a model whose training labels were flipped on a share of the rows `where` until it is worse by `by`.

    The log loss is compared with that of the same seed without flips on the gate weeks' rows of `where`.
    """
    order = np.random.default_rng([seed, 9]).uniform(size=len(world.labels))
    test, low, high = world.test & where, 0.0, 1.0
    clean = log_loss(world.labels[test], scores(world, fit(world, seed), test)).mean()
    for _ in range(7):
        share = (low + high) / 2
        found = fit(world, seed, np.where(where & (order < share), 1 - world.labels, world.labels))
        got = float(log_loss(world.labels[test], scores(world, found, test)).mean() - clean)
        if abs(got - by) < 0.05 * by:
            break
        low, high = (share, high) if got < by else (low, share)
    return scores(world, found)


def sequence(
    world: World, seed: int, shares: tuple[float, ...], auto: bool, guarded: bool = True
) -> tuple[Floats, Floats]:
    """Scores of what is trained on from a parent, and of the parent, chosen as the train step chooses.

    Settings with the replay `shares` are compared on the newest week before the gate's, `guarded` against what they
    forget; with `auto`, a minor that does not beat the parent there makes way for a model from scratch.
    """
    end = int((~world.test).sum())
    week = int(np.searchsorted(world.days, world.days[end - 1] - 6))
    parent = fit(world, seed, rows=np.arange(world.known))
    settings = [Setting(trees, rate, share) for share in shares for trees, rate in ((20, 0.02), (40, 0.05))]
    before = scores(world, parent)

    parent_losses = log_loss(world.labels, before)

    def told(setting: Setting) -> tuple[Floats, float]:
        child = fit(world, seed, setting=setting, rows=_rows(world, seed, setting, week), parent=parent)
        losses = log_loss(world.labels[:end], scores(world, child, slice(0, end)))
        return losses[week:], float((losses - parent_losses[:end])[: world.known].mean())

    most = POLICY.forgetting.max_loss if guarded else None
    found = compare(settings, told, parent_losses[week:end], world.days[week:end] * DAY, most)
    if auto and not found.pays:
        return scores(world, fit(world, seed)), before
    rows = _rows(world, seed, found.best, end)
    return scores(world, fit(world, seed, setting=found.best, rows=rows, parent=parent)), before


def _rows(world: World, seed: int, setting: Setting, end: int) -> NDArray[np.int64]:
    old = np.random.default_rng(seed).choice(world.known, round(setting.replay * world.known), replace=False)
    return np.r_[np.sort(old), np.arange(world.known, end)]


def shifted(world: World, values: Floats, group: int, by: float) -> Floats:
    """The scores with the log-odds of one group moved."""
    odds = np.log(values / (1 - values)) + by * (world.group == group)
    return np.asarray(1 / (1 + np.exp(-odds)))
