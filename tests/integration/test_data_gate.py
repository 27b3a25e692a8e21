"""One fault planted in one file of real flights, through ingest and the gate: it is named, and nothing else is lost."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from flights.workload import flight_delay
from tidegate.ingest.step import ingest
from tidegate.validate.step import validate

DAY, LAST = "flights/2013-01-05.parquet", datetime(2013, 1, 8, tzinfo=UTC)
N = pl.int_range(pl.len())
COUNT = 7


@pytest.fixture(scope="module")
def tables():
    return flight_delay.source.arrivals(LAST)


@pytest.fixture
def files(tables, tmp_path, monkeypatch):
    """The tables as files by day, which a test may spoil, as the workload ``planted:flights``."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    monkeypatch.setenv("PLANTED", str(tmp_path / "files"))
    for name, table in tables.items():
        (tmp_path / "files" / name).mkdir(parents=True)
        for (day,), rows in table.group_by(pl.col("event_time").dt.date(), maintain_order=True):
            rows.write_parquet(tmp_path / "files" / name / f"{day}.parquet")
    return tmp_path / "files"


def through(files):
    """Ingest and check the files: what the gate said, and the good rows of the flights."""
    taken = ingest("planted:flights", "2013-01-08", files.parent / "arrivals")
    record = validate(files.parent / "arrivals", "planted:flights", files.parent / "valid")
    report = json.loads((files.parent / "valid" / "report.json").read_text())
    kept = sorted((files.parent / "valid" / "flights").glob("*.parquet"))
    rows = pl.concat([pl.read_parquet(path) for path in kept], how="vertical_relaxed") if kept else pl.DataFrame()
    named = {(v["check"], v["column"]): v["rows"] for v in report["violations"]}
    return SimpleNamespace(taken=taken, record=record, report=report, rows=rows, named=named)


def some(column, value, to=None):
    """The first rows of a file with another value."""
    changed = pl.when(N < COUNT).then(pl.lit(value)).otherwise(pl.col(column).cast(to) if to else pl.col(column))
    return lambda rows: rows.with_columns(changed.alias(column))


def again(**other):
    """The first rows of a file once more, with something changed where it is said."""
    return lambda rows: pl.concat([rows, rows.head(COUNT).with_columns(**other)], how="vertical_relaxed")


clock = {year: datetime(year, 1, 1, tzinfo=UTC) for year in (1970, 2100)}
A_FEW = {
    "missing values": (some("carrier", None), ("null", "carrier")),
    "out of range": (some("distance", -7), ("range", "distance")),
    "a number beyond reason": (some("dep_delay", 10**12, pl.Int64), ("range", "dep_delay")),
    "an unknown key": (some("origin", "XXX"), ("reference", "origin")),
    "an impossible value": (some("outcome", "teleported"), ("value", "outcome")),
    "clock in 1970": (some("event_time", clock[1970]), ("range", "event_time")),
    "wrong types": (some("distance", "far", pl.String), ("type", "distance")),
    "NaN": (some("distance", float("nan"), pl.Float64), ("type", "distance")),
    "bytes that are no text": (some("dest", b"J\xffK", pl.Binary), ("encoding", "dest")),
}


@pytest.mark.parametrize("fault", A_FEW)
def test_a_few_bad_rows_are_named_and_only_they_are_lost(files, tables, fault):
    spoil, name = A_FEW[fault]
    good, bad = pl.read_parquet(files / DAY), spoil(pl.read_parquet(files / DAY))
    bad.write_parquet(files / DAY)
    seen = through(files)
    assert seen.record.verdict == "passed"
    assert seen.named[name] == COUNT
    lost = set(good["flight_id"].head(COUNT))
    assert set(seen.rows["flight_id"]) == set(tables["flights"]["flight_id"]) - lost
    assert seen.rows.height == tables["flights"].height - COUNT


def test_a_clock_in_2100_is_named_and_only_its_rows_are_lost(files, tables):
    some("event_time", clock[2100])(pl.read_parquet(files / DAY)).write_parquet(files / DAY)
    seen = through(files)
    assert seen.named == {("not_yet", "event_time"): COUNT}
    assert seen.rows.height == tables["flights"].height - COUNT


