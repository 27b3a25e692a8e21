"""The feature views' tables, made from the source's events, and how each is joined. Pure.

A row of a view holds from its ``event_timestamp`` on, and is made only of what was known by then. `DEFINITIONS` is
read by the Feast repo too, so that keys, features and times to live are written once.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from tidegate.features.asof import TIME, AsofView
from tidegate.features.windows import trailing_sums
from tidegate.workload import Tables

LATE = 15
"""Minutes; a flight that arrives more than this late is late."""

DEFINITIONS = (
    AsofView("weather", ("origin",), ("wind_speed", "precip", "visib"), timedelta(hours=6)),
    AsofView("origin_delays", ("origin",), ("origin_delay_3h", "origin_departures_3h"), timedelta(hours=3)),
    AsofView("aircraft", ("tailnum",), ("inbound_delay",), timedelta(hours=24)),
    AsofView("carrier_rates", ("carrier",), ("carrier_late_28d",), timedelta(days=28)),
    AsofView("dest_rates", ("dest",), ("dest_late_28d",), timedelta(days=28)),
)


def build(tables: Tables) -> dict[str, pl.DataFrame]:
    """Every view's table by name, each sorted by ``event_timestamp``, then by key; features are Float32."""
    return {
        "weather": weather(tables["weather"]),
        "origin_delays": origin_delays(tables["departures"]),
        "aircraft": aircraft(tables["departures"], tables["flights"]),
        "carrier_rates": late_rates(tables["flights"], "carrier"),
        "dest_rates": late_rates(tables["flights"], "dest"),
    }


def weather(reports: pl.DataFrame) -> pl.DataFrame:
    """The hourly reports, from their hour on."""
    features = DEFINITIONS[0].features
    return reports.select("origin", pl.col("event_time").alias(TIME), pl.col(features).cast(pl.Float32))


def origin_delays(departures: pl.DataFrame) -> pl.DataFrame:
    """Number and mean delay (minutes) of an airport's departures in the last 3 hours."""
    counted = departures.with_columns(departed=pl.lit(1))
    sums = trailing_sums(counted, "origin", "event_time", ("dep_delay", "departed"), timedelta(hours=3))
    delay = _ratio("dep_delay", "departed").cast(pl.Float32)
    return sums.select("origin", TIME, delay.alias("origin_delay_3h"), _count("departed"))


def aircraft(departures: pl.DataFrame, flights: pl.DataFrame) -> pl.DataFrame:
    """Each aircraft's last known delay (minutes): of its last departure or, once down, of its arrival."""
    left = departures.select("tailnum", "event_time", "flight_id", delay="dep_delay", landed=pl.lit(0))
    down = flights.filter(pl.col("outcome") == "landed").select(
        "tailnum", "event_time", "flight_id", delay="arr_delay", landed=pl.lit(1)
    )
    events = pl.concat([left, down]).drop_nulls("tailnum")
    last = events.sort("event_time", "tailnum", "landed", "flight_id").unique(
        ["event_time", "tailnum"], keep="last", maintain_order=True
    )
    return last.select("tailnum", pl.col("event_time").alias(TIME), inbound_delay=pl.col("delay").cast(pl.Float32))


def late_rates(flights: pl.DataFrame, key: str) -> pl.DataFrame:
    """Share of late arrivals by `key` over the last 28 days, less that of all flights, of those that had landed.

    The difference, since the rate itself moves with the season: a model learns from it which weeks were late, and a
    retrained one gains less on the next weeks (docs/flights.md).
    """
    landed = flights.filter(pl.col("outcome") == "landed").with_columns(
        late=(pl.col("arr_delay") > LATE).cast(pl.Int64), landed=pl.lit(1), everyone=pl.lit(1)
    )
    own, of_all = (
        trailing_sums(landed, by, "event_time", ("late", "landed"), timedelta(days=28)) for by in (key, "everyone")
    )
    rate, rate_of_all = _ratio("late", "landed"), _ratio("late", "landed")
    both = own.select(key, TIME, own_rate=rate).join_asof(of_all.select(TIME, rate=rate_of_all), on=TIME)
    return both.select(key, TIME, (pl.col("own_rate") - pl.col("rate")).cast(pl.Float32).alias(f"{key}_late_28d"))


def _ratio(over: str, under: str) -> pl.Expr:
    """A ratio of sums, null where nothing was counted."""
    return pl.when(pl.col(under) > 0).then(pl.col(over) / pl.col(under))


def _count(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Float32).alias("origin_departures_3h")
