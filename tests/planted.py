"""Real flights delivered as a file a day, for tests that plant a fault in one of them.

``planted:flights`` reads the folder that the environment variable PLANTED names. Its contract is the flights' own, but
a whole bad day may be quarantined, and an origin is known by having weather.
"""

import os
from dataclasses import replace
from pathlib import Path

from flights.contract import build
from flights.workload import flight_delay
from tidegate.ingest.files import Files
from tidegate.validate.contract import Column, Contract

TABLES = ("departures", "flights", "weather")


def contract():
    """See above."""
    tables = build().tables
    origin = Column("origin", "text")
    columns = tuple(origin if column.name == "origin" else column for column in tables["flights"].columns)
    return Contract({**tables, "flights": replace(tables["flights"], columns=columns, tolerated=0.2)})


def __getattr__(name):
    if name != "flights":
        raise AttributeError(name)
    folder = Path(os.environ["PLANTED"])
    source = Files({table: str(folder / table) for table in TABLES})
    return replace(flight_delay, source=source, contract=contract, partition="day")
