"""Where rows are not retained, no recorded number stands for a few rows."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tidegate.evaluate import forgetting
from tidegate.evaluate.blocks import OTHERS, blocks, merged_bins, values_of
from tidegate.evaluate.gate import Policy, gate
from tidegate.evaluate.measure import Compared, measure
from tidegate.spec import FairnessSpec, GateSpec, Objective

LEAST = 20
few_days = arrays.arrays(np.int64, st.integers(0, 300), elements=st.integers(0, 20))


@given(few_days, st.integers(2, 40))
def test_blocks_are_runs_of_days_and_none_is_small(days, least):
    found = blocks(days, least)
    assert found.shape == days.shape
    for one in np.unique(found):
        inside = found == one
        assert inside.sum() >= min(least, len(days))
        assert days[inside].min() == one
    ordered = found[np.argsort(days, kind="stable")]
    assert (np.diff(ordered) >= 0).all()
    np.testing.assert_array_equal(blocks(days, 1), days)


@given(few_days, st.integers(2, 10), st.data())
def test_every_group_has_enough_rows_in_every_block(days, least, data):
    groups = data.draw(arrays.arrays(np.int64, len(days), elements=st.integers(0, 2)))
    found = blocks(days, least, groups)
    cells = [((found == b) & (groups == g)).sum() for b, g in itertools.product(np.unique(found), np.unique(groups))]
    assert len(np.unique(found)) <= 1 or min(cells) >= least


@given(few_days, st.integers(2, 10), st.data())
def test_merged_bins_are_neighbours_with_enough_rows_on_every_day(days, least, data):
    bins = data.draw(arrays.arrays(np.int64, len(days), elements=st.integers(0, 9)))
    found = merged_bins(days, bins, least)
    ordered = found[np.argsort(bins, kind="stable")]
    assert (np.diff(ordered) >= 0).all()
    cells = [((found == b) & (days == d)).sum() for b, d in itertools.product(np.unique(found), np.unique(days))]
    assert len(np.unique(found)) <= 1 or min(cells) >= least


def test_values_of_few_rows_are_the_others():
    column = np.array(["big"] * 30 + ["small"] * 5 + ["tiny"] * 2, object)
    assert set(values_of(column, 20)) == {"big", OTHERS}
    assert set(values_of(column, 1)) == {"big", "small", "tiny"}


SPEC = GateSpec(
    margin=0.5,
    slices=("carrier",),
    fairness=FairnessSpec(protected="group", max_gap=0.5),
    objectives=(Objective(metric="calibration", margin=0.5), Objective(metric="roc_auc", margin=0.5)),
)


def compared(rows=2000, least=LEAST):
    """14 days, the first with 3 rows; a carrier of 4 rows, three of 9 rows each, one of 40."""
    rng = np.random.default_rng(2)
    days = np.sort(np.r_[np.zeros(min(3, rows)), rng.integers(1, 14, max(0, rows - 3))]).astype(np.int64)
    names = ["secret"] * 4 + ["a"] * 9 + ["b"] * 9 + ["c"] * 9 + ["forty"] * 40
    carrier = rng.permutation(np.array((names + ["large"] * rows)[:rows], object))
    group = rng.permutation(np.array((["few"] * 30 + ["one", "two"] * rows)[:rows], object))
    odds = rng.normal(-1, 1, rows)
    labels = (rng.uniform(size=rows) < 1 / (1 + np.exp(-odds))).astype(float)
    scores = [1 / (1 + np.exp(-odds - by)) for by in (0.05, 0.0)]
    columns = {"carrier": carrier, "group": group}
    return Compared(days, labels, *scores, float(labels.mean()), columns=columns, least=least)


def test_no_sum_of_a_measurement_stands_for_fewer_than_twenty_rows():
    found = measure(compared(), SPEC)
    assert set(found["slices"]["carrier"]) == {"large", "forty", OTHERS}
    sums = [found["days"], *found["slices"]["carrier"].values(), *(found["objectives"].values())]
    assert min(min(one["rows"]) for one in sums) >= LEAST
    assert sum(found["days"]["rows"]) == sum(sum(one["rows"]) for one in found["slices"]["carrier"].values()) == 2000
    assert set(found["fairness"]["groups"]) == {"one", "two"}
    assert min(min(one["rows"]) for one in found["fairness"]["groups"].values()) >= LEAST
    text = json.dumps(found)
    assert not [name for name in ("secret", "few") if name in text]


def test_the_sums_are_those_of_the_retained_rows():
    kept, sparing = (measure(compared(least=least), SPEC) for least in (1, LEAST))
    assert sum(sparing["days"]["sums"]) == pytest.approx(sum(kept["days"]["sums"]))
    assert sparing["candidate"] == kept["candidate"]
    small = [kept["slices"]["carrier"][name] for name in ("secret", "a", "b", "c")]
    others = sparing["slices"]["carrier"][OTHERS]
    assert sum(others["sums"]) == pytest.approx(sum(sum(one["sums"]) for one in small))
    assert gate(Policy("log_loss", 0.5, fairness=0.5), {"reference_distance": 0.0, **sparing}).verdict == "passed"


def test_a_window_of_few_rows_leaves_nothing():
    found = measure(replace(compared(15)), SPEC)
    assert (found["rows"], found["days"], found["slices"]["carrier"]) == (0, {"rows": [], "sums": []}, {})
    assert gate(Policy("log_loss", 0.5), {"reference_distance": 0.0, **found}).reason == "gate_too_little"


def test_others_that_are_too_few_together_are_left_out():
    rows = compared(60)
    column = np.array(["x"] * 55 + ["rare"] * 5, object)
    found = measure(replace(rows, columns={**rows.columns, "carrier": column}), SPEC)
    assert set(found["slices"]["carrier"]) == {"x"}


def test_the_past_has_no_slice_of_few_rows():
    times, values = np.arange(40.0) * 86_400, np.array(["x"] * 30 + ["rare"] * 10, object)
    assert set(forgetting.frozen(times, {"c": values}, np.inf, LEAST)) == {"month=1970-01", "c=x"}
