"""A state folder with flights: data versions, a tiny model of the flights' schema, and /predict by key over it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))

from tiny_models import write_model_of

from flights.workload import flight_delay
from tidegate.features.live import live_repo
from tidegate.features.online import OnlineReader
from tidegate.ingest.disk import read_manifest, read_tables
from tidegate.ingest.step import ingest
from tidegate.observations import Prediction, SegmentReader
from tidegate.serve.by_key import KeyLookup
from tidegate.serve.loaded import load_model
from tidegate.serve.prediction_log import PredictionLog
from tidegate.serve.request_path import RequestPath
from tidegate.serve.scoring import Identity
from tidegate.train.model_file import Feature, FeatureSchema, folder_name
from tidegate.validate.step import validate
from tidegate.version.step import version

FLIGHTS = "flights.workload:flight_delay"
ROOT = Path(__file__).parents[3]


def make_version(root: Path, until: str) -> Path:
    """Take, check and version what had arrived by `until`; returns the folder of valid rows."""
    work = root / until
    ingest(FLIGHTS, until, work / "arrivals")
    assert validate(work / "arrivals", FLIGHTS, work / "valid").verdict == "passed"
    version(work / "valid", root / "state", work / "data_version.json")
    return work / "valid"


def tables_of(valid: Path) -> dict[str, pl.DataFrame]:
    return read_tables(valid, read_manifest(valid))


def write_flights_model(state: Path) -> str:
    features = tuple(Feature(one.name, one.kind, one.categories) for one in flight_delay.features)
    return write_model_of(state / "models", FeatureSchema(features))


async def nothing_else(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("not for it")


class Service:
    """The request path of one service, asked in-process, that logs into the state folder."""

    def __init__(self, state: Path, digest: str, clock: Any = "events", writer: str = "v1-a") -> None:
        self.folder = state / "observations" / "predictions"
        model, live = load_model(state / "models" / folder_name(digest)), live_repo(state, flight_delay, FLIGHTS)
        reader = OnlineReader(live.online, live.project, flight_delay.view_definitions())
        self.lookup = KeyLookup(flight_delay, model.schema, reader)
        self.log = PredictionLog(self.folder, writer, "v1", digest)
        self.app = RequestPath(Identity("flight-delay", "v1", clock), model, self.log, nothing_else, self.lookup)

    def ask(self, keys: Sequence[dict], at: float | None = None, request_id: str = "r") -> list[dict]:
        """Ask /predict by key; the answer's rows."""
        sent: list[dict] = []
        body = json.dumps({"keys": list(keys), **({} if at is None else {"at": at})}).encode()

        async def receive() -> dict:
            return {"type": "http.request", "body": body}

        async def send(message: dict) -> None:
            sent.append(message)

        headers = [(b"x-request-id", request_id.encode())]
        asyncio.run(self.app({"type": "http", "method": "POST", "path": "/predict", "headers": headers}, receive, send))
        assert sent[0]["status"] == 200, sent[1]["body"]
        return json.loads(sent[1]["body"])["rows"]

    def rows(self) -> list[Prediction]:
        self.log.flush()
        return SegmentReader(self.folder).read()  # type: ignore[return-value]

    def close(self) -> None:
        self.log.close()


def asked_of(rows: pl.DataFrame) -> list[dict]:
    """Entity rows -> what /predict takes by key."""
    fields = ("tailnum", "carrier", "origin", "dest", "distance", "hour", "weekday")
    return rows.select(fields).to_dicts()


def seconds(time: str) -> float:
    return datetime.fromisoformat(f"{time}T00:00:00+00:00").timestamp()
