"""The data gate on real rows: passes, repairs, quarantines, refuses, and says why."""

import json

import polars as pl
import pyarrow.parquet as pq
import pytest

from tidegate.errors import UserError
from tidegate.ingest.step import ingest
from tidegate.validate.file import validate_file
from tidegate.validate.step import validate

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
    with pytest.raises(UserError, match="columns of a table of the workload"):
        validate_file(tmp_path / "a.parquet", FLIGHTS)


def reject(arrivals, *entries):
    keys = ("part", "table", "check", "column", "rows", "examples")
    (arrivals / "rejected.json").write_text(json.dumps([dict(zip(keys, one, strict=True)) for one in entries]))


def test_what_ingest_put_aside_is_in_the_report_and_counts_into_the_error_budget(arrivals, tmp_path):
    total = pl.read_parquet(arrivals / JANUARY).height
    few = total // 200
    named = ("new_column", "gate", total, ["String"]), ("missing_column", "tailnum", total, [])
    reject(
        arrivals,
        *(("a.parquet", "flights", *one) for one in named),
        ("a.parquet", "flights", "type", "distance", few, ["far"]),
        ("b.parquet", "flights", "type", "distance", few - 1, ["near", "far"]),
        ("c.parquet", "flights", "unreadable", "", 0, ["cut short"]),
    )
    record = validate(arrivals, FLIGHTS, tmp_path / "valid")
    assert record.verdict == "passed"
    found = {(v["check"], v["column"]): (v["rows"], v["examples"]) for v in report_of(tmp_path / "valid")["violations"]}
    assert found == {
        ("new_column", "gate"): (total, ["String"]),
        ("missing_column", "tailnum"): (total, []),
        ("type", "distance"): (2 * few - 1, ["far", "near"]),
        ("unreadable", ""): (0, ["c.parquet: cut short"]),
    }
    reject(arrivals, ("a.parquet", "flights", "type", "distance", total // 90, ["far"]))
    record = validate(arrivals, FLIGHTS, tmp_path / "valid")
    assert (record.verdict, record.quarantined) == ("refused", 0)
    assert f"flights: {total // 90} of {total + total // 90} rows are bad" in record.reason


def test_a_rejected_file_that_is_none_is_one_clear_line(arrivals, tmp_path):
    for text in ("{", "[1]", '[{"table": "flights"}]'):
        (arrivals / "rejected.json").write_text(text)
        with pytest.raises(UserError, match=r"rejected\.json"):
            validate(arrivals, FLIGHTS, tmp_path / "valid")


def test_something_put_aside_of_a_table_that_nobody_knows_is_refused(arrivals, tmp_path):
    reject(arrivals, ("a.parquet", "crews", "type", "age", 3, ["x"]))
    assert "crews: no contract" in validate(arrivals, FLIGHTS, tmp_path / "valid").reason


def test_the_profile_is_that_of_the_rows_that_passed(arrivals, tmp_path):
    spoil(arrivals, lambda rows: first(rows, 5, "distance", -7))
    validate(arrivals, FLIGHTS, tmp_path / "valid")
    kept = pl.read_parquet(tmp_path / "valid" / JANUARY)
    profile = json.loads((tmp_path / "valid" / "profile.json").read_text())
    flights = profile["tables"]["flights"]
    assert profile["until"] == "2013-01-08T00:00:00Z"
    assert flights["rows"] == kept.height
    assert flights["columns"]["distance"]["low"] == kept["distance"].min() > 0
    assert flights["columns"]["distance"]["mean"] == pytest.approx(kept["distance"].mean())
    assert sum(flights["columns"]["origin"]["values"].values()) == kept.height


def test_a_partition_that_is_bad_from_end_to_end_is_not_written(arrivals, tmp_path):
    manifest = json.loads((arrivals / "manifest.json").read_text())
    rows = pl.read_parquet(arrivals / JANUARY).head(30).with_columns(distance=pl.lit(-1, pl.Int32))
    rows.write_parquet(arrivals / "flights" / "2012-12.parquet")
    part = {"path": "flights/2012-12.parquet", "rows": 30, "sha256": "x"}
    manifest["tables"]["flights"]["partitions"].insert(0, part)
    (arrivals / "manifest.json").write_text(json.dumps(manifest))
    assert validate(arrivals, FLIGHTS, tmp_path / "valid").quarantined == 30
    written = json.loads((tmp_path / "valid" / "manifest.json").read_text())
    assert [one["path"] for one in written["tables"]["flights"]["partitions"]] == [JANUARY]
    assert not (tmp_path / "valid" / "flights" / "2012-12.parquet").exists()
    assert (tmp_path / "valid" / JANUARY).read_bytes() == (arrivals / JANUARY).read_bytes()


def test_a_file_with_a_wrong_schema_and_bad_rows_tells_both(january, tmp_path):
    rows = first(pl.read_parquet(january / JANUARY), 3, "distance", -7).drop("tailnum").with_columns(gate=pl.lit("A1"))
    rows.with_columns(pl.col("flight").cast(pl.String)).write_parquet(tmp_path / "f.parquet")
    found = {(v["check"], v["column"]): v["rows"] for v in validate_file(tmp_path / "f.parquet", FLIGHTS)["violations"]}
    whole = rows.height
    assert found == {
        ("missing_column", "tailnum"): whole,
        ("new_column", "gate"): whole,
        ("type", "flight"): whole,
        ("range", "distance"): 3,
    }


def test_a_file_that_expands_beyond_measure_is_refused_before_it_is_read(tmp_path):
    zeros = pl.DataFrame({"distance": pl.repeat(0, 2_000_000, dtype=pl.Int64, eager=True)})
    pq.write_table(zeros.to_arrow(), tmp_path / "g.parquet", use_dictionary=False, compression="zstd")
    with pytest.raises(UserError, match=r"expands\(distance\)"):
        validate_file(tmp_path / "g.parquet", FLIGHTS)


def test_text_that_is_no_utf8_is_one_clear_line(tmp_path):
    (tmp_path / "f.csv").write_bytes(b"origin,dest\nEWR,J\xffK\n")
    with pytest.raises(UserError, match="readable Parquet or CSV"):
        validate_file(tmp_path / "f.csv", FLIGHTS)
