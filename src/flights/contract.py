"""What rows of the flights must be like. Limits are wide: they catch wrong units and broken feeds, not news."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flights.workload import ORIGINS
from tidegate.validate.contract import (
    Column,
    Contract,
    Guard,
    Reference,
    Repair,
    Rule,
    TableContract,
    not_before,
)

if TYPE_CHECKING:
    import polars as pl

FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)
"""A clock outside of this was never set."""
TAILNUM = Column("tailnum", "text", nullable=True, pattern="[A-Z0-9]{4,6}", guard=Guard(null_share=0.3))
CARRIER = Column("carrier", "text", pattern="[A-Z0-9]{2}", guard=Guard(new_values=0.1))
ORIGIN = Column("origin", "text", isin=ORIGINS)
FLIGHT_ID = Column("flight_id", "text", pattern="[A-Z0-9]{2}-[0-9]+-[A-Z]{3}-[0-9]{8}T[0-9]{4}")
TIME = Column("event_time", "time", low=FIRST, high=LAST)
WEATHER_THERE = Reference("origin", "weather", "origin")


STILL = ("wind_gust", "precip", "visib")
"""What a quiet day does not change: no gusts, no rain, clear sight."""
GUARDS = {
    "temp": Guard(null_share=0.3),
    "humid": Guard(null_share=0.3, mean_shift=2.0),
    "wind_speed": Guard(null_share=0.3, mean_shift=2.0),
    "pressure": Guard(null_share=0.5, mean_shift=3.0),
}
"""Seasons move the means (the temperature's by four standard deviations), so only broken sensors and units show."""


def _outcome_has_its_delays() -> pl.Expr:
    """Landed: all three known; diverted: no arrival; cancelled: nothing."""
    import polars as pl

    left, arrived = pl.col("dep_delay").is_not_null(), pl.col("arr_delay").is_not_null()
    flown = pl.col("air_time").is_not_null()
    return (
        pl.when(pl.col("outcome") == "landed")
        .then(left & arrived & flown)
        .when(pl.col("outcome") == "diverted")
        .then(left & ~arrived)
        .otherwise(~left & ~arrived)
    )


def _clean_tailnum() -> pl.Expr:
    import polars as pl

    return pl.col("tailnum").str.strip_chars().str.to_uppercase().replace("", None)


def _possible_wind() -> pl.Expr:
    """Faster than any wind ever measured (253 mph): the sensor's fault, so not known."""
    import polars as pl

    return pl.when((pl.col("wind_speed") <= 253) | pl.col("wind_speed").is_null()).then("wind_speed")


def build() -> Contract:
    """The contract of the tables flights, departures and weather."""
    tailnum = Repair("tailnum_trimmed_upper_case", "tailnum", _clean_tailnum)
    flights = TableContract(
        columns=(
            *(FLIGHT_ID, TIME, Column("scheduled_departure", "time", low=FIRST, high=LAST), CARRIER),
            Column("flight", "integer", low=1, high=9999),
            *(TAILNUM, ORIGIN),
            Column("dest", "text", pattern="[A-Z]{3}"),
            Column("distance", "integer", low=10, high=10_000, guard=Guard(mean_shift=0.5)),
            Column("dep_delay", "integer", nullable=True, low=-180, high=2880),
            Column("air_time", "integer", nullable=True, low=10, high=1200),
            Column("arr_delay", "integer", nullable=True, low=-240, high=2880),
            Column("outcome", "text", isin=("landed", "cancelled", "diverted"), constant=True),
        ),
        key=("flight_id",),
        rules=(
            Rule("outcome_delays", ("outcome", "dep_delay", "air_time", "arr_delay"), _outcome_has_its_delays),
            # a flight that leaves early is known of before its scheduled departure, by an hour at most
            not_before("known_after", "event_time", "scheduled_departure", timedelta(hours=1)),
        ),
        repairs=(tailnum,),
        references=(WEATHER_THERE,),
    )
    departures = TableContract(
        columns=(FLIGHT_ID, TIME, CARRIER, TAILNUM, ORIGIN, Column("dep_delay", "integer", low=-180, high=2880)),
        key=("flight_id",),
        repairs=(tailnum,),
        references=(WEATHER_THERE,),
    )
    return Contract({"departures": departures, "flights": flights, "weather": _weather()})


def _weather() -> TableContract:
    limits = {
        "temp": (-60.0, 140.0),
        "dewp": (-80.0, 100.0),
        "humid": (0.0, 100.0),
        "wind_speed": (0.0, 253.0),
        "wind_gust": (0.0, 300.0),
        "precip": (0.0, 20.0),
        "pressure": (850.0, 1100.0),
        "visib": (0.0, 100.0),
    }
    measured = [
        Column(name, "number", True, low, high, constant=name in STILL, guard=GUARDS.get(name))
        for name, (low, high) in limits.items()
    ]
    return TableContract(
        columns=(ORIGIN, TIME, *measured),
        key=("origin", "event_time"),
        repairs=(Repair("impossible_wind_unknown", "wind_speed", _possible_wind),),
        tolerated=0.05,
    )
