"""The question, as the platform knows it: ``flights.workload:flight_delay``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flights.source import FlightSource
from tidegate.workload import Fallback, Feature, OnDemand, Tables, Workload

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from tidegate.features.windows import Definition
    from tidegate.validate.contract import Contract

LEAD = timedelta(hours=2)
"""How long before the scheduled departure the question is asked."""

ZONE = "America/New_York"
ORIGINS = ("EWR", "JFK", "LGA")
CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")
LARGE = ("AA", "B6", "DL", "EV", "MQ", "UA")
"""Carriers with more than 25,000 departures a year from New York; the others are the protected group."""
DESTINATIONS = (
    *("ABQ", "ACK", "ALB", "ANC", "ATL", "AUS", "AVL", "BDL", "BGR", "BHM", "BNA", "BOS", "BQN", "BTV", "BUF", "BUR"),
    *("BWI", "BZN", "CAE", "CAK", "CHO", "CHS", "CLE", "CLT", "CMH", "CRW", "CVG", "DAY", "DCA", "DEN", "DFW", "DSM"),
    *("DTW", "EGE", "EYW", "FLL", "GRR", "GSO", "GSP", "HDN", "HNL", "HOU", "IAD", "IAH", "ILM", "IND", "JAC", "JAX"),
    *("LAS", "LAX", "LEX", "LGA", "LGB", "MCI", "MCO", "MDW", "MEM", "MHT", "MIA", "MKE", "MSN", "MSP", "MSY", "MTJ"),
    *("MVY", "MYR", "OAK", "OKC", "OMA", "ORD", "ORF", "PBI", "PDX", "PHL", "PHX", "PIT", "PSE", "PSP", "PVD", "PWM"),
    *("RDU", "RIC", "ROC", "RSW", "SAN", "SAT", "SAV", "SBN", "SDF", "SEA", "SFO", "SJC", "SJU", "SLC", "SMF", "SNA"),
    *("SRQ", "STL", "STT", "SYR", "TPA", "TUL", "TVC", "TYS", "XNA"),
)
"""Where the timetable of 2013 goes from New York; a new one gets the code of the unknown."""

FEATURES = (
    Feature("carrier", "category", CARRIERS),
    Feature("origin", "category", ORIGINS),
    Feature("dest", "category", DESTINATIONS),
    *(
        Feature(name, "numeric")
        for name in (
            *("distance", "hour", "weekday"),
            *("wind_speed", "precip", "visib"),
            *("origin_delay_3h", "origin_departures_3h", "inbound_delay", "carrier_late_28d", "dest_late_28d"),
            *("hour_sin", "hour_cos"),
        )
    ),
)


def asked(flights: pl.DataFrame) -> pl.DataFrame:
    """Rows of the table flights -> one row a question, sorted by prediction time, then by flight.

    Columns: flight_id, event_timestamp (prediction time), label_timestamp, outcome, label (Float32: 1 late, 0 not,
    null cancelled or diverted), the join keys, the request-time inputs (Float32) and the slice carrier_size.
    """
    import polars as pl

    from flights.views import LATE

    local = pl.col("scheduled_departure").dt.convert_time_zone(ZONE)
    return flights.select(
        "flight_id",
        event_timestamp=pl.col("scheduled_departure") - LEAD,
        label_timestamp="event_time",
        outcome=pl.when(pl.col("outcome") == "landed").then(pl.lit("observed")).otherwise(pl.lit("cancelled")),
        label=pl.when(pl.col("outcome") == "landed").then((pl.col("arr_delay") > LATE).cast(pl.Float32)),
        carrier="carrier",
        origin="origin",
        dest="dest",
        tailnum="tailnum",
        distance=pl.col("distance").cast(pl.Float32),
        hour=local.dt.hour().cast(pl.Float32),
        weekday=local.dt.weekday().cast(pl.Float32),
        carrier_size=pl.when(pl.col("carrier").is_in(LARGE)).then(pl.lit("large")).otherwise(pl.lit("small")),
    ).sort("event_timestamp", "flight_id")


def entities(tables: Tables, until: datetime) -> pl.DataFrame:
    """One row a flight whose outcome is known at `until`; see `asked`."""
    import polars as pl

    return asked(tables["flights"].filter(pl.col("event_time") <= until))


def _derived(hour: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    from flights.transforms import derived

    return derived(hour)


def _contract() -> Contract:
    from flights.contract import build

    return build()


def _definitions() -> tuple[Definition, ...]:
    from flights.views import VIEWS

    return VIEWS


flight_delay = Workload(
    name="flight_delay",
    key="flight_id",
    source=FlightSource(),
    contract=_contract,
    definitions=_definitions,
    entities=entities,
    features=FEATURES,
    feature_service="flight_delay",
    fallbacks=(
        Fallback(
            "inbound_delay",
            (("aircraft", "inbound_delay"), ("carrier", "carrier_delay_24h"), ("all", "all_delay_24h")),
        ),
    ),
    derived=(OnDemand(("hour",), ("hour_sin", "hour_cos"), _derived),),
    streams=("departures", "flights", "weather"),
    slices={"origin": "origin", "carrier": "carrier", "carrier_size": "carrier_size", "outcome": "outcome"},
    families=("lightgbm",),
    params={
        "lightgbm": {
            **{"num_leaves": 15, "min_data_in_leaf": 1000, "lambda_l2": 20.0, "feature_fraction": 0.7},
            **{"num_boost_round": 100, "learning_rate": 0.05},
        }
    },
)
