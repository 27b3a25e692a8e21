"""Chains of challengers, each a little worse than its champion: how far the champion creeps downhill."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks import judge_twin as twin
from tidegate.release.judge import RHO_ELSE, carried_after
from tidegate.release.policy import SHADOW, JudgePolicy, Metric

Floats = NDArray[np.float64]
MARGIN, JUMP = 0.005, 0.25
RULES = JudgePolicy(0.05, (Metric("loss", MARGIN, SHADOW, True),), (SHADOW,), 0.0)
"""A difference of losses is 0, or one jump up or down."""


@dataclass(frozen=True)
class Chains:
    """What came of it. rises: of each chain, the most by which the champion was worse than the best that served."""

    rises: Floats
    promoted: float
    """Promotions a chain."""

    @property
    def kept(self) -> float:
        """Share of chains that never rose by more than 1.5 margins."""
        return float((self.rises <= 1.5 * MARGIN + 1e-12).mean())


def walk(seed: int, chains: int, challengers: int, carries: bool, step: float = MARGIN / 2) -> Chains:
    """Every challenger is truly worse than its champion by `step`; shadow pairs, a look at every 250, 20,000 at most.

    The sums are drawn by look, exactly: ups and downs of a batch are multinomial, the differences' sd is 0.1.
    """
    rng = np.random.default_rng(seed)
    loss, best, carried = np.zeros(chains), np.zeros(chains), np.zeros(chains)
    rises, promoted = np.zeros(chains), 0
    for _ in range(challengers):
        sums = differences(rng, chains, 80, 250, step)
        verdict, look = twin.judged(RULES, SHADOW, {"loss": sums}, carried=carried if carries else 0.0)
        won = verdict == 2
        carried = np.where(won, spent(carried, sums, look), carried)
        loss, promoted = loss + step * won, promoted + int(won.sum())
        best = np.minimum(best, loss)
        rises = np.maximum(rises, loss - best)
    return Chains(rises, promoted / chains)


def differences(rng: np.random.Generator, runs: int, looks: int, every: int, effect: float) -> twin.Sums:
    """Sums of differences 0, +JUMP, -JUMP with mean `effect` and sd 0.1."""
    moved = 0.01 / JUMP**2
    up = rng.binomial(every, moved, (runs, looks))
    plus = rng.binomial(up, 0.5 + effect / (2 * JUMP * moved))
    S, V = JUMP * (2.0 * plus - up), JUMP**2 * up.astype(np.float64)
    return twin.Sums(S.cumsum(1), V.cumsum(1), np.full(looks, float(every)).cumsum())


def spent(carried: Floats, sums: twin.Sums, look: NDArray[np.int64]) -> Floats:
    """`carried_after` of each chain at its look; where there is none, what it was."""
    after, at = carried.copy(), np.flatnonzero(look != twin.NEVER)
    s, v, w = sums.S[at, look[at]], sums.V[at, look[at]], sums.W[look[at]]
    upper = (s + twin.u(v, RULES.a_promote, RHO_ELSE)) / w
    after[at] = [carried_after(*map(float, one)) for one in zip(carried[at], s / w, upper, strict=True)]
    return after
