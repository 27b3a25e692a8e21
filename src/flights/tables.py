"""The 2013 flights as three tables of events, each row with the time at which it became known. Pure.

Stated times, since the source gives none in UTC:
- a flight's scheduled departure is ``time_hour`` plus ``minute``, its departure that plus the departure delay;
- it lands `TAXI` and its air time after its departure (the source's local times give 31 minutes on the average for
  taxiing out and in together, the median is 28);
- a cancelled flight is known to be cancelled at its scheduled departure, a diverted one `DIVERTED` after it left.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

TAXI = timedelta(minutes=30)
DIVERTED = timedelta(hours=6)
NUMBERS = ("minute", "flight", "dep_delay", "arr_delay", "air_time", "distance")
TEXTS = ("carrier", "tailnum", "origin", "dest", "time_hour")
WEATHER = ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")


def _utc(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")


def _minutes(column: str) -> pl.Expr:
    return pl.duration(minutes=pl.col(column), time_unit="us")


def flight_id() -> pl.Expr:
    """``UA-1545-EWR-20130101T1015``: carrier, number, origin and scheduled departure (UTC) are unique together."""
    return pl.concat_str(
        "carrier", "flight", "origin", pl.col("scheduled_departure").dt.strftime("%Y%m%dT%H%M"), separator="-"
    )


def timed(raw: pl.DataFrame) -> pl.DataFrame:
    """The source's rows with scheduled departure, departure (null: cancelled), outcome and the time it is known."""
    scheduled = raw.with_columns(scheduled_departure=_utc("time_hour") + _minutes("minute"))
    departed = scheduled.with_columns(
        flight_id=flight_id(),
        departure=pl.col("scheduled_departure") + _minutes("dep_delay"),
        outcome=pl.when(pl.col("dep_delay").is_null())
        .then(pl.lit("cancelled"))
        .when(pl.col("arr_delay").is_null())
        .then(pl.lit("diverted"))
        .otherwise(pl.lit("landed")),
    )
    return departed.with_columns(
        event_time=pl.when(pl.col("outcome") == "cancelled")
        .then("scheduled_departure")
        .when(pl.col("outcome") == "diverted")
        .then(pl.col("departure") + DIVERTED)
        .otherwise(pl.col("departure") + _minutes("air_time") + TAXI)
    )


def flights_table(rows: pl.DataFrame) -> pl.DataFrame:
    """One row a finished flight, known when it landed, was cancelled or was diverted."""
    columns = ("flight_id", "event_time", "scheduled_departure", "carrier", "flight", "tailnum", "origin", "dest")
    return rows.select(*columns, "distance", "dep_delay", "air_time", "arr_delay", "outcome").sort(
        "event_time", "flight_id"
    )


def departures_table(rows: pl.DataFrame) -> pl.DataFrame:
    """One row a departure, known when it happened, hours before the flight's own row."""
    return (
        rows.drop_nulls("departure")
        .select("flight_id", pl.col("departure").alias("event_time"), "carrier", "tailnum", "origin", "dep_delay")
        .sort("event_time", "flight_id")
    )


def weather_table(raw: pl.DataFrame) -> pl.DataFrame:
    """One row an hourly report of one of the three airports, known at its hour."""
    return raw.select("origin", _utc("time_hour").alias("event_time"), *WEATHER).sort("event_time", "origin")
