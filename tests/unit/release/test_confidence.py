"""The bound: its table of values, its shape, and its error rate."""

import math
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest

from tidegate.release.confidence import State, bounds, log_e, u

TABLE = {
    (16, 0.05): "10.378 10.723 13.484 30.234 98.07 338.44",
    (16, 0.05 / 3): "12.965 13.355 16.473 35.215 109.894 370.57",
    (16, 0.005): "15.518 15.953 19.418 40.124 121.661 402.95",
    (4, 0.05): "6.169 6.878 11.430 31.906 105.801 361.00",
    (4, 0.05 / 3): "7.884 8.675 13.745 36.348 116.806 391.31",
}


@pytest.mark.parametrize(("rho", "a"), TABLE)
def test_u_reproduces_the_published_table_to_its_last_digit(rho, a):
    """The table was rounded to three digits first: 360.99478 (checked by quadrature) -> 360.995 -> 361.00."""
    for v, text in zip((0, 1, 10, 100, 1000, 10000), TABLE[rho, a].split(), strict=True):
        digits = Decimal(u(v, a, rho)).quantize(Decimal("0.001"), ROUND_HALF_UP)
        assert digits.quantize(Decimal(text), ROUND_HALF_UP) == Decimal(text)


def test_log_e_is_the_formula_written_out():
    from scipy.special import gammainc

    for v in (0.0, 0.3, 7.0, 250.0):
        for s in (0.0, 1.5, 20.0, -2.0):
            for r in (4.0, 16.0):
                direct = (
                    r * math.log(r) - math.lgamma(r) - math.log(gammainc(r, r)) + math.lgamma(v + r)
                    + math.log(gammainc(v + r, s + v + r)) - (v + r) * math.log(s + v + r) + s + v
                )  # fmt: skip
                assert log_e(s, v, r) == pytest.approx(direct, abs=1e-9)


def test_log_e_is_the_mixture_integral():
    """exp(l s + (l + log(1 - l)) v) averaged over l in [0, 1) by the truncated gamma mixture, by quadrature."""
    from scipy.integrate import quad
    from scipy.special import gammainc

    s, v, r = 6.0, 5.0, 4.0
    constant = r**r / (math.gamma(r) * gammainc(r, r)) * math.exp(-r)
    density = lambda x: constant * (1 - x) ** (r - 1) * math.exp(r * x)  # noqa: E731
    value = quad(lambda x: math.exp(x * s) * ((1 - x) * math.exp(x)) ** v * density(x), 0, 1)[0]
    assert log_e(s, v, r) == pytest.approx(math.log(value), abs=1e-8)


def test_u_grows_with_variance_and_falls_with_the_level():
    values = [u(v, 0.05, 4) for v in (0, 1e-9, 0.5, 3, 1e3, 1e3 + 1, 1e6, 1e9)]
    assert values == sorted(values)
    levels = [u(10, a, 4) for a in (0.2, 0.05, 1e-3, 1e-9, 1e-30)]
    assert levels == sorted(levels)


def test_u_is_where_the_process_reaches_its_level():
    for v in (0, 2, 999, 1001, 1e7):
        assert log_e(u(v, 0.01, 16), v, 16) == pytest.approx(math.log(100), abs=1e-6)


def test_far_below_zero_there_is_no_evidence():
    assert log_e(-1e6, 10, 4) == -math.inf


def test_without_evidence_everything_is_possible():
    assert bounds(State(), 0.05, 0.05, 4) == (-1.0, 1.0)
    assert State().estimate is None


def test_limits_are_clipped():
    assert bounds(State(1, 1.0, 0.5, 0.25, 0.25), 0.05, 0.05, 4) == (-1.0, 1.0)


def test_state_survives_json():
    state = State(3, 0.1, 1 / 3, 2 / 7, 0.75)
    assert State.from_json(state.to_json()) == state


@pytest.mark.parametrize(("base", "share"), [(0.01, 0.01), (0.1, 0.5), (0.3, 0.05)])
def test_equal_arms_are_seldom_told_apart(base, share):
    """A/A, a look after every request, two-sided 5 %: 300 replications of 4,000 requests; at most 6 wrong (99 %)."""
    rng = np.random.default_rng(7)
    size, wrong = 4000, 0
    for _ in range(300):
        y = (rng.random(size) < base).astype(float)
        a = (rng.random(size) < share).astype(float)
        mean = (np.cumsum(y) - y) / np.maximum(np.arange(size), 1)
        x = (y - mean) * (a - share)
        s, v = np.abs(np.cumsum(x)), np.cumsum(x * x)
        # u grows with V, so only looks where S makes a record can be the first to cross
        records = np.flatnonzero(s >= np.maximum.accumulate(s))[::5]
        wrong += any(log_e(s[i], v[i], 16) >= math.log(1 / 0.025) for i in records if s[i] > 12)
    assert wrong <= 6
