"""The profile page: what it says of real rows with planted faults, of two versions, and of input that is none."""

import json
import math
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flights.workload import flight_delay
from tidegate.ingest.step import ingest
from tidegate.validate.contract import Column
from tidegate.validate.figures import BINS, correlations, histogram, missing_by_time, span_of
from tidegate.validate.step import validate
from tidegate.version.step import version

WORKLOAD = ("--workload", "flights.workload:flight_delay")
N = pl.int_range(pl.len())
MARKUP = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def tables():
    return flight_delay.source.arrivals(datetime(2013, 1, 8, tzinfo=UTC))


def finding(page, check, *columns):
    """The one finding of the first table by its check and columns."""
    (found,) = [f for f in page["tables"][0]["findings"] if (f["check"], tuple(f["columns"])) == (check, columns)]
    return found


def test_every_planted_fault_is_a_finding_and_on_the_page(tidegate, tables, tmp_path):
    bad = tables["weather"].with_columns(
        humid=pl.when(N < 9).then(pl.lit(140.0)).otherwise("humid"),
        dewp="temp",
        pressure=pl.lit(1013.0),
        sensor=pl.lit("A7"),
        origin=pl.when(N == 20).then(pl.lit(MARKUP)).otherwise("origin"),
    )
    bad = pl.concat([bad.drop("visib"), bad.drop("visib").slice(30, 4)])
    bad.write_parquet(tmp_path / "w.parquet")
    told = tidegate("validate", "profile", tmp_path / "w.parquet", *WORKLOAD, "--out", tmp_path / "p.html", "--json")
    assert (told.status, told.err) == (0, "")
    page = json.loads(told.out)
    rows = bad.height
    for check, columns, count in (
        ("missing_column", ("visib",), rows),
        ("new_column", ("sensor",), rows),
        ("duplicate_column", ("temp", "dewp"), rows),
        ("constant", ("pressure",), rows),
        ("range", ("humid",), 9),
        ("value", ("origin",), 1),
    ):
        assert finding(page, check, *columns)["rows"] == count
    text = (tmp_path / "p.html").read_text()
    assert MARKUP not in text
    assert "&lt;script&gt;" in text
    assert "9 above 100" in text
    assert not any(word in text for word in ("<link", "<script", "http://", "https://", "url("))


def test_duplicate_keys_are_counted(tidegate, tables, tmp_path):
    pl.concat([tables["weather"], tables["weather"].head(5)]).write_parquet(tmp_path / "w.parquet")
    told = tidegate("validate", "profile", tmp_path / "w.parquet", *WORKLOAD, "--json")
    assert finding(json.loads(told.out), "unique", "origin", "event_time")["rows"] == 5
    assert list(tmp_path.iterdir()) == [tmp_path / "w.parquet"]


def test_the_change_against_a_data_version_is_named(tidegate, tables, tmp_path):
    ingest(WORKLOAD[1], "2013-01-04", tmp_path / "arrivals")
    validate(tmp_path / "arrivals", WORKLOAD[1], tmp_path / "valid")
    name = version(tmp_path / "valid", tmp_path / "state", tmp_path / "data_version.json").version
    wrong = tables["weather"].with_columns(wind_speed=pl.col("wind_speed") * 4)
    wrong.write_parquet(tmp_path / "w.parquet")
    against = ("--against", name[:12], "--state", tmp_path / "state")
    told = tidegate("validate", "profile", tmp_path / "w.parquet", *WORKLOAD, *against, "--json")
    page = json.loads(told.out)
    assert "standard deviations away" in finding(page, "mean_shift", "wind_speed")["text"]
    assert "wind_speed" in page["tables"][0]["changed"]
    again = tidegate("validate", "profile", name, *WORKLOAD, *against, "--json")
    whole = json.loads(again.out)["tables"]
    assert [(table["name"], table["findings"]) for table in whole] == [(n, []) for n in sorted(tables)]


def test_a_value_that_the_other_table_lacks_is_named_where_both_are_there(tidegate, tables, tmp_path):
    tables["weather"].filter(pl.col("origin") != "JFK").write_parquet(tmp_path / "w.parquet")
    tables["flights"].write_parquet(tmp_path / "f.parquet")
    page = json.loads(tidegate("validate", "profile", tmp_path, *WORKLOAD, "--json").out)
    count = tables["flights"].filter(pl.col("origin") == "JFK").height
    assert finding(page, "reference", "origin")["rows"] == count


