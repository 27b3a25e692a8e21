"""From an unseen key to its own value: real NATS, the real feeder, real Feast, and parity over what was answered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flights_online import FLIGHTS, ROOT, Service, write_flights_model

from flights.workload import flight_delay
from tidegate.features.logged import check_parity
from tidegate.ingest.stream import publish
from tidegate.spec import load_model
from tidegate.state import prepare
from tidegate.targets.streams import Streams

MODEL, NAME = load_model(ROOT / "k8s/models/flight-delay.yaml"), "flight-delay"
INBOUND = [feature.name for feature in flight_delay.features].index("inbound_delay")


@dataclass
class Live:
    """A stream that feeds a state folder, and a service that answers by key over it."""

    state: Path
    streams: Streams
    service: Service

    def departs(self, number: str, tailnum: str, carrier: str, delay: int, ago: float = 0.0) -> None:
        """A departure, `ago` seconds in the past."""
        at = datetime.now(UTC) - timedelta(seconds=ago)
        row = {
            **{"flight_id": f"{carrier}-{number}-EWR-{at:%Y%m%dT%H%M}", "event_time": at.isoformat()},
            **{"carrier": carrier, "tailnum": tailnum, "origin": "EWR", "dep_delay": delay},
        }
        url = json.loads((self.state / "stream" / "nats.json").read_text())["url"]
        key = flight_delay.contract().tables["departures"].key
        assert publish(url, NAME, "departures", [row], key) == 1

    def ask(self, tailnum: str, carrier: str) -> dict[str, Any]:
        """Ask about a flight of this aircraft; the row as logged."""
        fields = {"origin": "EWR", "dest": "BOS", "distance": 200, "hour": 9, "weekday": 2}
        request = f"{tailnum}-{time.monotonic_ns()}"
        (answer,) = self.service.ask([{"tailnum": tailnum, "carrier": carrier, **fields}], request_id=request)
        return {"inbound": self.logged(request).features[INBOUND], "level": answer.get("fallback")}

    def logged(self, request: str) -> Any:
        return next(row for row in self.service.rows() if row.request_id == f"{request}/0")

    def until(self, tailnum: str, carrier: str, good: Callable[[dict], bool]) -> dict[str, Any]:
        """Ask until the answer is `good`, for at most 30 s; the last answer."""
        deadline = time.monotonic() + 30
        while not good(found := self.ask(tailnum, carrier)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    state = prepare(tmp_path / "state")
    digest = write_flights_model(state)
    streams = Streams(state, model=NAME, workload=FLIGHTS, clock="wall", url=None)
    streams.start()
    service = Service(state, digest, clock="wall")
    deadline = time.monotonic() + 60
    while not (state / "stream" / "status.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    yield Live(state, streams, service)
    streams.stop()
    service.close()


def test_each_level_stands_in_until_the_key_has_its_own_value_and_offline_says_the_same(live: Live) -> None:
    assert live.ask("N101", "UA") == {"inbound": None, "level": None}  # nothing is known of anything
    live.departs("1", "N107", "DL", 10)
    assert live.until("N101", "UA", lambda row: row["level"] == "all") == {"inbound": 10.0, "level": "all"}
    live.departs("2", "N108", "UA", 30)
    assert live.until("N101", "UA", lambda row: row["level"] == "carrier") == {"inbound": 30.0, "level": "carrier"}
    live.departs("3", "N101", "UA", 5)
    assert live.until("N101", "UA", lambda row: row["level"] is None) == {"inbound": 5.0, "level": None}
    live.departs("4", "N101", "UA", -3)
    assert live.until("N101", "UA", lambda row: row["inbound"] == -3.0)["level"] is None
    live.departs("5", "N109", "UA", 12, ago=240)  # late, and within the stated lateness
    assert live.until("N109", "UA", lambda row: row["level"] is None)["inbound"] == 12.0
    for number in range(120):
        live.ask(f"N1{number % 12:02}", ("UA", "DL", "XX")[number % 3])
    live.streams.stop()  # everything goes offline
    asked = len(live.service.rows())
    report = check_parity(MODEL, live.state, 10_000)
    assert (report.predictions, report.differing) == (asked, 0), report.to_text()
    levels = {row.fallback for row in live.service.rows()}
    assert levels == {None, "carrier", "all"}
