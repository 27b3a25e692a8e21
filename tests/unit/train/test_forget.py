"""What is kept of rows that are not retained says nothing about one row."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tidegate.train import forget
from tidegate.train.forget import LEAST
from tidegate.train.model_file import Feature, FeatureSchema
from tidegate.train.step import train
from tidegate.validate.contract import Column, Contract, TableContract

SCHEMA = FeatureSchema((Feature("x", "numeric"), Feature("c", "category", ("a", "b"))))
columns = st.integers(1, 200).flatmap(
    lambda n: st.tuples(
        arrays.arrays(np.float32, n, elements=st.floats(-1e6, 1e6, width=32) | st.just(np.float32("nan"))),
        arrays.arrays(np.float32, n, elements=st.integers(0, 2).map(float)),
        arrays.arrays(np.float64, n, elements=st.integers(0, 1).map(float)),
    )
)


@settings(max_examples=150, deadline=None)
@given(columns)
def test_sums_are_those_of_the_rows_and_no_bin_is_small(drawn):
    values, codes, labels = drawn
    encoded = np.column_stack([values, codes])
    ranges = forget.ranges_of(encoded, SCHEMA, None)
    clipped = forget.clip(encoded, SCHEMA, ranges)
    known = clipped[:, 0][np.isfinite(clipped[:, 0])].astype(float)
    kept = json.loads(json.dumps(forget.kept(clipped, labels, SCHEMA, ranges), allow_nan=False))
    assert (kept["rows"], kept["label_sum"]) == (len(labels), labels.sum())
    x, c = kept["features"]["x"], kept["features"]["c"]
    assert x["count"] + x["missing"] == len(labels)
    if len(known) >= LEAST:
        assert x["sum"] == pytest.approx(sum(known))
        assert sum(x["counts"]) == len(known)
        assert sum(x["label_sums"]) == pytest.approx(labels[np.isfinite(clipped[:, 0])].sum())
        assert min(x["counts"]) >= LEAST
        edges = [-np.inf, *x["edges"][1:]]  # a row clipped to the lowest edge may be just below it in float32
        inside = [np.sum((known >= low) & (known < high)) for low, high in itertools.pairwise(edges)]
        assert [int(rows) for rows in inside[:-1]] == x["counts"][:-1]
    else:
        assert set(x) == {"count", "missing"}
    for name, (rows, truths) in c["categories"].items():
        mine = codes == {"a": 1, "b": 2}[name]
        assert (rows, truths) == (mine.sum(), labels[mine].sum())
        assert rows >= LEAST
    assert c["others"] == 0 or c["others"] >= LEAST


@settings(max_examples=150, deadline=None)
@given(columns)
def test_a_measured_range_is_rounded_and_leaves_rows_out_on_each_side(drawn):
    values, codes, _ = drawn
    low, high = forget.ranges_of(np.column_stack([values, codes]), SCHEMA, None)["x"]
    assert low <= high
    for bound in (low, high):
        assert bound == float(f"{bound:.1e}")
    known = values[np.isfinite(values)]
    if len(known) > 2 * LEAST:
        ordered = np.sort(known)
        assert low <= ordered[LEAST]
        assert ordered[-1 - LEAST] <= high


def test_the_contracts_range_stands_before_a_measured_one():
    limits = Contract({"t": TableContract((Column("x", "number", low=-5, high=5.0),), ())})
    encoded = np.array([[np.nan, 0], [-7, 1], [3, 1], [9, 2]], np.float32)
    ranges = forget.ranges_of(encoded, SCHEMA, limits)
    assert ranges == {"x": (-5.0, 5.0)}
    np.testing.assert_array_equal(forget.clip(encoded, SCHEMA, ranges)[:, 0], np.float32([np.nan, -5, 3, 5]))


def test_reference_rows_are_drawn_from_ranges_and_categories():
    rows = forget.reference_rows(SCHEMA, {"x": (2.0, 3.0)}, 31, 7)
    assert len(rows) == 31
    assert all(2.0 <= row["x"] <= 3.0 and row["c"] in ("a", "b") for row in rows)
    assert rows == forget.reference_rows(SCHEMA, {"x": (2.0, 3.0)}, 31, 7)
    assert len({row["x"] for row in rows}) == 31


def test_feature_infos_hold_ranges_and_nothing_else_changes():
    text = "tree\nfeature_names=x c other\nfeature_infos=[1.2345:6.789] 0:1:2 [0.0123:345.6]\nend\n"
    told = forget.with_ranges(text, {"x": (0.0, 9.5)})
    assert told == "tree\nfeature_names=x c other\nfeature_infos=[0:9.5] 0:1:2 [0.012:350]\nend\n"
    assert forget.with_ranges("linear", {}) == "linear"


def test_a_version_of_rows_that_are_not_retained_quotes_none_of_them(tmp_path):
    frame = synthetic.rows(60)
    frame = frame.with_columns(x0=frame["x0"].scatter([100, 200], [1234.5, -4321.5]))
    features = synthetic.write(frame, tmp_path / "features.parquet")
    wanted = synthetic.settings({"mode": "stateless", "retain": False, "replay": 0.0})
    train(features, synthetic.NAME, synthetic.until(60), wanted, None, tmp_path / "model")
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    reference = json.loads((tmp_path / "model" / "reference.json").read_text())["rows"]
    raw = {value for name in ("x0", "x1", "x2") for value in frame[name].drop_nulls().to_list()}
    assert not raw & {row[name] for row in reference for name in ("x0", "x1", "x2")}
    assert record["kept"]["rows"] == record["rows"]
    text = (tmp_path / "model" / "model.txt").read_text()
    infos = next(line for line in text.splitlines() if line.startswith("feature_infos="))
    assert all(len(number) <= 4 for number in re.findall(r"-?[\d.e+-]+", infos))
    assert record["tested"] is None


def test_new_rows_are_tested_on_the_parent_before_they_are_learned(tmp_path):
    first = synthetic.write(synthetic.rows(60), tmp_path / "first.parquet")
    wanted = synthetic.settings({"mode": "stateless", "retain": False, "replay": 0.0})
    train(first, synthetic.NAME, synthetic.until(60), wanted, None, tmp_path / "v1")
    record = json.loads((tmp_path / "v1" / "training.json").read_text())
    parent = synthetic.parent_of(record)
    second = synthetic.write(synthetic.rows(80, seed=1), tmp_path / "second.parquet")
    wanted = synthetic.settings({"mode": "stateless", "retain": False, "replay": 0.0}, parent)
    train(second, synthetic.NAME, synthetic.until(80), wanted, tmp_path / "v1", tmp_path / "v2")
    tested = json.loads((tmp_path / "v2" / "training.json").read_text())["tested"]
    times = synthetic.rows(80, seed=1)["event_timestamp"].dt.timestamp("us") / 1e6
    assert tested["rows"] == int((times > parent.train_until).sum())
    assert 0.3 < tested["log_loss"] < 0.7
