"""Precomputed predictions by key: written by the scheduled batch, read by ``GET /lookup/{key}`` in microseconds.

One SQLite file ``STATE/batch/lookup.db`` whatever the batch's own output is, so that a service needs no database of
the user's. A key is the values of the key columns with a comma between them. Does I/O.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from tidegate.errors import PlatformError
from tidegate.serve.http import Answer, Receive, Scope, refuse
from tidegate.serve.openapi import Operation

if TYPE_CHECKING:
    from tidegate.serve.prediction_log import Heard
    from tidegate.serve.scoring import Scorer

_TABLES = """
CREATE TABLE IF NOT EXISTS runs (run INTEGER PRIMARY KEY, model TEXT, digest TEXT, at REAL, UNIQUE (model, digest, at));
CREATE TABLE IF NOT EXISTS predictions (key TEXT PRIMARY KEY, score REAL, run INTEGER) WITHOUT ROWID;
"""
_FOUND = "SELECT score, model, digest, at FROM predictions JOIN runs USING (run) WHERE key = ?"


def lookup_file(state: Path) -> Path:
    """Where a state folder keeps them."""
    return state / "batch" / "lookup.db"


class LookupWriter:
    """Takes the predictions of one run in; a key that is there already gets the newer score.

    `save` after a partition makes its rows whole; the same rows may come again. `finish` forgets those of other runs.
    """

    def __init__(self, path: Path, model: str, digest: str, at: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _told(path):
            self._path, self._db = path, sqlite3.connect(path, timeout=60, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(_TABLES)
            self._db.execute("INSERT OR IGNORE INTO runs (model, digest, at) VALUES (?, ?, ?)", (model, digest, at))
            found = self._db.execute("SELECT run FROM runs WHERE (model, digest, at) = (?, ?, ?)", (model, digest, at))
            self._run = found.fetchone()[0]
            self._db.commit()

    def add(self, keys: Iterable[Sequence[Any]], scores: Iterable[float]) -> None:
        """Rows, each with the values of its key columns."""
        rows = ((text_of(key), score, self._run) for key, score in zip(keys, scores, strict=True))
        with _told(self._path):
            self._db.executemany("INSERT OR REPLACE INTO predictions VALUES (?, ?, ?)", rows)

    def save(self) -> None:
        """Everything taken so far can be read."""
        with _told(self._path):
            self._db.commit()

    def finish(self) -> None:
        """The run is whole: what it did not predict is forgotten."""
        with _told(self._path):
            self._db.execute("DELETE FROM predictions WHERE run <> ?", (self._run,))
            self._db.execute("DELETE FROM runs WHERE run <> ?", (self._run,))
            self._db.commit()
            self._db.close()


class Lookup:
    """Reads them while they are written; one connection a thread, opened when the first batch has made the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = threading.local()

    def find(self, key: str, now: float) -> Precomputed | None:
        """The newest prediction of a key, as of `now`; None where no run has predicted it."""
        db = getattr(self._own, "db", None) or self._open()
        with _told(self._path):
            found = db.execute(_FOUND, (key,)).fetchone() if db else None
        if found is None:
            return None
        score, model, digest, at = found
        return Precomputed(key, score, model, digest, at, max(0.0, round(now - at, 3)))

    def _open(self) -> sqlite3.Connection | None:
        with contextlib.suppress(sqlite3.OperationalError):  # no file, or no table in it yet
            db = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True, timeout=1)
            db.execute(_FOUND, ("",))
            self._own.db = db
            return db
        return None


class Precomputed(msgspec.Struct):
    """A prediction that a batch made: by which model, at which time (seconds since the epoch), how long ago."""

    key: str
    score: float
    model: str
    digest: str
    at: float
    age_seconds: float


class LookupRoute:
    """``GET /lookup/{key}``."""

    operation = Operation(
        "/lookup/{key}", "GET", "A prediction that the scheduled batch made", Precomputed,
        refusals={400: "No time was announced yet", 404: "No such key", 405: "Not GET", 500: "Unreadable"},
    )  # fmt: skip

    def __init__(self, scorer: Scorer, path: Path) -> None:
        self._scorer, self._lookup = scorer, Lookup(path)

    async def __call__(self, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        """The route."""
        key = scope["path_params"]["key"]
        found = self._lookup.find(key, self._scorer.time(None))
        if found is None:
            return refuse(404, f"key: got {key[:200]!r}, takes a key that the last scheduled batch has predicted")
        return Answer(200, msgspec.json.encode(found))


def text_of(key: Sequence[Any]) -> str:
    """The values with a comma between them; null is empty."""
    return ",".join("" if value is None else str(value) for value in key)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise PlatformError(f"{path}: {error}") from None
