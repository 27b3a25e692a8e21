"""What rows of the flights must be like. Limits are wide: they catch wrong units and broken feeds, not news."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flights.workload import ORIGINS
from tidegate.validate.contract import Column, Contract, Repair, Rule, TableContract

if TYPE_CHECKING:
    import polars as pl

TAILNUM = Column("tailnum", "text", nullable=True, pattern="[A-Z0-9]{4,6}")
CARRIER = Column("carrier", "text", pattern="[A-Z0-9]{2}")
ORIGIN = Column("origin", "text", isin=ORIGINS)
FLIGHT_ID = Column("flight_id", "text", pattern="[A-Z0-9]{2}-[0-9]+-[A-Z]{3}-[0-9]{8}T[0-9]{4}")
TIME = Column("event_time", "time")


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


def _known_after_departure() -> pl.Expr:
    """A flight's end is not known before it left, nor an hour before its scheduled departure when it left early."""
    import polars as pl

    return pl.col("event_time") >= pl.col("scheduled_departure") - pl.duration(minutes=60)


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
            *(FLIGHT_ID, TIME, Column("scheduled_departure", "time"), CARRIER),
            Column("flight", "integer", low=1, high=9999),
            *(TAILNUM, ORIGIN),
            Column("dest", "text", pattern="[A-Z]{3}"),
            Column("distance", "integer", low=10, high=10_000),
            Column("dep_delay", "integer", nullable=True, low=-180, high=2880),
            Column("air_time", "integer", nullable=True, low=10, high=1200),
            Column("arr_delay", "integer", nullable=True, low=-240, high=2880),
            Column("outcome", "text", isin=("landed", "cancelled", "diverted")),
        ),
        key=("flight_id",),
        rules=(
            Rule("outcome_delays", ("outcome", "dep_delay", "air_time", "arr_delay"), _outcome_has_its_delays),
            Rule("known_after", ("event_time", "scheduled_departure"), _known_after_departure),
        ),
        repairs=(tailnum,),
    )
    departures = TableContract(
        columns=(FLIGHT_ID, TIME, CARRIER, TAILNUM, ORIGIN, Column("dep_delay", "integer", low=-180, high=2880)),
        key=("flight_id",),
        repairs=(tailnum,),
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
    measured = [Column(name, "number", True, low, high) for name, (low, high) in limits.items()]
    return TableContract(
        columns=(ORIGIN, TIME, *measured),
        key=("origin", "event_time"),
        repairs=(Repair("impossible_wind_unknown", "wind_speed", _possible_wind),),
        tolerated=0.05,
    )
