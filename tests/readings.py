"""A workload of two small tables whose source the tests choose: module attribute, or the variable READINGS (JSON)."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from flights.workload import flight_delay
from tidegate.ingest.files import Files
from tidegate.ingest.sources import Together
from tidegate.ingest.sql import Sql
from tidegate.ingest.stream_log import StreamSource
from tidegate.validate.contract import Column, Contract, TableContract
from tidegate.workload import Feature, Workload

NAME = "readings:readings"
COLUMNS = (
    Column("sensor", "text"),
    Column("event_time", "time"),
    Column("number", "integer", low=0),
    Column("value", "number", nullable=True),
    Column("note", "text", nullable=True),
)
TABLES = {
    "readings": TableContract(COLUMNS, ("sensor", "event_time"), tolerated=0.5),
    "places": TableContract((Column("place", "text"), Column("event_time", "time")), ("place",), tolerated=0.5),
}


class Chosen(Together):
    """What READINGS says: {"files": {table: url}, "options": {}, "sql": [url, tables], "stream": folder}."""

    def __init__(self):
        pass

    @property
    def sources(self):
        said = json.loads(os.environ["READINGS"])
        found = [Files(said["files"], said.get("options"))] if "files" in said else []
        if "stream" in said:
            keys = {name: table.key for name, table in flight_delay.contract().tables.items()}
            found.append(StreamSource(Path(said["stream"]), tuple(keys), keys))
        return [*found, *([Sql(*said["sql"])] if "sql" in said else [])]


def _nothing(*_):
    raise NotImplementedError


readings = Workload(
    name="readings",
    key="sensor",
    source=Chosen(),
    contract=lambda: Contract(TABLES),
    definitions=_nothing,
    entities=_nothing,
    features=(Feature("value", "numeric"),),
    feature_service="readings",
)

flights = replace(flight_delay, source=Chosen())
