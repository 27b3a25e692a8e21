"""The fast folds against a slow twin, one row at a time."""

import json
import math

import numpy as np
import pytest

from tidegate.release.confidence import State
from tidegate.release.evidence import Evidence, Stats
from tidegate.release.judge import check_slices
from tidegate.release.policy import JudgePolicy, Metric
from tidegate.release.sums import add_blocks, fold_difference, fold_split, fold_split_matured


def slowly(y, a, pi):
    n, total, s, v, w = 0, 0.0, 0.0, 0.0, 0.0
    for value, arm, share in zip(y, a, pi, strict=True):
        mean = total / n if n else 0.0
        x = (value - mean) * (arm - share)
        n, total, s, v, w = n + 1, total + value, s + x, v + x * x, w + share * (1 - share)
    return State(n, total, s, v, w)


def split(seed, size=500):
    rng = np.random.default_rng(seed)
    pi = rng.choice([0.01, 0.05, 0.25, 0.5], size)
    return rng.random(size), (rng.random(size) < pi).astype(float), pi


def test_the_difference_is_the_formula():
    y, a, pi = split(1)
    state, x, w = fold_difference(State(), y, a, pi)
    expected = slowly(y, a, pi)
    for name, value in expected.to_json().items():
        assert state.to_json()[name] == pytest.approx(value, rel=1e-12)
    assert x.sum() == pytest.approx(state.S)
    assert w.sum() == pytest.approx(state.W)


def test_the_weighted_difference_is_not_fooled_by_a_ramp_over_a_drifting_base_rate():
    """Simpson: no effect, share 1 % at base 5 %, then 50 % at base 30 %; pooled rates differ by 8 points."""
    rng = np.random.default_rng(3)
    base = np.repeat([0.05, 0.1, 0.2, 0.3], 50_000)
    pi = np.repeat([0.01, 0.05, 0.25, 0.5], 50_000)
    y, a = (rng.random(len(pi)) < base).astype(float), (rng.random(len(pi)) < pi).astype(float)
    state, _, _ = fold_difference(State(), y, a, pi)
    assert abs(y[a == 1].mean() - y[a == 0].mean()) > 0.07
    assert abs(state.S) < 4 * math.sqrt(state.V)
    assert abs(state.estimate) < 0.012


def test_split_requests_are_counted_by_arm_and_weight():
    a, pi = np.array([1.0, 0, 0, 1]), np.array([0.01, 0.01, 0.5, 0.5])
    stats = fold_split(Stats(), a, pi, {"errors": np.array([0.0, 1, 0, 0])})
    assert (stats.counts.requests, stats.counts.champion, stats.counts.challenger) == (4, 2, 2)
    assert stats.counts.by_weight == {"0.01": 2, "0.5": 2}
    assert pytest.approx(0.99 - 0.01 - 0.5 + 0.5) == stats.state("sample_ratio").S
    assert stats.state("sample_ratio").W == 4


def test_a_request_without_a_label_is_counted_and_leaves_the_loss():
    loss = np.array([0.2, math.nan, 0.4, math.nan])
    labelled = np.array([True, False, True, True])
    a, pi, time = np.array([1.0, 1, 0, 0]), np.full(4, 0.5), np.arange(4.0)
    stats = fold_split_matured(Stats(), time, a, pi, loss, labelled, None)
    assert stats.state("loss").n == 2
    assert stats.state("sample_ratio_labels").n == 3
    assert (stats.counts.matured, stats.counts.unlabelled_challenger, stats.counts.unlabelled_champion) == (4, 1, 0)


def test_blocks_add_up():
    x, w = np.array([1.0, 2, 3]), np.array([0.5, 0.5, 1])
    blocks = add_blocks({4: (1, 1.0, 1.0)}, np.array([4.0, 5, 5]), x, w)
    assert blocks == {4: (2, 2.0, 1.5), 5: (2, 5.0, 1.5)}


def test_evidence_survives_json_exactly():

    y, a, pi = split(2)
    stats = fold_split_matured(Stats(), np.arange(500.0), a, pi, y, y > 0, 100.0)
    stats = fold_split(stats, a, pi, {"errors": y})
    evidence = Evidence(12.5, {"split": stats}, 3)
    assert Evidence.from_json(json.loads(json.dumps(evidence.to_json()))) == evidence
    assert Evidence.from_json(Evidence().to_json()) == Evidence()


def test_the_order_in_which_values_of_a_slice_were_seen_survives_a_journal_that_sorts_names():
    seen = ["loss", "loss[origin=LGA]", "loss[origin=EWR]", "errors"]
    stats = Stats({name: State(n) for n, name in enumerate(seen)})
    told = json.loads(json.dumps(stats.to_json(), sort_keys=True))
    again = Stats.from_json(told)
    assert again == stats
    policy = JudgePolicy(0.05, (Metric("loss", 0.01, "split", True),), ("split",), 10.0, slices=("origin",))
    assert list(check_slices(policy, again, "split")) == ["loss[origin=LGA]", "loss[origin=EWR]"]
    assert "order" not in Stats({"loss": State()}).to_json()
