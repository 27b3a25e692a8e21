"""The gate's rules on recorded numbers."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.evaluate.gate import Policy, again, gate
from tidegate.evaluate.metrics import roc_auc
from tidegate.reasons import GATE_REASONS

POLICY = Policy("log_loss", 0.002)


def days(mean: float, spread: float = 0.001, rows: int = 900, count: int = 14):
    offsets = spread * np.resize([1.0, -1.0], count)
    return {"rows": [rows] * count, "sums": (rows * (mean + offsets)).tolist()}


def measured(main=None, slices=None, compared="champion", reference=1e-7):
    return {
        "compared_with": compared,
        "reference_distance": reference,
        "days": main or days(0.0),
        "slices": {"origin": slices or {}},
    }


@pytest.mark.parametrize(
    ("measurements", "verdict", "reason"),
    [
        (measured(), "passed", "not_worse"),
        (measured(days(-0.01)), "passed", "not_worse"),
        (measured(days(0.003)), "refused", "gate_metric"),
        (measured(days(0.001, spread=0.01)), "refused", "gate_metric"),
        (measured(days(-0.1), compared="base_rate"), "passed", "first_version"),
        (measured(days(0.0001), compared="base_rate"), "refused", "base_rate"),
        (measured(reference=1e-4), "refused", "reference_rows"),
        (measured(reference=float("nan")), "refused", "reference_rows"),
        (measured(days(-0.01, count=4)), "refused", "gate_too_little"),
        (measured({"rows": [], "sums": []}), "refused", "gate_too_little"),
        (measured(slices={"JFK": days(0.05, rows=60)}), "refused", "gate_slice"),
        (measured(slices={"JFK": days(0.05, rows=10)}), "refused", "gate_slice"),
        (measured(slices={"JFK": days(0.05, spread=0.5, rows=10)}), "passed", "not_worse"),
        (measured(slices={"JFK": days(0.004, spread=0.01, rows=60)}), "passed", "not_worse"),
    ],
)
def test_the_rules(measurements, verdict, reason):
    found = gate(POLICY, measurements)
    assert (found.verdict, found.reason) == (verdict, reason)
    assert reason in GATE_REASONS


def test_every_check_that_refuses_is_listed_in_the_order_of_the_rules():
    found = gate(POLICY, measured(days(0.01), {"JFK": days(0.05, rows=60)}, reference=1.0))
    assert (found.reason, found.failed) == ("reference_rows", ("reference", "log_loss", "origin=JFK"))


@pytest.mark.parametrize(
    ("window", "failed"),
    [(1e-6, ()), (1e-4, ("service window rows",)), (None, ("service window rows",))],
)
def test_the_service_must_answer_as_it_was_scored(window, failed):
    """`window`: how far its scores are away; None where it gave none."""
    answers = {"reference": {"rows": 32, "distance": 1e-7}, "window": {"rows": 512, "distance": window}, "error": ""}
    found = gate(POLICY, {**measured(), "infrastructure": answers})
    assert (found.reason, found.failed) == ("infrastructure" if failed else "not_worse", failed)


def test_failures_of_one_rule_are_listed_by_name():
    bad = days(0.05, rows=60)
    found = gate(POLICY, {**measured(), "slices": {"origin": {"JFK": bad}, "carrier": {"VX": bad}}})
    assert found.failed == ("carrier=VX", "origin=JFK")


def test_what_was_not_asked_is_listed():
    found = gate(POLICY, measured(compared="base_rate"))
    assert {"slices", "fairness", "forgetting"} == set(found.not_assessed)


def test_a_record_of_rules_1_is_answered_as_it_was_then():
    """As a journal of that time holds it: a small slice is not asked about, and no list of failures is kept."""
    recorded = {
        "policy": {"metric": "log_loss", "margin": 0.002},
        "measurements": measured(slices={"JFK": days(0.05, rows=10), "EWR": days(0.0)}),
    }
    found = again(recorded)
    assert (found["verdict"], found["reason"]) == ("passed", "not_worse")
    assert set(found) == {"verdict", "reason", "checks", "not_assessed"}
    assert set(found["checks"]) == {"reference", "log_loss", "origin=EWR"}
    small = {"origin=JFK": "140 rows on 14 days"}
    assert found["not_assessed"] == {**small, "fairness": "not built yet", "forgetting": "not built yet"}


numbers = st.lists(st.tuples(st.integers(1, 500), st.floats(-100, 100)), max_size=20).map(
    lambda found: {"rows": [n for n, _ in found], "sums": [s for _, s in found]}
)


@given(
    numbers,
    st.dictionaries(st.sampled_from("abc"), numbers),
    st.sampled_from(["champion", "base_rate"]),
    st.floats(0, 1e-3),
)
def test_it_is_total_and_replays_from_its_record(main, slices, compared, reference):
    """The journal keeps keys sorted, whatever the order in which they were measured."""
    measurements = measured(main, dict(sorted(slices.items(), reverse=True)), compared, reference)
    found = asdict(gate(POLICY, measurements))
    record = {"policy": asdict(POLICY), "measurements": measurements}
    assert again(json.loads(json.dumps(record, allow_nan=False, sort_keys=True))) == found
    json.dumps(found, allow_nan=False)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_order(pairs):
    labels, scores = np.array([float(y) for y, _ in pairs]), np.array([float(s) for _, s in pairs])
    up, down = scores[labels == 1], scores[labels == 0]
    if len(up) and len(down):
        share = np.mean([(u > d) + (u == d) / 2 for u in up for d in down])
        assert roc_auc(labels, scores) == pytest.approx(share)
