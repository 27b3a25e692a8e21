"""Gaps between groups: the rates that fairlearn gives, limits that hold, and when a gap refuses."""

import numpy as np
import pytest

from tidegate.evaluate.fairness import RATES, fairness_checks, measure, moved, rates

N, DAYS = 6000, 14


def world(seed=0, gap=0.0):
    """Groups, days, labels and scores; scores of group b are moved by `gap`."""
    rng = np.random.default_rng(seed)
    groups, days = rng.choice(["a", "b"], N, p=[0.7, 0.3]), np.sort(rng.integers(0, DAYS, N))
    odds = rng.normal(-1, 1, N) + 0.3 * rng.normal(size=DAYS)[days]
    labels = (rng.uniform(size=N) < 1 / (1 + np.exp(-odds))).astype(float)
    return groups, days, labels, 1 / (1 + np.exp(-odds - gap * (groups == "b")))


def test_rates_and_gaps_are_those_of_fairlearn():
    metrics = pytest.importorskip("fairlearn.metrics")
    groups, days, labels, scores = world(gap=0.5)
    found = measure(groups, days, labels, {"candidate": scores}, 0.3)
    named = {name: getattr(metrics, name) for name in RATES}
    frame = metrics.MetricFrame(metrics=named, y_true=labels, y_pred=scores >= 0.3, sensitive_features=groups)
    for group, values in rates(found, "candidate").items():
        assert values == pytest.approx(frame.by_group.loc[group].to_dict())
    checks, _, _ = fairness_checks(found, 0.05)
    widest = {name.split()[1]: check.estimate for name, check in checks.items()}
    assert widest == pytest.approx(frame.difference(method="between_groups").to_dict())


def test_the_rates_are_those_of_a_naive_count():
    groups, days, labels, scores = world(gap=0.5)
    found = rates(measure(groups, days, labels, {"candidate": scores}, 0.3), "candidate")
    for group in "ab":
        here, over = groups == group, scores >= 0.3
        assert found[group]["selection_rate"] == pytest.approx(over[here].mean())
        assert found[group]["false_positive_rate"] == pytest.approx(over[here & (labels == 0)].mean())
        assert found[group]["false_negative_rate"] == pytest.approx((~over)[here & (labels == 1)].mean())


def test_a_shifted_group_is_refused_and_named():
    groups, days, labels, fair = world()
    unfair = world(gap=0.7)[3]
    found = measure(groups, days, labels, {"candidate": unfair, "champion": fair}, 0.3)
    checks, failed, _ = fairness_checks(found, 0.05)
    assert "fairness false_positive_rate b-a" in failed
    assert checks["fairness false_positive_rate b-a"].lower > 0.05
    assert moved(found, "false_positive_rate", "b", "a") == "b"


def test_a_gap_that_the_champion_has_too_is_shown_and_does_not_refuse():
    groups, days, labels, scores = world(gap=0.7)
    found = measure(groups, days, labels, {"candidate": scores, "champion": scores}, 0.05)
    checks, failed, _ = fairness_checks(found, 0.01)
    assert any(check.lower > 0.01 for name, check in checks.items() if not name.endswith("wider"))
    assert failed == []


def test_a_first_version_is_measured_and_refuses_nothing():
    groups, days, labels, scores = world(gap=0.7)
    checks, failed, _ = fairness_checks(measure(groups, days, labels, {"candidate": scores}, 0.3), 0.01)
    assert len(checks) == 3
    assert failed == []


def test_small_groups_are_listed():
    groups, days, labels, scores = world()
    groups = np.where(np.arange(N) % 100 == 0, "c", groups)
    _, _, small = fairness_checks(measure(groups, days, labels, {"candidate": scores}, 0.3), 0.05)
    assert small == {"fairness c": "60 rows"}


def test_equal_groups_are_refused_in_at_most_one_case_of_twenty():
    """The strictest policy and another model of equal quality: all three rates together."""
    refused, times = 0, 300
    for seed in range(times):
        groups, days, labels, scores = world(seed)
        noise = np.random.default_rng([seed, 1]).normal(0, 0.5, N)
        other = 1 / (1 + np.exp(-np.log(scores / (1 - scores)) - noise))
        found = measure(groups, days, labels, {"candidate": other, "champion": scores}, 0.3)
        refused += bool(fairness_checks(found, 1e-9)[1])
    assert refused / times < 0.075
