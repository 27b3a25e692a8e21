"""The flights' features use only what was known: against naive counts and a world that ends at the question."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from flights.requests import LABELS_END, load_traffic, questions, traffic
from flights.source import FlightSource
from flights.transforms import derived
from flights.workload import asked, entities, flight_delay
from tidegate.features import asof

END = datetime(2014, 2, 1, tzinfo=UTC)
LOOKED_UP = [feature for view in flight_delay.view_definitions() for feature in view.features]


@pytest.fixture(scope="module")
def year():
    return FlightSource().arrivals(END)


@pytest.fixture(scope="module")
def joined(year):
    return join(asked(year["flights"]), year)


def join(rows, tables):
    return asof.join(rows, asof.pick(flight_delay.view_definitions(), flight_delay.views(tables)))


@pytest.mark.parametrize("moment", ["2013-01-03T13:05", "2013-02-09T18:00", "2013-07-23T21:40", "2013-11-28T11:15"])
def test_a_world_that_ends_at_the_question_gives_the_same_features(year, joined, moment):
    after = asked(year["flights"]).filter(pl.col("event_timestamp") >= datetime.fromisoformat(moment + "Z"))
    rows = after.filter(pl.col("event_timestamp") == after["event_timestamp"].min())
    answer = join(rows, FlightSource().arrivals(rows["event_timestamp"][0]))
    wanted = rows.select("flight_id").join(joined, on="flight_id", maintain_order="left")
    assert answer.select(LOOKED_UP).equals(wanted.select(LOOKED_UP))


def test_a_sample_of_flights_against_naive_counts(year, joined):
    flights, departures, weather = year["flights"], year["departures"], year["weather"]
    for row in (
        joined.filter(pl.col("event_timestamp") > datetime(2013, 1, 5, tzinfo=UTC)).sample(60, seed=3).to_dicts()
    ):
        now = row["event_timestamp"]
        left = departures.filter(
            pl.col("event_time").is_between(now - timedelta(hours=3), now, closed="right"), origin=row["origin"]
        )
        assert row["origin_departures_3h"] in (left.height, None if not left.height else left.height)
        assert same(row["origin_delay_3h"], left["dep_delay"].mean())
        for key in ("carrier", "dest"):
            assert_rate(row, key, now, flights)
        report = weather.filter(
            pl.col("event_time").is_between(now - timedelta(hours=6), now), origin=row["origin"]
        ).tail(1)
        assert same(row["visib"], report["visib"][0] if report.height else None)
        assert same(row["inbound_delay"], last_delay(flights, departures, row["tailnum"], now))


def assert_rate(row, key, now, flights):
    """The rate as of the last change of the key's own window, against counts."""
    got, spans = row[f"{key}_late_28d"], timedelta(days=28)
    own = flights.filter(pl.col(key) == row[key], outcome="landed")["event_time"]
    steps = [time for time in (*own, *(own + spans)) if now - spans <= time <= now]
    if not steps:
        assert got is None
        return
    at = max(steps)
    landed = flights.filter(
        pl.col("event_time").is_between(at - spans, at, closed="right"), outcome="landed"
    ).with_columns(late=pl.col("arr_delay") > 15)
    mine = landed.filter(pl.col(key) == row[key])["late"]
    assert (got is None) == mine.is_empty()
    assert mine.is_empty() or abs(got - (mine.mean() - landed["late"].mean())) < 1e-6


def last_delay(flights, departures, tailnum, now):
    since = pl.col("event_time").is_between(now - timedelta(hours=24), now) & (pl.col("tailnum") == tailnum)
    left = [
        (time, 0, key, delay)
        for time, key, delay in departures.filter(since).select("event_time", "flight_id", "dep_delay").rows()
    ]
    down = flights.filter(since, outcome="landed").select("event_time", "flight_id", "arr_delay")
    return max([*left, *((time, 1, key, delay) for time, key, delay in down.rows())], default=[None])[-1]


def same(got, wanted):
    return got is None if wanted is None else got == np.float32(wanted)


def test_entities_are_the_flights_whose_end_is_known(year):
    until = datetime(2013, 1, 10, tzinfo=UTC)
    rows = entities(year, until)
    assert rows["label_timestamp"].max() <= until
    assert rows.height == FlightSource().arrivals(until)["flights"].height
    assert rows.select("event_timestamp", "flight_id").rows() == sorted(
        rows.select("event_timestamp", "flight_id").rows()
    )


def test_traffic_has_every_flight_of_the_range_in_order(year):
    since, until = datetime(2013, 7, 1, tzinfo=UTC), datetime(2013, 7, 3, tzinfo=UTC)
    rows = load_traffic(since, until)
    wanted = asked(year["flights"]).filter(pl.col("event_timestamp").is_between(since, until, closed="left"))
    assert rows["flight_id"].to_list() == wanted["flight_id"].to_list()
    assert rows["label_timestamp"].max() < until + LABELS_END
    assert rows.columns[5:] == [feature.name for feature in flight_delay.features]
    assert rows.equals(traffic(year, since, until))


def test_a_question_is_plain_values(year):
    rows = load_traffic(datetime(2013, 2, 8, tzinfo=UTC), datetime(2013, 2, 9, tzinfo=UTC))
    asked_one_by_one = list(questions(rows))
    assert len(asked_one_by_one) == rows.height
    first = asked_one_by_one[0]
    assert first.at == rows["event_timestamp"][0].timestamp() < first.label_time
    assert list(first.features) == [feature.name for feature in flight_delay.features]
    assert all(value is None or type(value) in (float, str) for value in first.features.values())
    assert {(q.outcome, q.value) for q in asked_one_by_one} == {
        ("observed", 0.0),
        ("observed", 1.0),
        ("cancelled", None),
    }


def test_derived_features():
    answer = derived(np.array([0.0, 6.0, np.nan]))
    assert answer["hour_sin"].tolist()[:2] == [0.0, 1.0]
    assert answer["hour_cos"].tolist()[:2] == [1.0, 0.0]
    assert all(np.isnan(answer[name][2]) for name in answer)
    assert {values.dtype for values in answer.values()} == {np.dtype("float32")}


def test_a_row_alone_is_derived_like_a_row_among_many(joined):
    many = flight_delay.derive(joined.head(1000))
    for i in (0, 1, 500, 999):
        assert flight_delay.derive(joined[i]).equals(many[i])
