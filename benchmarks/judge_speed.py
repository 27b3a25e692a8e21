"""How long the judge takes to be right: medians of requests beside the fixed-horizon test that knows the effect."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks import judge_twin as twin
from benchmarks.judge_rates import LOOK, chunks, even
from tidegate.release.judge import RHO_ELSE, RHO_QUALITY_SPLIT

Floats = NDArray[np.float64]
Z = 1.6448536 + 0.8416212
"""One-sided 5 %, power 80 %."""


@dataclass(frozen=True)
class Speed:
    """Requests to the verdict, median and 80th percentile, beside `fixed`, the fixed-horizon test's."""

    name: str
    seed: int
    runs: int
    median: float
    late: float
    fixed: float | None = None
    most: float | None = None
    """The ratio, or without `fixed` the number, that the median must not pass."""
    inverse: float | None = None
    """The median of the plain inverse-propensity form, infinity when most runs see no verdict."""

    @property
    def met(self) -> bool:
        """Whether the median keeps to it."""
        limit = self.most or math.inf
        return self.median <= (limit if self.fixed is None else limit * self.fixed)


def power_ramp(requests: int) -> Floats:
    """2,500 requests at 1, 5 and 25 % each, then half."""
    return np.concatenate([np.full(2500, 0.01), np.full(2500, 0.05), np.full(2500, 0.25), even(requests - 7500)])


def fixed_horizon(base: float, effect: float, distance: float, share: Floats) -> float:
    """Requests of the one-sided 5 % test with 80 % power of a `distance` from what is excluded, with overlap weights.

    Two proportions, base and base + effect; constant shares give the textbook number.
    """
    new, old = base + effect, base
    w = share * (1 - share)
    variance = np.cumsum(w**2 * (new * (1 - new) / share + old * (1 - old) / (1 - share)))
    enough = Z**2 * variance <= (distance * np.cumsum(w)) ** 2
    return float(enough.argmax() + 1)


def to_abort(name: str, seed: int, runs: int, share: Floats, effect: float, level: float, most: float) -> Speed:
    """Base 10 %, a quality loss: requests until it is proved worse at `level`."""
    found, plain = [], []
    for number, size in chunks(runs):
        a, y = _draw(np.random.default_rng([seed, number]), size, share, 0.1, effect)
        for to, sums in ((found, twin.split_sums), (plain, twin.inverse_sums)):
            one = sums(y, a, share, LOOK)
            to.append(twin.first(twin.exceeds(one.S, one.V, level, RHO_QUALITY_SPLIT)))
    fixed = fixed_horizon(0.1, effect, effect, share)
    inverse = _speed(name, seed, np.concatenate(plain), LOOK, fixed, most).median
    return replace(_speed(name, seed, np.concatenate(found), LOOK, fixed, most), inverse=inverse)


def to_promote(name: str, seed: int, runs: int, share: Floats, effect: float, most: float) -> Speed:
    """Base 10 %, margin 1 point: requests until it is proved not worse."""
    found = []
    for number, size in chunks(runs):
        a, y = _draw(np.random.default_rng([seed, number]), size, share, 0.1, effect)
        one = twin.split_sums(y, a, share, LOOK)
        found.append(twin.first(twin.exceeds(0.01 * one.W - one.S, one.V, 0.05, RHO_QUALITY_SPLIT)))
    fixed = fixed_horizon(0.1, effect, 0.01 - effect, share)
    return _speed(name, seed, np.concatenate(found), LOOK, fixed, most)


def _draw(rng: np.random.Generator, runs: int, share: Floats, base: float, effect: float) -> tuple[Floats, Floats]:
    """Arms and values."""
    a = (rng.random((runs, len(share))) < share).astype(np.float64)
    y = (rng.random(a.shape) < base + effect * a).astype(np.float64)
    return a, y


def _speed(name: str, seed: int, looks: NDArray[np.int64], every: int, fixed: float | None, most: float) -> Speed:
    requests = np.where(looks == twin.NEVER, math.inf, (looks + 1.0) * every)
    middle, late = (float(np.quantile(requests, q, method="lower")) for q in (0.5, 0.8))
    return Speed(name, seed, len(looks), middle, late, fixed, most)


def errors_rise(name: str, seed: int, runs: int, share: float, to: float, metrics: int, most: float) -> Speed:
    """Errors from 0.2 % to `to`, a look at every request: the requests until the abort."""
    looks = _rise(seed, runs, share, to, metrics)[0]
    return _speed(name, seed, looks, 1, None, most)


def catastrophe(name: str, seed: int, runs: int, share: float, metrics: int, most: float) -> Speed:
    """Errors from 0.2 % to 100 %, a look at every request: the challenger's requests until the abort."""
    looks, given = _rise(seed, runs, share, 1.0, metrics)
    count = np.where(looks == twin.NEVER, twin.NEVER, given - 1)
    return _speed(name, seed, count, 1, None, most)


def _rise(seed: int, runs: int, share: float, to: float, metrics: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(first look, the challenger's requests by then) of each run."""
    requests, found, given = (8000 if to < 1 or share < 0.05 else 2000), [], []
    for number, size in chunks(runs, 100):
        rng = np.random.default_rng([seed, number])
        a = (rng.random((size, requests)) < share).astype(np.float64)
        y = (rng.random(a.shape) < np.where(a == 1, to, 0.002)).astype(np.float64)
        one = twin.split_sums(y, a, even(requests, share), 1)
        look = twin.first(twin.exceeds(one.S, one.V, 0.05 / metrics, RHO_ELSE))
        found.append(look)
        at = np.minimum(look, requests - 1)[:, None]
        given.append(np.take_along_axis(np.cumsum(a, axis=1), at, axis=1)[:, 0].astype(np.int64))
    return np.concatenate(found), np.concatenate(given)
