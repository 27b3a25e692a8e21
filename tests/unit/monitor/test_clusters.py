"""The shift of a mean between two windows."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.monitor.clusters import shift


def test_a_few_rows_of_one_label_prove_no_more_than_the_references_variance_lets_them() -> None:
    """Their own variance is none: taken by itself, any effect beyond the margin would be proved."""
    reference = np.repeat([1.0, 0.0], [1500, 4500]) - 0.25
    found = shift(reference, None, np.full(20, -0.25), None)
    assert found.effect == -0.25
    assert found.error == pytest.approx(np.sqrt(0.1875 / 6000 + 0.1875 / 20))
    assert found.beyond(0.05) > 0.01


def test_rows_that_vary_more_than_the_references_have_their_own_variance() -> None:
    wide = np.tile([-1.0, 1.0], 50)
    assert shift(np.tile([-0.1, 0.1], 50), None, wide, None).error == pytest.approx(np.sqrt(0.01 / 100 + 1 / 100))


def test_false_alarms_of_small_groups_are_as_rare_as_said() -> None:
    """10,000 groups of 25 labels of a base rate of 25 %, against one reference: at most 0.6 % at 0.001 a side."""
    rng = np.random.default_rng(5)
    reference = (rng.random(6000) < 0.25) - 0.25
    groups = (rng.random((10_000, 25)) < 0.25) - 0.25
    alarms = sum(shift(reference, None, group, None).beyond(0.0) < 0.001 for group in groups)
    assert alarms <= 60
