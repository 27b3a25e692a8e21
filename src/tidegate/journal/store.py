"""The journal on disk: one table, SQLite in WAL mode as the embedded default, any SQLAlchemy URL else.

Appending is a compare-and-swap: the caller says which event it saw last, and loses with `Conflict` when another wrote
meanwhile. Nothing is ever updated or deleted.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tidegate.errors import Conflict, PlatformError, TamperedJournal, UserError
from tidegate.journal.events import GENESIS, Draft, Event, canonical, intact, seal

URL = "TIDEGATE_JOURNAL"
"""Environment variable: the database of the journal where it is not the state folder's, a cluster's PostgreSQL."""

_metadata = sa.MetaData()
EVENTS = sa.Table(
    "events",
    _metadata,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("wall", sa.Float, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("before", sa.String, nullable=False),
    sa.Column("hash", sa.String, nullable=False),
    sqlite_with_rowid=False,
)
# what browses a long journal reads these alone: neither holds what an event says
_indexes = (
    sa.Index("events_by_kind", EVENTS.c.model, EVENTS.c.kind, EVENTS.c.seq, EVENTS.c.time),
    sa.Index("events_by_time", EVENTS.c.time, EVENTS.c.model, EVENTS.c.seq, EVENTS.c.kind),
)
_EACH_MODEL = """WITH RECURSIVE found(model) AS (
    SELECT min(model) FROM events UNION ALL
    SELECT (SELECT min(events.model) FROM events WHERE events.model > found.model) FROM found
    WHERE found.model IS NOT NULL)"""
"""Names one after the other by the key: a look a model, whatever the number of its events."""


class Journal:
    """An append-only list of events a model, at a database URL."""

    def __init__(self, url: str) -> None:
        embedded = url.startswith("sqlite")
        # a server may have restarted since the last turn: a connection is tried before it is used
        self._engine = sa.create_engine(
            url, connect_args={"timeout": 30} if embedded else {}, pool_pre_ping=not embedded
        )
        if embedded:
            sa.event.listen(self._engine, "connect", _tune_sqlite)
            sa.event.listen(self._engine, "begin", _lock_sqlite)
        try:
            _make_tables(self._engine)
        except sa.exc.DatabaseError as error:
            raise _unreadable(error) from None

    def append(self, model: str, drafts: Sequence[Draft], expected: int) -> list[Event]:
        """Write all drafts or none, as the events after number `expected` of `model`.

        Raises Conflict when the model's last event is not number `expected`.
        """
        if not drafts:
            return []
        try:
            with self._engine.execution_options(write=True).begin() as connection:
                last = self._last(connection, model)
                found, before = (last.seq, last.hash) if last else (0, GENESIS)
                if found != expected:
                    raise Conflict(f"journal of {model}: event {found} is there, expected {expected} to be the last")
                events = _chain(drafts, model, expected, before)
                connection.execute(sa.insert(EVENTS), [_row(event) for event in events])
                return events
        except sa.exc.IntegrityError:
            raise Conflict(f"journal of {model}: another writer took position {expected + 1}") from None
        except sa.exc.DatabaseError as error:
            raise PlatformError(f"journal: {error.orig}") from None

    def read(self, model: str, after: int = 0) -> list[Event]:
        """The events of `model` with numbers above `after`, in order; the chain is not checked here."""
        query = sa.select(EVENTS).where(EVENTS.c.model == model, EVENTS.c.seq > after).order_by(EVENTS.c.seq)
        return self.events(query)

    def events(self, query: sa.Select[Any]) -> list[Event]:
        """The events of a query for whole rows; see `tidegate.journal.browse`."""
        return [_event(row) for row in self.rows(query)]

    def rows(self, query: sa.Executable) -> Sequence[sa.Row[Any]]:
        """What a query that only reads finds."""
        try:
            with self._engine.connect() as connection:
                return connection.execute(query).all()
        except sa.exc.DatabaseError as error:
            raise _unreadable(error) from None

    def models(self) -> list[str]:
        """Names of the models that have events."""
        return sorted(self.heads())

    def heads(self) -> dict[str, int]:
        """The number of each model's last event."""
        newest = "(SELECT max(seq) FROM events WHERE events.model = found.model) AS newest"
        query = sa.text(f"{_EACH_MODEL} SELECT model, {newest} FROM found WHERE model IS NOT NULL")  # noqa: S608
        return {row.model: row.newest for row in self.rows(query)}

    def head(self, model: str) -> tuple[int, float]:
        """Number and event time of the model's newest event; (0, 0.0) where there is none."""
        newest = sa.func.max(EVENTS.c.seq).label("seq"), sa.func.max(EVENTS.c.time).label("time")
        query = sa.select(*newest).where(EVENTS.c.model == model)
        (found,) = self.rows(query)
        return found.seq or 0, found.time or 0.0

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    @staticmethod
    def _last(connection: sa.Connection, model: str) -> Event | None:
        query = sa.select(EVENTS).where(EVENTS.c.model == model).order_by(EVENTS.c.seq.desc()).limit(1)
        row = connection.execute(query).first()
        return _event(row) if row else None


