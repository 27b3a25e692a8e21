"""The judge over many streams at once: numpy twins of `tidegate.release`, one row a replication.

tests/unit/benchmarks/test_judge_twin.py proves on random streams that they say what `fold_split`, `fold_mean` and
`judge` say. `u` grows with V, and S is above u(V) exactly when the e-process at (S, V) is above 1/a.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.release.judge import RATIO_LEVEL, RHO_RATIO, rho_of
from tidegate.release.policy import JudgePolicy

Floats = NDArray[np.float64]
NEVER = np.iinfo(np.int64).max
VERDICTS = ("hold", "abort", "promote")


@dataclass(frozen=True)
class Sums:
    """S, V, W of one check at every look: [replications, looks] each (W may be [looks])."""

    S: Floats
    V: Floats
    W: Floats

    @property
    def estimate(self) -> Floats:
        """S / W."""
        return self.S / self.W


def at_looks(values: Floats, every: int) -> Floats:
    """Running sums along the last axis, at each `every`-th value."""
    if every > 1:
        values = values.reshape(*values.shape[:-1], -1, every).sum(axis=-1)
    return np.cumsum(values, axis=-1)


def split_sums(y: Floats, a: Floats, pi: Floats, every: int) -> Sums:
    """`fold_difference` of streams y, a [replications, requests] with shares pi [requests]."""
    before = np.cumsum(y, axis=-1)
    before -= y
    before /= np.maximum(np.arange(y.shape[-1]), 1.0)
    x = (y - before) * (a - pi)
    return Sums(at_looks(x, every), at_looks(x * x, every), at_looks(pi * (1 - pi), every))


def mean_sums(x: Floats, every: int) -> Sums:
    """`fold_mean` of observations x [replications, n]."""
    return Sums(at_looks(x, every), at_looks(x * x, every), at_looks(np.ones(x.shape[-1]), every))


def inverse_sums(y: Floats, a: Floats, pi: Floats, every: int) -> Sums:
    """The contrast: the plain inverse-propensity difference, scaled by the least share so that it lies in [-1, 1]."""
    before = np.cumsum(y, axis=-1)
    before -= y
    before /= np.maximum(np.arange(y.shape[-1]), 1.0)
    least = float(np.minimum(pi, 1 - pi).min())
    x = (y - before) * (a - pi) * (least / (pi * (1 - pi)))
    return Sums(at_looks(x, every), at_looks(x * x, every), at_looks(np.full(y.shape[-1], least), every))


def log_e(s: Floats, v: Floats, rho: float) -> Floats:
    """The logarithm of the mixture e-process for arrays, where s + v + rho > 0."""
    from scipy.special import gammainc, gammaln

    a = v + rho
    with np.errstate(divide="ignore"):
        below = np.log(gammainc(a, s + a)) - math.log(float(gammainc(rho, rho)))
    excess = gammaln(a) - a * np.log(a) + a
    return excess - (math.lgamma(rho) - rho * math.log(rho) + rho) + s - a * np.log1p(s / a) + below


def exceeds(s: Floats, v: Floats, level: float, rho: float) -> NDArray[np.bool_]:
    """Whether s > u(v; level, rho). Asked in full only where s^2 > 2 v log(1/level), which every crossing needs."""
    goal, found = -math.log(level), np.zeros(s.shape, dtype=bool)
    near = (s > 0) & (s * s > 2 * goal * v)
    found[near] = log_e(s[near], v[near], rho) > goal
    return found


def first(crossed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first look, from 0, at which each replication crossed; `NEVER` where it did not."""
    return np.where(crossed.any(axis=1), crossed.argmax(axis=1), NEVER)


def judged(
    policy: JudgePolicy, place: str, sums: Mapping[str, Sums], ratio: Sums | None = None, carried: Any = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(index into `VERDICTS`, first look at which it was final) of each replication; without blocks.

    carried: margin that is spent already, one value or one a replication.
    """
    worse, within = False, True
    for metric in policy.metrics:
        one, rho = sums[metric.name], rho_of(metric, place)
        worse = worse | exceeds(one.S, one.V, policy.a_abort, rho)
        margin = metric.margin - (np.reshape(carried, (-1, 1)) if metric.quality else 0.0)
        within = within & exceeds(margin * one.W - one.S, one.V, policy.a_promote, rho)
    aborts, promotes = first(np.asarray(worse)), first(np.asarray(within))
    latched = np.full_like(aborts, NEVER) if ratio is None else first(broken(ratio))
    look = np.minimum(aborts, promotes)
    verdict = np.where(aborts <= promotes, 1, 2)
    return np.where((look == NEVER) | (latched <= look), 0, verdict), look


def broken(ratio: Sums) -> NDArray[np.bool_]:
    """Whether the sample ratio is excluded at each look."""
    return exceeds(np.abs(ratio.S), ratio.V, RATIO_LEVEL, RHO_RATIO)


def pooled_z(y: Floats, a: Floats, every: int, margin: float = 0.0) -> Floats:
    """The usual test: z of the difference of pooled means less `margin`, [replications, looks]; 0 before both arms."""
    n1, n = at_looks(a, every), at_looks(np.ones(y.shape[-1]), every)
    s1, s, q = at_looks(y * a, every), at_looks(y, every), at_looks(y * y, every)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (q / n - (s / n) ** 2) * (1 / n1 + 1 / (n - n1))
        z = (s1 / n1 - (s - s1) / (n - n1) - margin) / np.sqrt(spread)
    return np.where(np.isfinite(z) & (n > 100), z, 0.0)


def u(v: Floats, level: float, rho: float) -> Floats:
    """`confidence.u` for an array of v, by bisection."""
    goal, low = -math.log(level), np.zeros_like(v)
    high = 40 + 12 * np.sqrt(v + rho)
    for _ in range(60):
        middle = (low + high) / 2
        below = log_e(middle, v, rho) < goal
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2
