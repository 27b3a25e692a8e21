"""What an edge remembers, in SQLite: its observations until they are uploaded, and a few facts.

A row is committed before its answer is given: ``kill -9`` loses none. Exactly once by request id: a second row of one
request is not taken, and an upload marks what it is about to hand on before it does.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_KEPT = 1_000_000
"""Observations that wait at most; more are dropped and counted."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS observations (number INTEGER PRIMARY KEY AUTOINCREMENT, request TEXT UNIQUE, row TEXT);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads (first INTEGER, last INTEGER);
"""


@dataclass(frozen=True)
class Batch:
    """Observations that go up together, by their numbers; the same ones until `Kept.uploaded` is called."""

    first: int
    last: int
    rows: list[dict[str, Any]]


class Kept:
    """One database; thread-safe. `dropped` counts rows that the disk did not take or that were too many."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        # kill -9 loses nothing committed; only the machine's own death may
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_SCHEMA)
        self.dropped, self._waiting = 0, self.waiting()

    def record(self, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Keep rows by their request ids; never raises on a full disk."""
        found = [(request, json.dumps(row)) for request, row in rows]
        if self._waiting >= MOST_KEPT:
            self.dropped += len(found)
            return
        try:
            with self._lock, self._transaction():
                before = self._database.total_changes
                self._database.executemany("INSERT OR IGNORE INTO observations (request, row) VALUES (?, ?)", found)
                self._waiting += self._database.total_changes - before
        except sqlite3.Error:
            self.dropped += len(found)

    def waiting(self) -> int:
        """Observations that were not uploaded yet."""
        with self._lock:
            self._waiting = int(self._database.execute("SELECT count(*) FROM observations").fetchone()[0])
            return self._waiting

    def batch(self, most: int = 100_000) -> Batch | None:
        """The batch that goes up next, or again where it was begun and not finished; None where nothing waits."""
        with self._lock, self._transaction():
            begun = self._database.execute("SELECT first, last FROM uploads").fetchone()
            if begun is None:
                begun = self._begin(most)
            if begun[0] is None:
                return None
            query = "SELECT row FROM observations WHERE number BETWEEN ? AND ? ORDER BY number"
            rows: Sequence[tuple[str]] = self._database.execute(query, begun).fetchall()
        return Batch(begun[0], begun[1], [json.loads(row) for (row,) in rows])

    def _begin(self, most: int) -> Any:
        query = "SELECT min(number), max(number) FROM (SELECT number FROM observations ORDER BY number LIMIT ?)"
        found = self._database.execute(query, (most,)).fetchone()
        if found[0] is not None:
            self._database.execute("INSERT INTO uploads VALUES (?, ?)", found)
        return found

    def uploaded(self, batch: Batch) -> None:
        """Forget a batch that was handed on."""
        with self._lock, self._transaction():
            self._database.execute("DELETE FROM observations WHERE number BETWEEN ? AND ?", (batch.first, batch.last))
            self._database.execute("DELETE FROM uploads")
        self.waiting()

    def fact(self, name: str) -> float:
        """A number that was noted, 0 where none was."""
        with self._lock:
            found = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return float(found[0]) if found else 0.0

    def note(self, name: str, value: float) -> float:
        """Note a number unless a larger one was; returns what stands."""
        with contextlib.suppress(sqlite3.Error), self._lock:
            query = (
                "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)"
            )
            self._database.execute(query, (name, value))
        return max(value, self.fact(name))

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    @contextlib.contextmanager
    def _transaction(self) -> Any:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