def open_journal(state: Path, create: bool = False) -> Journal:
    """The journal of a state folder, or the one whose URL is in the environment.

    Raises UserError where the folder has none and `create` is false, or where the URL is none.
    """
    if url := os.environ.get(URL):
        try:
            return Journal(url)
        except (sa.exc.ArgumentError, ImportError):  # the URL is not told: it has a password
            raise UserError(URL, "a URL that SQLAlchemy does not open", "a URL like postgresql+psycopg://…") from None
    path = state / "journal.db"
    if not create and not path.is_file():
        raise UserError(f"--state {state}", "no journal.db in it", "the state folder of a `tidegate up` or `run`")
    path.parent.mkdir(parents=True, exist_ok=True)
    return Journal(f"sqlite:///{path}")


def verify(events: Sequence[Event]) -> None:
    """Check the chain from the first event on; TamperedJournal names the first event that does not fit."""
    before = GENESIS
    for position, event in enumerate(events, 1):
        if event.seq != position or event.before != before or not intact(event):
            raise TamperedJournal(f"journal of {event.model}: event {event.seq} ({event.kind}) is not what was written")
        before = event.hash


def _chain(drafts: Sequence[Draft], model: str, expected: int, before: str) -> list[Event]:
    events, wall = [], time.time()
    for seq, draft in enumerate(drafts, expected + 1):
        plain = Draft(draft.kind, float(draft.time), json.loads(canonical(draft.data)))
        events.append(seal(plain, model, seq, wall, before))
        before = events[-1].hash
    return events


def _row(event: Event) -> dict[str, object]:
    return {**event.__dict__, "data": canonical(event.data)}


def _event(row: Any) -> Event:
    model, seq, kind, time_, wall, data, before, hash_ = row
    try:
        return Event(seq, model, kind, time_, wall, json.loads(data), before, hash_)
    except ValueError:
        raise TamperedJournal(f"journal of {model}: event {seq} ({kind}) is not what was written") from None


def _make_tables(engine: sa.Engine) -> None:
    """Make the table where it is not there; several processes may open a new journal at once."""
    for _ in range(100):
        try:
            _metadata.create_all(engine)
            for index in _indexes:
                index.create(engine, checkfirst=True)  # a journal from before they were made
            return
        except sa.exc.DatabaseError as error:
            # turning WAL on takes the whole file and, unlike a write, does not wait for its turn; the loser of a
            # race for the first CREATE finds the table there
            if not any(sign in str(error.orig) for sign in ("locked", "already exists")):
                raise
            time.sleep(0.05)
    raise PlatformError("journal.db: locked by another process for 5 s")


def _unreadable(error: sa.exc.DatabaseError) -> PlatformError:
    if isinstance(error, sa.exc.OperationalError) and not isinstance(error.orig, sqlite3.Error):
        return PlatformError(f"journal: {' '.join(str(error.orig).split())[:300]}")
    return TamperedJournal(f"journal.db: {error.orig}")


def _tune_sqlite(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
    connection.isolation_level = None  # type: ignore[attr-defined]


def _lock_sqlite(connection: sa.Connection) -> None:
    # a writer takes the lock before it reads the position, so that compare and swap are one step
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