def test_equal_rows_are_dropped_and_a_key_with_other_content_is_named(files, tables):
    again()(pl.read_parquet(files / DAY)).write_parquet(files / DAY)
    seen = through(files)
    assert (seen.taken.duplicates, seen.named) == (COUNT, {})
    assert seen.rows.sort("flight_id")["flight_id"].equals(tables["flights"].sort("flight_id")["flight_id"])
    again(distance=pl.col("distance") + 1)(pl.read_parquet(files / DAY).unique()).write_parquet(files / DAY)
    seen = through(files)
    assert seen.named == {("unique", "flight_id"): COUNT}
    assert set(seen.rows["flight_id"]) == set(tables["flights"]["flight_id"])


WHOLE_DAY = {
    "a duplicate feature": (lambda r: r.with_columns(air_time="distance"), ("duplicate_column", "distance+air_time")),
    "a constant feature": (lambda r: r.with_columns(distance=pl.lit(500)), ("constant", "distance")),
    "a missing column": (lambda r: r.drop("distance"), ("missing_column", "distance")),
}


@pytest.mark.parametrize("fault", WHOLE_DAY)
def test_a_bad_column_is_named_and_only_its_day_is_lost(files, tables, fault):
    spoil, name = WHOLE_DAY[fault]
    day = pl.read_parquet(files / DAY)
    spoil(day).write_parquet(files / DAY)
    seen = through(files)
    assert seen.record.verdict == "passed"
    assert seen.named[name] == day.height
    assert set(seen.rows["flight_id"]) == set(tables["flights"]["flight_id"]) - set(day["flight_id"])


def test_a_new_column_is_named_and_nothing_is_lost(files, tables):
    day = pl.read_parquet(files / DAY)
    day.with_columns(gate=pl.lit("A1")).write_parquet(files / DAY)
    seen = through(files)
    assert seen.named == {("new_column", "gate"): day.height}
    assert seen.rows.height == tables["flights"].height


def test_a_missing_column_that_may_be_null_is_named_and_null(files, tables):
    day = pl.read_parquet(files / DAY)
    day.drop("tailnum").write_parquet(files / DAY)
    seen = through(files)
    assert seen.named[("missing_column", "tailnum")] == day.height
    assert seen.record.verdict == "passed"


def test_a_file_cut_short_is_named_and_the_other_days_go_on(files, tables):
    day = pl.read_parquet(files / DAY)
    (files / DAY).write_bytes((files / DAY).read_bytes()[:5000])
    seen = through(files)
    (told,) = seen.report["violations"]
    assert told["check"] == "unreadable"
    assert "2013-01-05.parquet" in told["examples"][0]
    assert set(seen.rows["flight_id"]) == set(tables["flights"]["flight_id"]) - set(day["flight_id"])


def test_repairs_are_counted_and_nothing_is_lost(files, tables):
    some("tailnum", " n123zz ")(pl.read_parquet(files / DAY)).write_parquet(files / DAY)
    seen = through(files)
    assert (seen.named, seen.record.repaired) == ({}, COUNT)
    assert seen.report["repaired"]["flights.tailnum_trimmed_upper_case"] == COUNT
    assert seen.rows.height == tables["flights"].height
    assert seen.rows.filter(pl.col("tailnum") == "N123ZZ").height >= COUNT


def test_more_than_the_error_budget_put_aside_at_ingest_refuses(files):
    for path in (files / "flights").glob("*.parquet"):
        some("distance", "far", pl.String)(pl.read_parquet(path)).write_parquet(path)
    for day in ("2013-01-04", "2013-01-05"):
        path = files / "flights" / f"{day}.parquet"
        pl.read_parquet(path).with_columns(distance=pl.lit("far")).write_parquet(path)
    seen = through(files)
    assert seen.record.verdict == "refused"
    assert "rows are bad, at most 20.0% may be" in seen.record.reason
    assert json.loads((files.parent / "valid" / "manifest.json").read_text())["tables"] == {}
