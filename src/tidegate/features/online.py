"""Reads Feast's SQLite online store as it is, without Feast: the values of `get_online_features`, one query a view.

With every view's rows comes its heartbeat row, which says until when the view had been fed; one query is one snapshot,
so both belong together. A value older than its view's time to live at the request's time is null (Feast 0.67 does not
ask online); event times are whole seconds there. What cannot be read is null and counted, never an error. Does I/O.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tidegate.features.wire import NO_KEYS, Value, entity_key, heartbeat_keys, known_of, value_of

if TYPE_CHECKING:
    from tidegate.features.asof import AsofView

BUSY_SECONDS = 1.0
"""Longest wait for a writer that is committing; then every view counts as not read."""

Row = tuple[int, dict[str, Value]]
"""Event time (whole seconds) and the values of one entity."""


@dataclass(frozen=True)
class Looked:
    """What was found for N entity rows.

    `values`: for each row every view's features by their output names, None where nothing is known. `known`: for each
    view until when it had been fed (seconds since the epoch), 0 without a heartbeat, None when it could not be read.
    """

    values: list[dict[str, Value]]
    known: list[float | None]


class OnlineReader:
    """Looks up the `views` of one Feast project in the database at `path`, which may not be there yet.

    `failures` counts views that could not be read: locked for too long, damaged. One thread at a time.
    """

    def __init__(self, path: Path, project: str, views: Sequence[AsofView]) -> None:
        self._path, self.failures = path, 0
        self._tables = [_Table(view, project) for view in views]
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def read(self, rows: Sequence[Mapping[str, Value]], at: float) -> Looked:
        """Look up `rows` (join key columns by name) as of `at` (seconds since the epoch)."""
        values: list[dict[str, Value]] = [{} for _ in rows]
        known: list[float | None] = []
        with self._snapshot() as connection:
            for table in self._tables:
                keys = table.keys(rows)
                fed, found = self._fetched(connection, table, keys)
                known.append(fed)
                table.fill(values, keys, found, at)
        return Looked(values, known)

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection | None]:
        """One state of the store for all views, which also costs less than one a view; None where it cannot be had."""
        connection = self._opened()
        if connection is not None:
            connection.execute("BEGIN")
            try:  # the first read takes the lock: a writer is waited for once, not once a view
                connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            except sqlite3.Error:
                self.failures += len(self._tables)
                _end(connection)
                connection = None
        try:
            yield connection
        finally:
            if connection is not None:
                _end(connection)

    def _fetched(
        self, connection: sqlite3.Connection | None, table: _Table, keys: Sequence[bytes | None]
    ) -> tuple[float | None, dict[bytes, Row]]:
        if connection is None:
            return None, {}
        try:
            return table.fetch(connection, keys)
        except (sqlite3.Error, ValueError, TypeError) as error:
            if "no such table" not in str(error):
                self.failures += 1
            return None, {}

    def _opened(self) -> sqlite3.Connection | None:
        """The connection to the file that is there now; None when there is none."""
        try:
            status = self._path.stat()
        except OSError:
            self.close()
            return None
        if self._file != (status.st_dev, status.st_ino):
            self.close()
            with contextlib.suppress(sqlite3.Error):
                self._connection = _connect(self._path)
                self._file = status.st_dev, status.st_ino
        return self._connection

    def close(self) -> None:
        """Close the connection; the next read opens it again."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._file = None


@dataclass
class _Table:
    """One view's table: its query by number of keys, and its features in place."""

    view: AsofView
    project: str
    _names: tuple[str, ...] = ()
    _asked: tuple[str, ...] = ()
    _heartbeats: frozenset[bytes] = frozenset()
    _outputs: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._names = self.view.keys or NO_KEYS
        self._asked = tuple(self.view.entity_keys.get(key, key) for key in self.view.keys)
        self._heartbeats = frozenset(heartbeat_keys(self._names))
        self._outputs = [(feature, self.view.rename.get(feature, feature)) for feature in self.view.features]
        self._age = self.view.ttl.total_seconds() if self.view.ttl else float("inf")
        quoted = f"{self.project}_{self.view.name}".replace('"', '""')
        self._query = (
            f'SELECT entity_key, feature_name, value, event_ts, created_ts FROM "{quoted}" WHERE entity_key IN'  # noqa: S608
        )

    def keys(self, rows: Sequence[Mapping[str, Value]]) -> list[bytes | None]:
        """Each row's key; None where a part of it is null, which matches nothing."""
        if not self._asked:
            return [entity_key(self._names, [""])] * len(rows)
        return [self._key([row[name] for name in self._asked]) for row in rows]

    def _key(self, values: list[Value]) -> bytes | None:
        return None if None in values else entity_key(self._names, values)  # type: ignore[arg-type]

    def fetch(self, connection: sqlite3.Connection, keys: Iterable[bytes | None]) -> tuple[float, dict[bytes, Row]]:
        """(fed until, entity key -> row); raises sqlite3.Error, or ValueError for a damaged value."""
        wanted = {*keys, *self._heartbeats} - {None}
        cursor = connection.execute(f"{self._query} ({','.join('?' * len(wanted))})", tuple(wanted))
        fed, found = 0.0, dict[bytes, Row]()
        for key, feature, blob, event, created in cursor.fetchall():
            if key in self._heartbeats:
                fed = known_of(event, created)
            elif key in found:
                found[key][1][feature] = value_of(blob)
            else:
                found[key] = event, {feature: value_of(blob)}
        return fed, found

    def fill(
        self, values: list[dict[str, Value]], keys: Sequence[bytes | None], found: Mapping[bytes, Row], at: float
    ) -> None:
        """Put this view's features into each row; null where the key is unknown or its row too old at `at`."""
        for row, key in zip(values, keys, strict=True):
            event, features = found.get(key, _NOTHING) if key is not None else _NOTHING
            alive = at - event <= self._age
            for feature, output in self._outputs:
                row[output] = features.get(feature) if alive else None


_NOTHING: Row = (0, {})


def _end(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that reads only: it cannot create the file, and holds no lock between two queries."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
