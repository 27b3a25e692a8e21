"""Flights of the past as if they happened now: for tests and benchmarks of the stream."""

from datetime import UTC, datetime, timedelta

import polars as pl

from flights.source import FlightSource

TIMES = ("event_time", "scheduled_departure")


def shifted(rows: pl.DataFrame, by: timedelta) -> pl.DataFrame:
    """The rows as if everything had happened so much later; a flight's id names its new time."""
    moved = rows.with_columns(pl.col(name) + by for name in TIMES if name in rows.columns)
    if "flight_id" not in rows.columns:
        return moved
    prefix, time = pl.col("flight_id").str.slice(0, pl.col("flight_id").str.len_chars() - 13), pl.col("flight_id")
    planned = time.str.tail(13).str.to_datetime("%Y%m%dT%H%M", time_unit="us") + by
    return moved.with_columns(flight_id=prefix + planned.dt.strftime("%Y%m%dT%H%M"))


def happening(since: datetime, until: datetime, at: datetime) -> dict[str, pl.DataFrame]:
    """The three tables between two times of 2013, as if the first of them were `at` (whole minutes apart)."""
    by = timedelta(minutes=round((at - since).total_seconds() / 60))
    tables = FlightSource().arrivals(until)
    return {name: shifted(rows.filter(pl.col("event_time") >= since), by) for name, rows in tables.items()}


def as_events(rows: pl.DataFrame) -> list[dict[str, object]]:
    """Rows as the JSON objects of events: times in ISO 8601 with the zone."""
    times = [name for name in TIMES if name in rows.columns]
    text = rows.with_columns(pl.col(times).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
    return text.to_dicts()


def minute_now() -> datetime:
    """Now, without its seconds."""
    return datetime.now(UTC).replace(second=0, microsecond=0)


def stamped(rows: pl.DataFrame, times: pl.Series) -> pl.DataFrame:
    """The rows with these event times, a flight planned two hours before, under an id of its own."""
    when = rows.with_columns(event_time=times)
    if "scheduled_departure" in rows.columns:
        when = when.with_columns(scheduled_departure=pl.col("event_time") - pl.duration(hours=2))
    stamp = pl.col("event_time").dt.strftime("%Y%m%dT%H%M")
    number = pl.int_range(1, pl.len() + 1).cast(pl.String)
    return when.with_columns(flight_id=pl.concat_str("carrier", number, "origin", stamp, separator="-"))
