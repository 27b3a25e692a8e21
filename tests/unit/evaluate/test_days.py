"""Paired differences by day against a naive count, and their error rate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tidegate.evaluate.days import paired

days = st.lists(st.tuples(st.floats(-50, 50), st.integers(1, 400)), min_size=2, max_size=30)


def naive(sums, rows, level):
    """The ratio estimator's limits, written out."""
    sums, rows = np.array(sums), np.array(rows)
    mean = sums.sum() / rows.sum()
    n = len(rows)
    variance = n / (n - 1) * ((sums - rows * mean) ** 2).sum() / rows.sum() ** 2
    half = stats.t.ppf(level, n - 1) * math.sqrt(variance)
    return mean, mean - half, mean + half


@given(days, st.sampled_from([0.9, 0.95, 0.999]))
def test_the_limits_are_the_naive_ones(found, level):
    sums, rows = [s for s, _ in found], [n for _, n in found]
    estimate = paired(sums, rows, level)
    assert (estimate.estimate, estimate.lower, estimate.upper) == pytest.approx(naive(sums, rows, level), abs=1e-9)


def test_less_than_two_days_have_no_limits():
    assert paired([], [], 0.95).upper == math.inf
    one = paired([3.0], [10], 0.95)
    assert (one.estimate, one.lower, one.upper) == (0.3, -math.inf, math.inf)


def test_the_upper_limit_is_wrong_in_one_case_of_twenty():
    draw, wrong, times = np.random.default_rng(3), 0, 4000
    for _ in range(times):
        rows = draw.integers(50, 150, 14)
        sums = rows * draw.normal(0.1, 1.0, 14)
        wrong += paired(sums.tolist(), rows.tolist(), 0.95).upper < 0.1
    assert 0.035 < wrong / times < 0.07
