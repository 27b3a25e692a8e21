"""How often the judge is wrong: worlds where the right answer is known, each a line of the judge report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks import judge_twin as twin
from tidegate.release.policy import SPLIT, JudgePolicy, Metric

Floats = NDArray[np.float64]
MOST = {500: 13, 1000: 34, 2000: 77, 4000: 168}
"""Wrong of so many runs: the one-sided 99 % Clopper-Pearson upper limit is then at most 5 %."""
REQUESTS, LOOK, CHUNK = 100_000, 100, 25


@dataclass(frozen=True)
class Rate:
    """Wrong verdicts of one world: by the judge, by a pooled z test at the same looks, by plain inverse propensity."""

    name: str
    seed: int
    runs: int
    wrong: int
    by_z: int | None = None
    by_inverse: int | None = None
    note: str = ""


@dataclass(frozen=True)
class World:
    """Split traffic. share, base: [requests]; base of the first metric. rates: each metric's base over the first's.

    effects: what the challenger adds to each metric, in absolute points.
    """

    name: str
    seed: int
    share: Floats
    base: Floats
    rates: tuple[float, ...] = (1.0,)
    effects: tuple[float, ...] = (0.0,)
    every: int = LOOK

    def draw(self, rng: np.random.Generator, runs: int) -> tuple[Floats, list[Floats]]:
        """Arms [runs, requests], and the values of each metric."""
        size = (runs, len(self.share))
        a = (rng.random(size) < self.share).astype(np.float64)
        drawn = [
            (rng.random(size) < rate * self.base + effect * a).astype(np.float64)
            for rate, effect in zip(self.rates, self.effects, strict=True)
        ]
        return a, drawn


def even(requests: int = REQUESTS, share: float = 0.5) -> Floats:
    """One share throughout."""
    return np.full(requests, share)


def ramp(requests: int = REQUESTS) -> Floats:
    """1, 5, 25, 50 % in equal quarters."""
    return np.repeat([0.01, 0.05, 0.25, 0.5], requests // 4)


def policy(metrics: int, margin: float = 0.01, quality: int = 1, challengers: int = 1) -> JudgePolicy:
    """Alpha 5 %, one place; the first `quality` metrics are quality losses."""
    found = tuple(Metric(f"m{i}", margin, SPLIT, quality=i < quality) for i in range(metrics))
    return JudgePolicy(0.05, found, (SPLIT,), 0.0, challengers)


def named(rules: JudgePolicy, sums: list[twin.Sums]) -> dict[str, twin.Sums]:
    """Sums by metric."""
    return {metric.name: one for metric, one in zip(rules.metrics, sums, strict=True)}


def chunks(runs: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    """(number, replications) of parts that fit into memory."""
    for number, start in enumerate(range(0, runs, size)):
        yield number, min(size, runs - start)


def aborted(world: World, runs: int) -> Rate:
    """Equal arms: runs in which any metric is proved worse at any look; promotions do not end a run."""
    rules = policy(len(world.rates))
    wrong, by_z, by_inverse = 0, 0, 0
    for number, size in chunks(runs):
        a, drawn = world.draw(np.random.default_rng([world.seed, number]), size)
        wrong += _worse(rules, [twin.split_sums(y, a, world.share, world.every) for y in drawn])
        by_inverse += _worse(rules, [twin.inverse_sums(y, a, world.share, world.every) for y in drawn])
        by_z += int(np.any([(twin.pooled_z(y, a, world.every) > 1.96).any(axis=1) for y in drawn], axis=0).sum())
    return Rate(world.name, world.seed, runs, wrong, by_z, by_inverse)


def _worse(rules: JudgePolicy, sums: list[twin.Sums]) -> int:
    from tidegate.release.judge import rho_of

    found = [
        twin.exceeds(one.S, one.V, rules.a_abort, rho_of(metric, SPLIT)).any(axis=1)
        for metric, one in zip(rules.metrics, sums, strict=True)
    ]
    return int(np.any(found, axis=0).sum())


def promoted(world: World, runs: int, margin: float = 0.01, quality: int = 1) -> Rate:
    """The first metric worse by exactly the margin: runs that are promoted at any look."""
    rules = policy(len(world.rates), margin, quality)
    wrong, by_z, by_inverse = 0, 0, 0
    for number, size in chunks(runs):
        a, drawn = world.draw(np.random.default_rng([world.seed, number]), size)
        wrong += _within(rules, [twin.split_sums(y, a, world.share, world.every) for y in drawn])
        by_inverse += _within(rules, [twin.inverse_sums(y, a, world.share, world.every) for y in drawn])
        z = [twin.pooled_z(y, a, world.every, margin) < -1.645 for y in drawn]
        by_z += int(np.all(z, axis=0).any(axis=1).sum())
    return Rate(world.name, world.seed, runs, wrong, by_z, by_inverse)


def _within(rules: JudgePolicy, sums: list[twin.Sums]) -> int:
    from tidegate.release.judge import rho_of

    found = [
        twin.exceeds(metric.margin * one.W - one.S, one.V, rules.a_promote, rho_of(metric, SPLIT))
        for metric, one in zip(rules.metrics, sums, strict=True)
    ]
    return int(np.all(found, axis=0).any(axis=1).sum())


def told_apart(world: World, runs: int) -> Rate:
    """Equal arms: runs in which 0 is outside the limits, either side, at any look."""
    wrong, by_z, by_inverse = 0, 0, 0
    for number, size in chunks(runs):
        a, (y,) = world.draw(np.random.default_rng([world.seed, number]), size)
        wrong += _apart(twin.split_sums(y, a, world.share, world.every))
        by_inverse += _apart(twin.inverse_sums(y, a, world.share, world.every))
        by_z += int((np.abs(twin.pooled_z(y, a, world.every)) > 1.96).any(axis=1).sum())
    return Rate(world.name, world.seed, runs, wrong, by_z, by_inverse)


def _apart(sums: twin.Sums) -> int:
    return int(twin.exceeds(np.abs(sums.S), sums.V, 0.025, 16.0).any(axis=1).sum())