def test_good_rows_say_so_and_the_text_names_the_page(tidegate, tables, tmp_path):
    tables["flights"].write_parquet(tmp_path / "f.parquet")
    told = tidegate("validate", "profile", tmp_path / "f.parquet", *WORKLOAD, "--out", tmp_path / "p.html")
    assert told.out == f"flights: {tables['flights'].height} rows\npage: {tmp_path / 'p.html'}\n"
    assert "Every row keeps the contract" in (tmp_path / "p.html").read_text()


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows_and_odd_types_are_shown_too(tidegate, tables, tmp_path, rows):
    odd = tables["flights"].head(rows).with_columns(
        distance=pl.lit("far"), flag=pl.lit(True), when=pl.lit("2013-01-01").str.to_date(), empty=pl.lit(None),
        many=pl.concat_list("flight", "flight"), carrier=pl.lit(b"\xff"), dep_delay=pl.lit(math.nan),
    )  # fmt: skip
    odd.write_parquet(tmp_path / "f.parquet")
    tables["flights"].write_parquet(tmp_path / "other.parquet")
    against = ("--against", tmp_path / "other.parquet")
    told = tidegate(
        "validate", "profile", tmp_path / "f.parquet", *WORKLOAD, *against, "--out", tmp_path / "p.html", "--json"
    )
    assert (told.status, told.err) == (0, "")
    named = {(f["check"], *f["columns"]) for f in json.loads(told.out)["tables"][0]["findings"]}
    assert {("type", "distance"), ("type", "carrier"), ("new_column", "many"), ("new_column", "flag")} <= named


@pytest.mark.parametrize(
    ("content", "told"), [(None, "no such file or data version"), (b"PAR1 nothing PAR1", "a readable Parquet file")]
)
def test_what_is_no_data_is_one_clear_line(tidegate, tmp_path, content, told):
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    seen = tidegate("validate", "profile", tmp_path / "x", *WORKLOAD, "--state", tmp_path, "--out", tmp_path / "p.html")
    assert (seen.status, seen.out, seen.err.count("\n")) == (2, "", 1)
    assert told in seen.err
    assert not (tmp_path / "p.html").exists()
    (tmp_path / "folder").mkdir()
    seen = tidegate("validate", "profile", tmp_path / "folder", *WORKLOAD)
    assert (seen.status, seen.err.count("\n")) == (2, 1)


numbers = st.lists(st.one_of(st.none(), st.floats(width=32), st.integers(-5, 5).map(float)), max_size=30)


@given(numbers, numbers, st.sampled_from([None, -1.0]), st.sampled_from([None, 3.0]))
def test_a_histogram_counts_every_finite_value_once(now, before, low, high):
    column = Column("x", "number", low=low, high=high)
    a, b = (pl.Series("x", values, pl.Float64) for values in (now, before))
    finite = [value for value in now if value is not None and math.isfinite(value)]
    span = span_of([a, b], column)
    if span is None:
        assert not finite
        return
    found = histogram(a, column, span)
    assert len(found.counts) == BINS
    assert found.rows == len(finite)
    assert found.below == sum(value < span[0] for value in finite)
    assert found.bad_below == sum(low is not None and value < low for value in finite)
    assert found.bad_above == sum(high is not None and value > high for value in finite)


def test_missing_values_are_shares_of_their_time():
    days = pl.datetime(2020, 1, 1), pl.datetime(2020, 1, 10)
    hours = pl.datetime_range(*days, "1h", closed="left", time_zone="UTC", eager=True)
    rows = pl.DataFrame({"event_time": hours}).with_columns(x=pl.when(pl.col("event_time").dt.day() != 4).then(1))
    labels, shares = missing_by_time(rows, ["x"])
    assert labels == [f"01-{day:02}" for day in range(1, 10)]
    assert shares["x"] == [1.0 if label == "01-04" else 0.0 for label in labels]


def test_correlations_are_those_of_ranks():
    rows = pl.DataFrame({"a": [1.0, 2, 3, 4, math.inf], "b": [1, 8, 27, 64, 0], "c": [4, 3, 2, 1, 9], "d": [7] * 5})
    found = correlations(rows, ["a", "b", "c", "d"])
    assert found["a", "b"] == pytest.approx(1.0)
    assert found["a", "c"] == pytest.approx(-1.0)
    assert not any("d" in pair for pair in found)
