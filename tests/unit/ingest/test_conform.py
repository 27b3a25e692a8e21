"""Rows of any source in the contract's columns and kinds: against a reference that looks at one value at a time."""

import math
from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing.parametric import dataframes
from readings import TABLES

from tidegate.ingest.conform import OLDEST, conform, dtypes, in_order
from tidegate.validate.contract import Column, TableContract

NOW = datetime(2024, 6, 1, tzinfo=UTC)
GOOD = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
READINGS = TABLES["readings"]


def one(kind, values, dtype=None, nullable=True):
    """The values as column `x` of a table of one kind, conformed."""
    table = TableContract((Column("event_time", "time"), Column("x", kind, nullable=nullable)), ("event_time",))
    times = [GOOD] * len(values)
    return conform(pl.DataFrame([pl.Series("event_time", times), pl.Series("x", values, dtype=dtype)]), table, NOW)


def integer(text):
    """The reference: an integer as a person reads it, None where the text is none (or too long for 64 bits)."""
    try:
        number = int(text)
    except ValueError:
        try:
            real = float(text)
        except ValueError:
            return None
        number = int(real) if math.isfinite(real) and real == int(real) and abs(real) < 2**53 else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


WORDS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-99, 99).map(lambda n: f" {n} "),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.sampled_from(["", "x", "1.5", "12.0", "--1", "1e12", "1,5", "12a"]),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.none() | WORDS, min_size=1, max_size=8))
def test_text_becomes_an_integer_where_it_is_one_and_its_row_goes_aside_where_not(words):
    found = one("integer", words, pl.String)
    wanted = [None if word is None else integer(word) for word in words]
    bad = [word is not None and number is None for word, number in zip(words, wanted, strict=True)]
    assert found.rows["x"].to_list() == [n for n, out in zip(wanted, bad, strict=True) if not out]
    assert found.rows["x"].dtype == pl.Int64
    assert found.aside["x"].to_list() == [word for word, out in zip(words, bad, strict=True) if out]
    assert set(found.aside["reasons"].to_list()) <= {"type(x)"}
    assert [(v.check, v.column, v.rows) for v in found.violations] == ([("type", "x", sum(bad))] if any(bad) else [])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.none() | st.floats(), min_size=1, max_size=8))
def test_a_real_number_is_an_integer_only_without_loss(numbers):
    found = one("integer", numbers, pl.Float64)
    good = [n is None or (math.isfinite(n) and n == int(n) and -(2**63) <= n < 2**63) for n in numbers]
    kept = [None if n is None else int(n) for n, fine in zip(numbers, good, strict=True) if fine]
    assert found.rows["x"].to_list() == kept
    assert found.aside.height == good.count(False)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.datetimes(datetime(1950, 1, 1), datetime(2024, 5, 1), timezones=st.just(UTC)), min_size=1, max_size=5),
    st.integers(-12, 12),
)
def test_a_time_is_the_same_instant_however_it_is_written(times, hours):
    zone = timezone(timedelta(hours=hours))
    ways = {
        "iso": pl.Series([time.isoformat() for time in times]),
        "space": pl.Series([time.isoformat(" ") for time in times]),
        "z": pl.Series([time.isoformat().replace("+00:00", "Z") for time in times]),
        "no zone": pl.Series([time.replace(tzinfo=None).isoformat(" ") for time in times]),
        "offset": pl.Series([time.astimezone(zone).isoformat() for time in times]),
        "short offset": pl.Series([time.isoformat(" ")[:-3] for time in times]),
        "naive": pl.Series([time.replace(tzinfo=None) for time in times]),
        "zoned": pl.Series(times).dt.convert_time_zone("America/New_York"),
        "nanoseconds": pl.Series(times).cast(pl.Datetime("ns", "UTC")),
    }
    for way, series in ways.items():
        found = conform(
            pl.DataFrame([series.alias("event_time"), pl.Series("place", ["a"] * len(times))]), TABLES["places"], NOW
        )
        assert found.rows["event_time"].to_list() == times, way
        assert found.rows["event_time"].dtype == pl.Datetime("us", "UTC")


