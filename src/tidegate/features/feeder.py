"""Feeds the live repo from a stream: raw log, then views, then online and offline rows. Does I/O.

The raw log and the history before it are all there is to the state: after a restart the views are worked out from
both, the rows that were not yet offline are made again, the same to the byte, and what is current goes online again.
Every batch, and every moment at which time alone changed something, has a time of its own, its `KNOWN`: rows are
`created` then, and a log read again at the same times gives the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from tidegate.controller.clock import ClockKind
from tidegate.errors import UserError
from tidegate.features.asof import TIME
from tidegate.features.flush import START, Outgoing, created
from tidegate.features.live import LiveRepo
from tidegate.features.online_write import write_online
from tidegate.features.streaming import LATENESS, Newest, Views, horizon
from tidegate.features.windows import CREATED
from tidegate.ingest.stream import Event, contract_tables, take
from tidegate.ingest.stream_log import KNOWN, StreamLog, write_durably
from tidegate.targets.processes import write_atomically
from tidegate.validate.check import good_rows, row_failures
from tidegate.validate.contract import TableContract
from tidegate.validate.repair import CHANGED, repaired
from tidegate.workload import EVENT_TIME, Workload

if TYPE_CHECKING:
    from feast import FeatureStore

AHEAD = timedelta(seconds=5)
"""An event so much ahead of the wall clock waits for its time; one further ahead is put aside as ``not_yet``."""

NO_LIMIT = datetime(9000, 1, 1, tzinfo=UTC)
"""Under the event clock any time may be the newest; the contract bounds it."""

Tables = Mapping[str, pl.DataFrame]


class Seen:
    """Keys of the events of one table that came within the last `LATENESS`, or twice it: a repeated one is known."""

    def __init__(self, key: Sequence[str]) -> None:
        self._key = list(key)
        self._young: set[int] = set()
        self._old: set[int] = set()
        self._since: datetime | None = None

    def new(self, rows: pl.DataFrame, known: datetime) -> pl.DataFrame:
        """The rows whose key was not seen before, each key once."""
        if self._since is None or known - self._since > LATENESS:
            self._old, self._young, self._since = self._young, set(), known
        fresh = []
        for key in rows.select(pl.struct(self._key).hash())[self._key[0]]:
            fresh.append(key not in self._young and key not in self._old)
            self._young.add(key)
        return rows.filter(pl.Series(fresh, dtype=pl.Boolean))


class Feeder:
    """Everything that the stream of one model feeds; `folder` is ``STATE/stream``.

    `start` once, then `feed` for every batch, empty ones too: they are the ticks of the clock.
    """

    def __init__(self, live: LiveRepo, store: FeatureStore, known: Workload, folder: Path, clock: ClockKind) -> None:
        self._live, self._store, self._workload, self._folder, self._wall = live, store, known, folder, clock == "wall"
        self._definitions = {one.view.name: one for one in known.definitions()}
        self._contracts = contract_tables(known.contract().tables, known.streams)
        self._log = StreamLog(folder)
        self._views, self._now = Views(self._definitions.values()), START
        self._newest = {name: Newest() for name in self._definitions}
        self._seen = {name: Seen(table.key) for name, table in self._contracts.items()}
        self._last = {name: self._log.last(name) for name in self._contracts}
        self._aside = {name: StreamLog(folder / "quarantine").last(name) for name in self._contracts}
        self._out = Outgoing(store, folder, self._definitions, self._contracts)
        self._known = START
        self._began: datetime | None = None
        self._empty = {name: _empty(table) for name, table in known.contract().tables.items()}
        self.events = self.quarantined = self.repeated = 0

    @property
    def next_sequence(self) -> int:
        """The first of the stream's numbers that may not be in the log yet."""
        return min(self._last.values(), default=0) + 1

    @property
    def late(self) -> int:
        """Events that came too late to be put right online."""
        return self._views.late

    @property
    def known(self) -> datetime:
        """The time of the last batch."""
        return self._known

    def start(self, stream: str, wall: datetime) -> None:
        """Take up where the last one was killed. `stream` tells this stream from any other: numbers mean only there.

        Raises UserError when the log was taken from another stream.
        """
        for name in (*self._contracts, "quarantine"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        kept = _read_json(self._folder / "began.json")
        if kept and kept["stream"] != stream:
            takes = "the stream whose events are in its log: another server takes a state folder of its own"
            raise UserError(str(self._folder), "the log of another stream", takes)
        if kept and kept["began"] is not None:
            self._resume(datetime.fromisoformat(kept["began"]), wall)
        elif self._wall:
            self._begin(begun := self._next(wall), stream, begun)
        else:
            self._forget()
            write_atomically(self._folder / "began.json", json.dumps({"stream": stream, "began": None}).encode())

    def feed(self, events: Mapping[str, Sequence[Event]], wall: datetime) -> None:
        """One batch, in the order of the stream; when this returns its events are on disk and its features online."""
        known = self._next(wall)
        rows = {name: self._keep(name, some, known) for name, some in events.items() if some}
        taken = {name: some for name, some in rows.items() if some.height}
        if self._began is None:
            if not taken:
                return
            first = min(some[EVENT_TIME].min() for some in taken.values())  # type: ignore[type-var]
            stream = _read_json(self._folder / "began.json")["stream"]
            self._begin(first, stream, known - timedelta(microseconds=1))  # type: ignore[arg-type]
        changed = self._views.absorb(self._all(taken), self._clock(known, taken))
        if changed and not taken:
            self._out.note_tick(known)
        self._show(changed, known)
        self._out.add(changed, known)
        self._out.step(known)

    def flush(self) -> None:
        """Put every changed row offline."""
        self._out.flush(self._known)

    def status(self) -> dict[str, Any]:
        """Counts since the start, and until when the views are fed (seconds)."""
        return {
            "events": self.events,
            "late": self.late,
            "quarantined": self.quarantined,
            "repeated": self.repeated,
            "known": self._known.timestamp(),
            "now": self._now.timestamp(),
        }

    def _next(self, wall: datetime) -> datetime:
        self._known = max(wall, self._known + timedelta(microseconds=1))
        return self._known

    def _keep(self, name: str, events: Sequence[Event], known: datetime) -> pl.DataFrame:
        """The new good events of a table, in the log when this returns; the bad ones in quarantine."""
        fresh = [event for event in events if event.sequence > self._last[name]]
        if not fresh:
            return self._empty[name]
        limit = known + AHEAD if self._wall else NO_LIMIT
        taken = take(fresh, self._contracts[name], limit)
        first, self._last[name] = fresh[0].sequence, fresh[-1].sequence
        aside = taken.aside.filter(pl.col("sequence") > self._aside[name])
        if aside.height:
            self.quarantined += aside.height
            StreamLog(self._folder / "quarantine").append(name, first, self._last[name], aside)
        new = self._seen[name].new(taken.rows, known)
        self.repeated += taken.rows.height - new.height
        self.events += new.height
        if new.height:
            stamped = new.with_columns(pl.lit(known).cast(pl.Datetime("us", "UTC")).alias(KNOWN))
            self._log.append(name, first, self._last[name], stamped)
        return new

    def _clock(self, known: datetime, taken: Tables) -> datetime:
        """The time up to which rows are shown: the batch's own, or the newest event's."""
        newest = [self._now, *(rows[EVENT_TIME].max() for rows in taken.values())]
        self._now = known if self._wall else max(newest)  # type: ignore[type-var, assignment]
        return self._now

    def _all(self, taken: Tables) -> Tables:
        return {**self._empty, **taken}

    def _show(self, changed: Tables, known: datetime) -> None:
        """Write each view's newest rows online."""
        for name, rows in changed.items():
            view = self._definitions[name].view
            newest = self._newest[name].of(view.keys, rows)
            if newest.height:
                write_online(self._store, view, created(newest, known), known)

    def _begin(self, until: datetime, stream: str, known: datetime) -> None:
        """The first start: the history up to `until` goes offline and online, known as of `known`."""
        self._began = self._now = until
        changed = self._views.take(self._all(self._history(until)), until)
        inside = {name: self._in_life(name, rows, until) for name, rows in changed.items()}
        self._show(inside, known)
        for name in self._definitions:  # Feast takes the columns of a push from a file: without rows too
            rows = inside[name] if name in inside else self._no_rows(name)
            write_durably(self._live.views / name / "history.parquet", created(rows, known))
        self._out.flush(known)
        write_atomically(
            self._folder / "began.json", json.dumps({"stream": stream, "began": until.isoformat()}).encode()
        )

    def _forget(self) -> None:
        """Under the event clock the first batch says when all begins; killed in it, it is taken again as a whole."""
        for name in self._contracts:
            for piece in self._log.pieces(name):
                piece.path.unlink()
            self._last[name] = 0

    def _resume(self, began: datetime, wall: datetime) -> None:
        """Work the state out of the history and the log, and show what is current."""
        self._began = began
        flushed = self._out.flushed
        span = horizon(self._definitions.values())
        since = None if span is None else flushed - span - LATENESS
        log = {name: rows for name in self._contracts if (rows := self._log.rows(name, since)) is not None}
        nows = self._nows(log, began)
        before = {name: self._in_time(rows.filter(pl.col(KNOWN) <= flushed), nows) for name, rows in log.items()}
        self._now = max([began, *(now for known, now in nows.items() if known <= flushed)])
        if self._wall:
            self._now = max(began, flushed)
        current = [self._views.take(self._all(self._with_history(before, began)), self._now)]
        current += self._again(log, nows)
        for name, some in log.items():
            self._seen[name].new(some.filter(pl.col(KNOWN) > self._known - LATENESS), self._known)
        self._next(wall)
        for name in self._definitions:
            if parts := [changed[name] for changed in current if name in changed]:
                self._show({name: pl.concat(parts)}, self._known)

    def _again(self, log: Tables, nows: Mapping[datetime, datetime]) -> list[dict[str, pl.DataFrame]]:
        """The batches and ticks since the last flush, each at its own time."""
        flushed, begun = self._out.flushed, self._out.begun
        since = {name: rows.filter(pl.col(KNOWN) > flushed) for name, rows in log.items()}
        parts = {name: rows.partition_by(KNOWN, as_dict=True) for name, rows in since.items()}
        times = {key[0] for some in parts.values() for key in some} | set(self._out.ticks())
        found = []
        for known in sorted(known for known in times if known > flushed):
            if self._out.flushed < begun < known:
                self._out.flush(begun)
            tables = {name: some[(known,)].drop(KNOWN) for name, some in parts.items() if (known,) in some}
            self._known, self._now = known, nows.get(known, known) if self._wall or tables else self._now
            found.append(self._views.absorb(self._all(tables), self._now))
            self._out.add(found[-1], known)
        self._known = max(self._known, flushed)
        if self._out.flushed < begun:
            self._out.flush(begun)
        return found

    def _nows(self, log: Tables, began: datetime) -> dict[datetime, datetime]:
        """For each batch of the log the time up to which its rows were shown."""
        if not log:
            return {}
        batches = pl.concat([rows.select(KNOWN, EVENT_TIME) for rows in log.values()]).group_by(KNOWN)
        by_time = batches.agg(pl.col(EVENT_TIME).max()).sort(KNOWN)
        if self._wall:
            return dict(zip(by_time[KNOWN], by_time[KNOWN], strict=True))
        return dict(zip(by_time[KNOWN], (max(began, now) for now in by_time[EVENT_TIME].cum_max()), strict=True))

    def _in_time(self, rows: pl.DataFrame, nows: Mapping[datetime, datetime]) -> pl.DataFrame:
        """The events that were not too late when they came."""
        if rows.is_empty():
            return rows.drop(KNOWN)
        now = pl.Series([nows[known] for known in rows[KNOWN]], dtype=pl.Datetime("us", "UTC"))
        return rows.filter(rows[EVENT_TIME] >= now - LATENESS).drop(KNOWN)

    def _with_history(self, log: Tables, began: datetime) -> Tables:
        """The history and the log's events, each key once."""
        found = self._history(began)
        for name, rows in log.items():
            both = pl.concat([found[name], rows], how="vertical_relaxed") if name in found else rows
            found[name] = both.unique(self._contracts[name].key, keep="first", maintain_order=True)
        return found

    def _history(self, until: datetime) -> dict[str, pl.DataFrame]:
        """The source's rows that still matter at `until` and keep the contract."""
        span, contracts = horizon(self._definitions.values()), self._workload.contract().tables
        found = {}
        for name, rows in self._workload.source.arrivals(until).items():
            inside = rows if span is None else rows.filter(pl.col(EVENT_TIME) >= until - span)
            made = repaired(inside.select(contracts[name].names), contracts[name])[0].drop(CHANGED)
            found[name] = made.filter(good_rows(made.height, row_failures(made, contracts[name])))
        return found

    def _in_life(self, name: str, rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """The rows that still hold: what came before was worked out of a part of its window."""
        ttl = self._definitions[name].view.ttl
        return rows if ttl is None else rows.filter(pl.col(TIME) >= now - ttl)

    def _no_rows(self, name: str) -> pl.DataFrame:
        from tidegate.features.windows import build

        return build(self._definitions[name], self._empty).drop(CREATED)


def _empty(table: TableContract) -> pl.DataFrame:
    from tidegate.ingest.conform import dtypes

    return pl.DataFrame(schema=dtypes(table))


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}
