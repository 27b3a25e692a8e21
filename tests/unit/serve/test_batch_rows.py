"""Rows of Parquet are encoded and scored as rows of a request are; what cannot be scored is told in one line."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flights.workload import flight_delay
from tests.batch_flights import SCHEMA, drawn, write_partitions
from tidegate.errors import PlatformError, UserError
from tidegate.serve import batch_rows
from tidegate.serve.batch_rows import by_features, partitions, shape_of
from tidegate.serve.loaded import load_model
from tidegate.train.model_file import Feature, FeatureSchema

TINY = FeatureSchema((Feature("x", "numeric"), Feature("c", "category", ("AA", "UA")), Feature("y", "numeric")))
NUMBERS = st.one_of(st.none(), st.integers(-(2**62), 2**62), st.floats(width=32, allow_infinity=False))
ROWS = st.lists(st.fixed_dictionaries({"x": NUMBERS, "c": st.sampled_from([None, "AA", "UA", "??", ""]), "y": NUMBERS}))


def encoded(schema: FeatureSchema, batch: pa.RecordBatch) -> np.ndarray:
    columns = [np.asarray(column).astype(np.float32) for column in by_features(schema)(batch)]
    return np.stack(columns, axis=1)


@given(ROWS, st.booleans(), st.sampled_from([pa.float64(), pa.float32()]), st.booleans())
def test_columns_are_encoded_as_rows_are(rows, dictionaries, kind, large):
    text = pa.large_string() if large else pa.string()
    arrays = [
        pa.array([None if row[name] is None else float(row[name]) for row in rows], pa.float64()).cast(kind, safe=False)
        if name != "c"
        else pa.array([row[name] for row in rows], text)
        for name in TINY.names
    ]
    if dictionaries:
        arrays[1] = arrays[1].dictionary_encode()
    batch = pa.RecordBatch.from_arrays(arrays, names=list(TINY.names))
    plain = TINY.encode(rows) if rows else np.empty((0, 3), np.float32)
    np.testing.assert_array_equal(encoded(TINY, batch), plain)


@given(st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), min_size=1))
def test_whole_numbers_are_rounded_as_rows_are(values):
    column = batch_rows.numbers(pa.array(values, pa.int64()), "x")
    plain = TINY.encode([{"x": value} for value in values])[:, 0]
    np.testing.assert_array_equal(column.astype(np.float32), plain)


@pytest.mark.parametrize(
    ("column", "line"),
    [
        (pa.array(["1"]), "column x: got 'string', takes numbers"),
        (pa.array([0], pa.timestamp("us")), r"column x: got 'timestamp\[us\]', takes numbers"),
    ],
)
def test_a_column_that_is_no_number_is_named(column, line):
    with pytest.raises(UserError, match=line):
        batch_rows.numbers(column, "x")


def test_a_column_that_is_no_text_is_named():
    with pytest.raises(UserError, match="column c: got 'int64', takes texts"):
        batch_rows.category(pa.array([1, 2]), {"AA": 1}, "c")


def test_scores_have_the_bits_of_the_services(model_folder):
    model = load_model(model_folder)
    draw = np.random.default_rng(3)
    rows = np.abs(draw.normal(0, 1, (2 * batch_rows.CHUNK + 7, 3))).astype(np.float32)
    scores = batch_rows.score(model, list(rows.T))
    assert scores.tolist() == [model.score(row[None, :])[0] for row in rows]


def test_a_score_that_is_none_is_the_models_failure_and_an_infinite_number_the_rows(model_folder):
    model = load_model(model_folder)
    with pytest.raises(PlatformError, match="row 1 of a batch has no finite score"):
        batch_rows.score(model, [np.array([1.0, -1.0]), np.zeros(2), np.zeros(2)])
    with pytest.raises(UserError, match="column dep hour: got 'an infinite number', takes a finite float32"):
        batch_rows.score(model, [np.zeros(2), np.zeros(2), np.array([1e39, 0.0])])


def test_rows_are_scored_by_their_features_else_by_their_keys():
    columns = drawn(1).columns
    shape = shape_of([*columns, "more"], SCHEMA, flight_delay, "part")
    assert (shape.by_key, shape.keys, shape.categories) == (False, ("flight_id",), ("carrier", "origin", "dest"))
    assert set(shape.columns) == set(columns)
    asked = ["tailnum", "carrier", "origin", "dest", "event_timestamp", "distance", "hour", "weekday"]
    shape = shape_of(asked, SCHEMA, flight_delay, "part")
    assert shape.by_key
    assert set(shape.keys) == {"tailnum", "carrier", "origin", "dest", "event_timestamp"}
    assert shape_of([*asked, "flight_id"], SCHEMA, flight_delay, "part").keys == ("flight_id",)


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (["x"], r"part: got 'columns x', takes flight_id, or the keys origin, tailnum, carrier, dest"),
        (
            ["flight_id", "carrier"],
            r"takes also origin, dest, .* \(features\), or also origin, .*event_timestamp.*\(keys\)",
        ),
    ],
)
def test_rows_that_cannot_be_scored_say_what_is_missing(columns, line):
    with pytest.raises(UserError, match=line):
        shape_of(columns, SCHEMA, flight_delay, "part")


def test_partitions_are_the_parquet_files_of_a_file_a_folder_or_a_glob(tmp_path):
    write_partitions(tmp_path / "rows", [1, 2, 3])
    (tmp_path / "rows" / "notes.txt").write_text("no rows")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "rows" / "_hidden.parquet")
    names = [part.name.rpartition("/")[2] for part in partitions(str(tmp_path / "rows"))]
    assert names == ["part-000.parquet", "part-001.parquet", "part-002.parquet"]
    assert len(partitions(str(tmp_path / "rows" / "part-00[12].parquet"))) == 2
    (one,) = partitions(f"file://{tmp_path}/rows/part-001.parquet")
    assert one in partitions(str(tmp_path / "rows"))
    drawn(5).write_parquet(tmp_path / "rows" / "part-001.parquet")
    assert one not in partitions(str(tmp_path / "rows"))


@pytest.mark.parametrize("place", ["absent", "empty", "rows.csv"])
def test_an_input_without_parquet_is_named(tmp_path, place):
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.csv").write_text("a\n1\n")
    with pytest.raises(UserError, match=place):
        partitions(str(tmp_path / place))


def test_a_broken_partition_is_named(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"x\.parquet.*takes a readable Parquet file"):
        batch_rows.open_parquet(f"file://{tmp_path}/x.parquet")
