"""Labels that are seen by chance stand for all rows; rows that can never be seen are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate.errors import UserError
from tidegate.monitor.exploration import LEAST_EXPLORED, loss_of_all


def drawn(seed: int, rows: int = 4000, share: float = 0.05):
    """(loss of every row, the same with nan where it is not seen, propensity): worse where it is seldom seen."""
    draw = np.random.default_rng(seed)
    acted = draw.random(rows) < 0.5
    loss = np.where(acted, draw.exponential(0.3, rows), draw.exponential(0.8, rows))
    propensity = np.where(acted, 1.0, share)
    return loss, np.where(draw.random(rows) < propensity, loss, np.nan), propensity


def test_the_interval_holds_the_loss_of_all_rows_as_often_as_it_says():
    held = 0
    for seed in range(400):
        loss, seen, propensity = drawn(seed)
        found = loss_of_all(seen, propensity)
        held += found.lower <= loss.mean() <= found.upper
    assert 0.92 <= held / 400 <= 0.98


def test_it_is_the_weighted_mean_by_its_definition():
    _, seen, propensity = drawn(1)
    total = weights = 0.0
    for loss, chance in zip(seen, propensity, strict=True):
        if not math.isnan(loss):
            total, weights = total + loss / chance, weights + 1 / chance
    assert loss_of_all(seen, propensity).value == pytest.approx(total / weights)


def test_where_every_label_is_seen_it_is_the_mean_and_nothing_is_open():
    loss, _, _ = drawn(2)
    found = loss_of_all(loss, np.ones(len(loss)))
    assert (found.value, found.lower, found.upper) == pytest.approx((loss.mean(),) * 3)


def test_too_few_explored_rows_have_no_limits():
    loss, _, propensity = drawn(3, rows=200)
    found = loss_of_all(np.where(propensity == 1, loss, np.nan), propensity)
    assert (found.explored, found.lower, found.upper) == (0, -math.inf, math.inf)
    assert found.explored < LEAST_EXPLORED


@pytest.mark.parametrize("chance", [0.0, -0.1, 1.1, math.nan])
def test_a_row_that_can_never_be_seen_is_refused(chance):
    with pytest.raises(UserError, match="exploration"):
        loss_of_all(np.array([0.1, math.nan]), np.array([1.0, chance]))
