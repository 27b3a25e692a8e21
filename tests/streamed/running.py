"""A real NATS server and the real feeder on a state folder of their own, and what they should make."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from streamed.workload import DEFINITIONS, SCHEMA, streamed
from tidegate.features.asof import TIME
from tidegate.features.live import live_repo, offline_rows
from tidegate.features.windows import CREATED, build
from tidegate.features.wire import NO_KEYS, entity_key, value_of
from tidegate.ingest.stream import publish
from tidegate.ingest.stream_log import KNOWN, StreamLog
from tidegate.targets.processes import Record, wait_until
from tidegate.targets.streams import Streams

WORKLOAD = "streamed.workload:streamed"


@dataclass
class Stream:
    """The processes of one stream, and what they made."""

    state: Path
    clock: str = "wall"
    streams: Streams | None = None
    next_id: int = 0
    published: list[dict[str, object]] = field(default_factory=list)

    def start(self, url: str | None = None) -> Stream:
        """Start (or adopt) server and feeder, and wait for the feeder."""
        self.streams = Streams(self.state, model="m", workload=WORKLOAD, clock=self.clock, url=url)
        self.streams.start()
        assert wait_until(lambda: self.status.get("pid") == self.pid("feeder"), 60, every=0.05), self.feeder_log()
        return self

    def stop(self) -> None:
        if self.streams is not None:
            self.streams.stop()
        self.streams = None

    @property
    def url(self) -> str:
        return json.loads((self.state / "stream/nats.json").read_text())["url"]

    @property
    def log(self) -> StreamLog:
        return StreamLog(self.state / "stream")

    @property
    def status(self) -> dict[str, float]:
        path = self.state / "stream/status.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def pid(self, role: str) -> int:
        """Of the running process of that role; 0 when there is none."""
        alive = Record(self.state / "stream/processes.json").alive
        return next((one.pid for one in alive if one.role == role), 0)

    def kill(self, role: str = "feeder") -> None:
        if pid := self.pid(role):
            os.kill(pid, signal.SIGKILL)

    def publish(self, rows: list[dict[str, object]]) -> None:
        """Publish rows of the table; each gets a new id where it has none."""
        for row in rows:
            row.setdefault("id", self.next_id)
            self.next_id += 1
        publish(self.url, "m", "spent", rows, ("id",))
        self.published += rows

    def logged(self) -> pl.DataFrame:
        rows = self.log.rows("spent")
        return pl.DataFrame(schema={**SCHEMA, KNOWN: SCHEMA["event_time"]}) if rows is None else rows

    def taken(self, count: int, seconds: float = 60) -> Stream:
        """Wait until so many rows are in the log."""
        assert wait_until(lambda: self.logged().height >= count, seconds, every=0.1), self.feeder_log()
        return self

    def feeder_log(self) -> str:
        path = self.state / "stream/feeder.log"
        return path.read_text()[-3000:] if path.exists() else "no log"

    def online(self, view: str, key: str | None = None) -> dict[str, float | None]:
        """A row of the online store by feature, read as Feast writes it; empty when there is none."""
        names, values = (("key",), (key,)) if key is not None else (NO_KEYS, ("",))
        path = live_repo(self.state, streamed, WORKLOAD).online
        query = f"SELECT feature_name, value FROM streamed_{view} WHERE entity_key = ?"  # noqa: S608
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(query, (entity_key(names, values),)).fetchall()
        return {name: value_of(value) for name, value in rows}

    def offline(self, definition) -> pl.DataFrame:
        """The newest created row of each key and instant."""
        rows = offline_rows(live_repo(self.state, streamed, WORKLOAD), definition.view)
        order = [*definition.view.keys, TIME]
        return rows.sort(CREATED, nulls_last=False).unique(order, keep="last").drop(CREATED).sort(TIME, *order[:-1])


def row(key: str | None, value: int | None, ago: float = 0.0, **more: object) -> dict[str, object]:
    """An event that happened so many seconds ago."""
    time = datetime.now(UTC) - timedelta(seconds=ago)
    return {"event_time": time.isoformat(), "key": key, "value": value, **more}


def built(definition, rows: pl.DataFrame, until: datetime) -> pl.DataFrame:
    """The view's rows worked out from all events at once."""
    whole = build(definition, {"spent": rows}).drop(CREATED)
    return whole.filter(pl.col(TIME) <= until).sort(TIME, *definition.view.keys)


def agrees(stream: Stream, rows: pl.DataFrame, until: datetime) -> None:
    """Offline rows and online values are those of the batch computation."""
    for one in DEFINITIONS:
        wanted = built(one, rows, until)
        assert stream.offline(one).equals(wanted), one.view.name
        newest = wanted.unique(one.view.keys, keep="last", maintain_order=True) if one.view.keys else wanted.tail(1)
        for values in newest.iter_rows(named=True):
            shown = stream.online(one.view.name, *(values[key] for key in one.view.keys))
            assert shown == {name: values[name] for name in one.view.features}, (one.view.name, values)
