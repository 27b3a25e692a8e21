"""Frozen slices of the past, and what is proved forgotten on them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate.evaluate.days import moments, paired, paired_moments, student
from tidegate.evaluate.forgetting import MOST, forgetting_checks, frozen, measure

DAY = 86_400.0
START = 1_704_067_200.0  # 2024-01-01
days = st.lists(st.tuples(st.integers(-100, 100), st.integers(1, 400)), max_size=30)


@given(days, st.sampled_from([0.9, 0.95, 0.999]))
@example([(59, 3), (59, 3)], 0.999)
def test_moments_keep_all_that_the_limits_need(found, level):
    sums, rows = [s / 2 for s, _ in found], [n for _, n in found]
    whole, kept = paired(sums, rows, level), paired_moments(moments(sums, rows), level)
    # the spread is a difference of sums of squares: it is known to their last digits, and the limits to the root of it
    digits = 8 * np.finfo(float).eps * float(np.abs(sums).sum()) ** 2
    most = student(len(rows) - 1, level) * (2 * digits) ** 0.5 / sum(rows) if len(rows) > 1 else 0.0
    assert (kept.estimate, kept.lower, kept.upper) == pytest.approx(
        (whole.estimate, whole.lower, whole.upper), abs=1e-12 + most
    )


def times(count=6000, span=90):
    return START + np.linspace(0, span * DAY, count, endpoint=False)


def test_slices_are_months_and_values_before_the_end_of_what_the_champion_knew():
    at = times()
    regions = np.where(np.arange(len(at)) % 4 == 0, "rare", "common")
    found = frozen(at, {"region": regions}, START + 45 * DAY)
    assert set(found) == {"month=2024-01", "month=2024-02", "region=rare", "region=common"}
    assert all(at[rows].max() <= START + 45 * DAY for rows in found.values())
    assert (regions[found["region=rare"]] == "rare").all()
    assert len(found["month=2024-01"]) == MOST
    assert len(found["region=rare"]) == 751


def test_the_same_rows_are_asked_whatever_is_added_later():
    at, end = times(), START + 45 * DAY
    before, after = frozen(at[:4000], {}, end), frozen(at, {}, end)
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("lost", "over"), [(0.05, True), (0.005, False)])
def test_a_forgotten_month_is_proved_and_a_small_loss_is_not(lost, over):
    at = times()
    months = np.asarray(at, "datetime64[s]").astype("datetime64[M]").astype(str)
    losses = np.random.default_rng(5).normal(0, 0.1, len(at)) + lost * (months == "2024-02")
    checks, small = forgetting_checks(measure(frozen(at, {}, START + 70 * DAY), at, losses), 0.01)
    failed = [name for name, check in checks.items() if check.lower > check.margin]
    assert failed == (["past month=2024-02"] if over else [])
    assert small == {}


def test_a_slice_with_few_rows_is_listed():
    at = times()
    regions = np.where(np.arange(len(at)) % 100 == 0, "rare", "common")
    _, small = forgetting_checks(measure(frozen(at, {"region": regions}, at[-1]), at, np.zeros(len(at))), 0.01)
    assert small == {"past region=rare": "60 rows on 60 days"}
