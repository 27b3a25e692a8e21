"""The one primitive of the judge: an anytime-valid bound on the running mean of bounded observations.

Observations X_t lie in [-1, 1] and E[X_t | past] = w_t tau_t. From the sums S = sum X, V = sum X^2 and W = sum w the
bound holds at every look at once, for any stopping rule and any predictable weights (empirical Bernstein,
gamma-exponential mixture: Howard, Ramdas, McAuliffe, Sekhon 2021, Prop. 9; the inequality
exp(l x + (l + log(1 - l)) x^2) <= 1 + l x for x >= -1 is Fan, Grama, Liu 2015). There is no least sample size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_STIRLING_FROM = 1e3


@dataclass(frozen=True)
class State:
    """Sufficient statistics of one check: O(1), a batch of ordered rows adds to them.

    n: observations. sum_y: sum of the raw values, whose mean is the next control variate. S, V, W: sums of X, X^2, w.
    """

    n: int = 0
    sum_y: float = 0.0
    S: float = 0.0
    V: float = 0.0
    W: float = 0.0

    @property
    def estimate(self) -> float | None:
        """S / W, the effect averaged with weights w; None while W is 0."""
        return self.S / self.W if self.W > 0 else None

    def to_json(self) -> dict[str, float]:
        """The five numbers by name."""
        return {"n": self.n, "sum_y": self.sum_y, "S": self.S, "V": self.V, "W": self.W}

    @classmethod
    def from_json(cls, data: Mapping[str, float]) -> State:
        """The inverse of `to_json`."""
        return cls(int(data["n"]), *(float(data[name]) for name in ("sum_y", "S", "V", "W")))


def _gamma_excess(a: float) -> float:
    """Log Gamma(a) - a log a + a, without the cancellation of its parts for a large `a` (Stirling's series)."""
    if a < _STIRLING_FROM:
        return math.lgamma(a) - a * math.log(a) + a
    return 0.5 * math.log(2 * math.pi / a) + 1 / (12 * a) - 1 / (360 * a**3)


def log_e(s: float, v: float, rho: float) -> float:
    """Logarithm of the mixture e-process at sum `s` and variance `v` >= 0; grows with s, `-inf` far below 0.

    log e = r log r - lnG(r) - ln P(r, r) + lnG(a) + ln P(a, s + a) - a ln(s + a) + s + v with r = rho, a = v + r and
    P the regularised lower incomplete gamma function; regrouped here so that its large terms cancel by themselves.
    """
    from scipy.special import gammainc

    a = v + rho
    if s + a <= 0:
        return -math.inf
    below, prior = float(gammainc(a, s + a)), float(gammainc(rho, rho))
    if below <= 0:
        return -math.inf
    growth = s - a * math.log1p(s / a)
    return _gamma_excess(a) - _gamma_excess(rho) + growth + math.log(below) - math.log(prior)


def u(v: float, a: float, rho: float) -> float:
    """The sum at which the e-process reaches 1/a: a one-sided bound on |S - sum w tau| at level `a`.

    Bisection on [0, 40 + 12 sqrt(v + rho)], widened where `a` is tiny, to the last float.
    """
    goal = -math.log(a)
    low, high = 0.0, 40 + 12 * math.sqrt(v + rho)
    while log_e(high, v, rho) < goal:
        low, high = high, 2 * high
    while True:
        middle = (low + high) / 2
        if middle in (low, high) or high - low <= 1e-12 * high:
            return middle
        if log_e(middle, v, rho) < goal:
            low = middle
        else:
            high = middle


def bounds(state: State, a_abort: float, a_promote: float, rho: float) -> tuple[float, float]:
    """(lower, upper) limits of the weighted mean effect, each one-sided at its own level, clipped to [-1, 1].

    `lower` excludes "not worse" at level a_abort, `upper` excludes "worse by more" at level a_promote; without
    evidence (W = 0) they are -1 and 1.
    """
    if state.W <= 0:
        return -1.0, 1.0
    lower = (state.S - u(state.V, a_abort, rho)) / state.W
    upper = (state.S + u(state.V, a_promote, rho)) / state.W
    return min(1.0, max(-1.0, lower)), min(1.0, max(-1.0, upper))
