"""The flights' feature views: how each is made of the source's events, and how it is joined. Pure values.

A row of a view holds from its ``event_timestamp`` on, and is made only of what was known by then. `VIEWS` is read by
the feature step, by the stream and by the Feast repo, so that each is written once.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from tidegate.features.asof import AsofView
from tidegate.features.windows import Definition, Events, Latest, Trailing

LATE = 15
"""Minutes; a flight that arrives more than this late is late."""

DAY, MONTH = timedelta(hours=24), timedelta(days=28)
_LANDED = pl.col("outcome") == "landed"
_ONE = pl.lit(1)


def _ratio(over: str, under: str) -> pl.Expr:
    """A ratio of sums, null where nothing was counted."""
    return pl.when(pl.col(under) > 0).then(pl.col(over) / pl.col(under))


def _mean_delay(name: str, keys: tuple[str, ...], feature: str) -> Trailing:
    """Mean delay (minutes) of the departures of the last 24 hours."""
    return Trailing(
        AsofView(name, keys, (feature,), DAY),
        Events("departures", {"delay": pl.col("dep_delay"), "departed": _ONE}),
        DAY,
        {feature: _ratio("delay", "departed")},
    )


def _late_rate(key: str) -> Trailing:
    """Share of late arrivals by `key` over the last 28 days, less that of all flights, of those that had landed.

    The difference, since the rate itself moves with the season: a model learns from it which weeks were late, and a
    retrained one gains less on the next weeks (docs/flights.md).
    """
    feature = f"{key}_late_28d"
    return Trailing(
        AsofView(f"{key}_rates", (key,), (feature,), MONTH),
        Events("flights", {"late": pl.col("arr_delay") > LATE, "landed": _ONE}, where=_LANDED),
        MONTH,
        {feature: _ratio("late", "landed") - _ratio("all_late", "all_landed")},
        of_all=True,
    )


WEATHER = Latest(
    AsofView("weather", ("origin",), ("wind_speed", "precip", "visib"), timedelta(hours=6)),
    (Events("weather", {name: pl.col(name) for name in ("wind_speed", "precip", "visib")}),),
)
"""The airport's hourly reports, from their hour on."""

ORIGIN_DELAYS = Trailing(
    AsofView("origin_delays", ("origin",), ("origin_delay_3h", "origin_departures_3h"), timedelta(hours=3)),
    Events("departures", {"delay": pl.col("dep_delay"), "departed": _ONE}),
    timedelta(hours=3),
    {"origin_delay_3h": _ratio("delay", "departed"), "origin_departures_3h": pl.col("departed")},
)
"""Number and mean delay (minutes) of an airport's departures in the last 3 hours."""

AIRCRAFT = Latest(
    AsofView("aircraft", ("tailnum",), ("inbound_delay",), DAY),
    (
        Events(
            "departures", {"inbound_delay": pl.col("dep_delay"), "landed": pl.lit(0), "flight_id": pl.col("flight_id")}
        ),
        Events(
            "flights",
            {"inbound_delay": pl.col("arr_delay"), "landed": _ONE, "flight_id": pl.col("flight_id")},
            where=_LANDED,
        ),
    ),
    tie=("landed", "flight_id"),
)
"""Each aircraft's last known delay (minutes): of its last departure or, once down, of its arrival."""

VIEWS: tuple[Definition, ...] = (
    WEATHER,
    ORIGIN_DELAYS,
    AIRCRAFT,
    _late_rate("carrier"),
    _late_rate("dest"),
    _mean_delay("carrier_delays", ("carrier",), "carrier_delay_24h"),
    _mean_delay("all_delays", (), "all_delay_24h"),
)
DEFINITIONS = tuple(one.view for one in VIEWS)