@pytest.mark.parametrize(
    ("kind", "values", "dtype", "kept", "check"),
    [
        ("text", ["a", None], pl.Categorical, ["a", None], None),
        ("text", [1, 2], pl.Int32, ["1", "2"], None),
        ("text", [b"ab", b"\xff\xfe"], pl.Binary, ["ab"], "encoding"),
        ("text", ["a", "b\ufffd"], pl.String, ["a"], "encoding"),
        ("text", [["a"], None], pl.List(pl.String), [None], "type"),
        ("number", ["1e3", "x", "NaN"], pl.String, [1000.0, math.nan], "type"),
        ("number", [[1.0], [2.0]], pl.List(pl.Float64), [], "type"),
        ("number", [1, 10**12], pl.Int64, [1.0, 1e12], None),
        ("number", [date(2024, 1, 1)], pl.Date, [], "type"),
        ("integer", [10**12], pl.Int64, [10**12], None),
        ("integer", [2**63, 1], pl.UInt64, [1], "type"),
        ("integer", [None, None], pl.Null, [None, None], None),
        ("time", ["2024-01-01", "yesterday", "2024-13-01"], pl.String, [datetime(2024, 1, 1, tzinfo=UTC)], "type"),
        ("time", [date(2024, 1, 1)], pl.Date, [datetime(2024, 1, 1, tzinfo=UTC)], None),
        ("time", [1_700_000_000], pl.Int64, [], "type"),
    ],
)
def test_a_type_is_cast_where_nothing_is_lost(kind, values, dtype, kept, check):
    found = one(kind, values, dtype)
    assert [str(value) for value in found.rows["x"].to_list()] == [str(value) for value in kept]
    assert [v.check for v in found.violations] == ([check] if check else [])
    assert found.aside.height == len(values) - len(kept)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_a_time_outside_every_calendar_costs_its_row_alone(unit, zone):
    wild = [9 * 10**15, -(2**63) + 1, 91 * 10**17, 0]
    values = pl.Series("event_time", wild).cast(pl.Datetime(unit, zone))
    found = conform(pl.DataFrame([values, pl.Series("place", list("abcd"))]), TABLES["places"], NOW)
    assert "d" in found.rows["place"].to_list()
    assert all(OLDEST <= time <= NOW for time in found.rows["event_time"])
    assert found.rows.height + found.aside.height == 4


def test_minus_zero_is_zero_so_that_equal_rows_have_equal_bytes():
    assert math.copysign(1, one("number", [-0.0]).rows["x"][0]) == 1


def test_a_missing_column_costs_the_rows_unless_it_may_be_null_and_a_new_one_is_dropped():
    whole = pl.DataFrame({"sensor": ["a"], "event_time": [GOOD], "number": [1], "value": [1.0], "note": ["n"]})
    assert conform(whole, READINGS, NOW).violations == ()
    fewer = conform(whole.drop("note"), READINGS, NOW)
    assert fewer.rows.height == 1
    assert fewer.rows["note"].to_list() == [None]
    assert [(v.check, v.column, v.rows) for v in fewer.violations] == [("missing_column", "note", 1)]
    none = conform(whole.drop("number"), READINGS, NOW)
    assert none.rows.height == 0
    assert none.aside["reasons"].to_list() == ["missing_column(number)"]
    more = conform(whole.with_columns(extra=1), READINGS, NOW)
    assert more.rows.columns == list(READINGS.names)
    assert [(v.check, v.column, v.rows) for v in more.violations] == [("new_column", "extra", 1)]


def test_a_clock_that_cannot_be_right_costs_its_row():
    times = [GOOD, None, datetime(1066, 1, 1, tzinfo=UTC), NOW + timedelta(hours=23), datetime(2100, 1, 1, tzinfo=UTC)]
    found = conform(pl.DataFrame({"place": list("abcde"), "event_time": times}), TABLES["places"], NOW)
    assert found.rows["place"].to_list() == ["a", "d"]
    assert found.aside["reasons"].to_list() == ["null(event_time)", "range(event_time)", "not_yet(event_time)"]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.none() | st.floats(0, 2)), max_size=12), st.randoms()
)
def test_the_order_of_rows_depends_on_the_set_of_rows_alone(drawn, random):
    rows = [(f"s{a}", GOOD + timedelta(hours=b), a, value, None) for a, b, value in drawn]
    mixed = rows + rows[:3]
    random.shuffle(mixed)
    schema = {"sensor": pl.String, "event_time": pl.Datetime("us", "UTC"), "number": pl.Int64, "value": pl.Float64}
    schema["note"] = pl.String
    one_way, other = (in_order(pl.DataFrame(r, schema=schema, orient="row"), READINGS) for r in (rows, mixed))
    assert one_way.equals(other)
    assert one_way.height == len(set(rows))
    keys = list(one_way.select("event_time", "sensor").iter_rows())
    assert keys == sorted(keys)


KINDS = ("text", "integer", "number", "time")


@settings(deadline=None, max_examples=150)
@given(dataframes(min_cols=1, max_cols=3, max_size=5, allow_null=True), st.lists(st.sampled_from(KINDS), min_size=3))
def test_whatever_types_come_every_row_is_either_good_or_aside_and_the_schema_is_the_contracts(frame, kinds):
    columns = [Column(name, kind, nullable=True) for name, kind in zip(frame.columns, kinds, strict=False)]
    table = TableContract((Column("event_time", "time"), *columns), ("event_time",))
    found = conform(frame.with_columns(event_time=pl.lit(GOOD)), table, NOW)
    assert found.rows.height + found.aside.height == frame.height
    assert dict(found.rows.schema) == dtypes(table)
    assert found.aside["reasons"].null_count() == 0
    again = conform(found.rows, table, NOW)
    assert again.rows.equals(found.rows)
    assert again.violations == ()
