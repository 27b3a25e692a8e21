"""The data gate on real rows: passes, repairs, quarantines, refuses, and says why."""

import json

import polars as pl
import pytest

from tidegate.errors import UserError
from tidegate.ingest.step import ingest
from tidegate.validate.step import validate, validate_file

FLIGHTS = "flights.workload:flight_delay"
JANUARY = "flights/2013-01.parquet"


@pytest.fixture(scope="module")
def january(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ingest") / "arrivals"
    ingest(FLIGHTS, "2013-01-08", folder)
    return folder


@pytest.fixture
def arrivals(january, tmp_path):
    """A copy that a test may spoil."""
    for path in january.rglob("*.*"):
        target = tmp_path / "arrivals" / path.relative_to(january)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path / "arrivals"


def spoil(arrivals, change, partition=JANUARY):
    rows = pl.read_parquet(arrivals / partition)
    change(rows).write_parquet(arrivals / partition)


def first(rows, count, column, value):
    """The first `count` rows with `value` in `column`."""
    return rows.with_columns(
        pl.when(pl.int_range(pl.len()) < count).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )


def report_of(out):
    return json.loads((out / "report.json").read_text())


def test_real_rows_pass_and_keep_their_bytes(january, tmp_path):
    record = validate(january, FLIGHTS, tmp_path / "valid")
    assert (record.verdict, record.quarantined, record.reason) == ("passed", 0, "")
    report = report_of(tmp_path / "valid")
    assert report["ok"] is True
    assert report["violations"] == []
    assert (tmp_path / "valid" / JANUARY).read_bytes() == (january / JANUARY).read_bytes()
    assert (tmp_path / "valid" / "manifest.json").read_text() == (january / "manifest.json").read_text()
    assert not (tmp_path / "valid" / "quarantine").exists()


def test_repairs_are_counted_and_change_only_their_partition(arrivals, tmp_path):
    spoil(arrivals, lambda rows: first(rows, 3, "tailnum", " n12345 "))
    spoil(arrivals, lambda rows: first(rows, 2, "wind_speed", 1048.36), "weather/2013-01.parquet")
    record = validate(arrivals, FLIGHTS, tmp_path / "valid")
    assert (record.verdict, record.repaired) == ("passed", 5)
    assert report_of(tmp_path / "valid")["repaired"] == {
        "departures.tailnum_trimmed_upper_case": 0,
        "flights.tailnum_trimmed_upper_case": 3,
        "weather.impossible_wind_unknown": 2,
    }
    assert pl.read_parquet(tmp_path / "valid" / JANUARY)["tailnum"].head(3).to_list() == ["N12345"] * 3
    assert pl.read_parquet(tmp_path / "valid" / "weather/2013-01.parquet")["wind_speed"].max() < 253


def test_a_few_bad_rows_go_into_quarantine_with_their_reasons(arrivals, tmp_path):
    spoil(arrivals, lambda rows: first(rows, 5, "distance", -7))
    before = pl.read_parquet(arrivals / JANUARY).height
    record = validate(arrivals, FLIGHTS, tmp_path / "valid")
    assert (record.verdict, record.quarantined) == ("passed", 5)
    kept = pl.read_parquet(tmp_path / "valid" / JANUARY)
    put_away = pl.read_parquet(tmp_path / "valid" / "quarantine" / "flights.parquet")
    assert (kept.height, put_away.height) == (before - 5, 5)
    assert set(put_away["reasons"]) == {"range(distance)"}
    assert report_of(tmp_path / "valid")["violations"] == [
        {"table": "flights", "check": "range", "column": "distance", "rows": 5, "examples": [-7]}
    ]


def test_too_many_bad_rows_are_refused_and_no_row_goes_on(arrivals, tmp_path):
    spoil(arrivals, lambda rows: first(rows, 500, "arr_delay", 9999))
    record = validate(arrivals, FLIGHTS, tmp_path / "valid")
    assert record.verdict == "refused"
    assert "flights: 500 of" in record.reason
    assert report_of(tmp_path / "valid")["ok"] is False
    assert json.loads((tmp_path / "valid" / "manifest.json").read_text())["tables"] == {}
    assert {path.name for path in (tmp_path / "valid").rglob("*.parquet")} == {"flights.parquet"}


@pytest.mark.parametrize(
    ("change", "check", "column"),
    [
        (lambda rows: rows.drop("distance"), "missing_column", "distance"),
        (lambda rows: rows.with_columns(gate=pl.lit("A1")), "new_column", "gate"),
        (lambda rows: rows.with_columns(pl.col("dep_delay").cast(pl.String)), "type", "dep_delay"),
    ],
)
def test_a_changed_schema_is_refused_by_name(arrivals, tmp_path, change, check, column):
    spoil(arrivals, change)
    record = validate(arrivals, FLIGHTS, tmp_path / "valid")
    assert record.verdict == "refused"
    assert f"{check} {column}" in record.reason
    assert report_of(tmp_path / "valid")["violations"][0]["check"] == check


def test_a_row_that_cannot_have_arrived_yet_is_bad(arrivals, tmp_path):
    late = pl.lit("2013-01-20").str.to_datetime(time_unit="us", time_zone="UTC")
    spoil(
        arrivals,
        lambda rows: rows.with_columns(
            event_time=pl.when(pl.int_range(pl.len()) < 2).then(late).otherwise("event_time")
        ),
    )
    validate(arrivals, FLIGHTS, tmp_path / "valid")
    assert {"not_yet"} == {v["check"] for v in report_of(tmp_path / "valid")["violations"]}


def test_a_table_that_is_missing_or_not_in_the_contract_is_refused(arrivals, tmp_path):
    manifest = json.loads((arrivals / "manifest.json").read_text())
    manifest["tables"]["crews"] = manifest["tables"].pop("weather")
    (arrivals / "manifest.json").write_text(json.dumps(manifest))
    record = validate(arrivals, FLIGHTS, tmp_path / "valid")
    assert record.verdict == "refused"
    assert "weather: no rows" in record.reason
    assert "crews: no contract" in record.reason


def test_validating_twice_gives_the_same_bytes(arrivals, tmp_path):
    spoil(arrivals, lambda rows: first(first(rows, 5, "distance", -7), 9, "tailnum", "n777zz"))
    for name in ("a", "b"):
        validate(arrivals, FLIGHTS, tmp_path / name)
    files = [{p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in ("a", "b")]
    assert files[0] == files[1]


def test_bad_folders_are_one_clear_line(arrivals, tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json"):
        validate(tmp_path / "nothing", FLIGHTS, tmp_path / "valid")
    (arrivals / JANUARY).write_bytes(b"PAR1 this is no parquet PAR1")
    with pytest.raises(UserError, match=r"2013-01\.parquet.*readable Parquet"):
        validate(arrivals, FLIGHTS, tmp_path / "valid")
    assert not (tmp_path / "valid").exists()


def test_one_file_is_checked_by_the_table_it_looks_like(january, tmp_path):
    assert validate_file(january / JANUARY, FLIGHTS) == {
        "ok": True,
        "rows": pl.read_parquet(january / JANUARY).height,
        "violations": [],
    }
    rows = first(pl.read_parquet(january / "weather/2013-01.parquet"), 2, "humid", 140.0)
    rows.write_parquet(tmp_path / "w.parquet")
    assert validate_file(tmp_path / "w.parquet", FLIGHTS) == {
        "ok": False,
        "rows": rows.height,
        "violations": [{"check": "range", "column": "humid", "rows": 2, "examples": (140.0,)}],
    }


def test_a_csv_file_is_checked_too(january, tmp_path):
    rows = pl.read_parquet(january / JANUARY).head(50)
    rows.write_csv(tmp_path / "f.csv")
    assert validate_file(tmp_path / "f.csv", FLIGHTS)["violations"] == []


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a table at all"])
@pytest.mark.parametrize("name", ["x.parquet", "x"])
def test_a_file_that_is_no_table_is_one_clear_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="readable Parquet") as caught:
        validate_file(tmp_path / name, FLIGHTS)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_strange_table_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no file"):
        validate_file(tmp_path / "x.parquet", FLIGHTS)
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match="columns of a table of flights"):
        validate_file(tmp_path / "a.parquet", FLIGHTS)
