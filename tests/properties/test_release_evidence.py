"""Evidence has one order: neither cuts into batches nor the order of arrival change the sums."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.release.confidence import State
from tidegate.release.fold import EvidenceFold
from tidegate.release.policy import JudgePolicy, Metric
from tidegate.release.rows import Labels, Rows, rows_of, take
from tidegate.release.sums import fold_difference

POLICY = JudgePolicy(
    alpha=0.05,
    metrics=(Metric("loss", 0.005, "shadow", True), Metric("errors", 0.005, "split", False)),
    places=("shadow", "split"),
    label_deadline=30.0,
    block=25.0,
    slo_ms=10.0,
)


def stream(seed, size):
    """Split rows, then pairs, with ties in time, and most of their labels."""
    rng = np.random.default_rng(seed)
    time, ids = np.sort(rng.integers(0, 100, size)).astype(float), [f"q{rng.integers(10**6)}-{i}" for i in range(size)]
    arm, pairs = rng.integers(0, 2, size), rng.random(size) < 0.5
    share = np.where(pairs, 1.0, rng.choice([0.1, 0.5], size))
    arm[pairs] = 0

    def rows(arm, mirrored):
        score, error, latency = rng.random(size), rng.random(size) < 0.1, rng.exponential(8, size)
        return rows_of(time, ids, arm, share, mirrored=mirrored, score=score, error=error, latency_ms=latency)

    mains = rows(arm, np.zeros(size, bool))
    copies = take(rows(np.ones(size, int), np.ones(size, bool)), pairs & (rng.random(size) < 0.9))
    told = rng.random(size) < 0.8
    labels = Labels(
        time[told] + 5, [i for i, yes in zip(ids, told, strict=True) if yes], rng.random(told.sum()).round()
    )
    return [mains, copies], labels


def close(one, other):
    """Evidence equal to 1e-9 relative."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == pytest.approx(other, rel=1e-9, abs=1e-9)


def fold_whole(tables, labels, until):
    fold = EvidenceFold(POLICY)
    for table in tables:
        fold.add(table)
    fold.label(labels)
    return fold.advance(until).to_json()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(0, 10**6))
def test_arrival_order_and_looks_do_not_change_the_evidence(seed, size, shuffle):
    tables, labels = stream(seed, size)
    rng = np.random.default_rng(shuffle)
    single: list[Rows] = [take(table, [i]) for table in tables for i in range(len(table))]
    rng.shuffle(single)
    # a row may come any time before its watermark; labels any time before their request's maturity
    fold = EvidenceFold(POLICY)
    labelled = rng.random(len(labels.request_id)) < 0.5
    marks = sorted({0.0, *rng.uniform(0, 150, 4).round(), 200.0})
    for before, mark in zip([-1.0, *marks], [*marks], strict=False):
        early = [row for row in single if row.time[0] <= mark]
        single = [row for row in single if row.time[0] > mark]
        for row in early:
            fold.add(row)
        for part in (labelled, ~labelled) if before < 0 else ():
            ids = [name for name, yes in zip(labels.request_id, part, strict=True) if yes]
            fold.label(Labels(labels.time[part], ids, labels.value[part]))
        fold.advance(mark)
    assert close(fold.advance(200).to_json(), fold_whole(tables, labels, 200.0))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 300), max_size=6))
def test_the_difference_does_not_depend_on_the_cuts(seed, cuts):
    rng = np.random.default_rng(seed)
    y, pi = rng.random(300), rng.choice([0.01, 0.25, 0.5], 300)
    a = (rng.random(300) < pi).astype(float)
    state = State()
    edges = [0, *sorted(cuts), 300]
    for low, high in itertools.pairwise(edges):
        state = fold_difference(state, y[low:high], a[low:high], pi[low:high])[0]
    whole = fold_difference(State(), y, a, pi)[0]
    assert close(state.to_json(), whole.to_json())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60))
def test_a_duplicate_or_a_forged_stranger_changes_nothing(seed, size):
    tables, labels = stream(seed, size)
    again = [take(table, slice(0, size // 2)) for table in tables]
    assert fold_whole([*tables, *again], labels, 200.0) == fold_whole(tables, labels, 200.0)
