"""Rows on their way offline: kept until enough time has passed, then pushed view by view. Does I/O.

What is being pushed is said before, and what was pushed after: ``flushing.json`` and ``flushed.json`` name the time of
the last batch that is meant. Killed in between, the same rows are made again from the log, make the same files (a file
is named by its content), and so are there once. Moments at which time alone changed something are kept until then as
files of ``ticks``, so that a log read again changes the same rows at the same times.
"""

from __future__ import annotations

import json
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from tidegate.features.windows import CREATED
from tidegate.ingest.disk import to_disk
from tidegate.ingest.stream_log import StreamLog
from tidegate.targets.processes import write_atomically

if TYPE_CHECKING:
    from feast import FeatureStore

EVERY, ROWS = timedelta(seconds=10), 100_000
"""Changed rows go offline that often, or when there are so many."""

START = datetime.fromtimestamp(0, UTC)


class Outgoing:
    """The changed rows that are not offline yet. `folder`: ``STATE/stream``; `views`, `tables`: all names."""

    def __init__(self, store: FeatureStore, folder: Path, views: Iterable[str], tables: Iterable[str]) -> None:
        self._store, self._folder, self._log, self._tables = store, folder, StreamLog(folder), tuple(tables)
        self._rows: dict[str, list[pl.DataFrame]] = {name: [] for name in views}
        self._steps: deque[Callable[[], None]] = deque()
        (folder / "ticks").mkdir(parents=True, exist_ok=True)
        self.flushed = _time_in(folder / "flushed.json")
        self.begun = _time_in(folder / "flushing.json")

    def add(self, changed: Mapping[str, pl.DataFrame], known: datetime) -> None:
        """Keep rows that the batch of that time changed."""
        for name, rows in changed.items():
            self._rows[name].append(created(rows, known))

    def note_tick(self, known: datetime) -> None:
        """Time alone changed something: say so durably before anybody sees it."""
        (self._folder / "ticks" / f"{(known - START) // timedelta(microseconds=1)}").touch()
        to_disk(self._folder / "ticks")

    def ticks(self) -> list[datetime]:
        """The noted moments that may not be offline yet."""
        return sorted(_tick_time(path) for path in (self._folder / "ticks").iterdir())

    def step(self, known: datetime) -> None:
        """A little of the work, so that no batch waits for the whole: one view is pushed, one table's log merged."""
        if self._steps:
            self._steps.popleft()()
        elif (waiting := sum(rows.height for parts in self._rows.values() for rows in parts)) and (
            waiting > ROWS or known - self.flushed > EVERY
        ):
            self._plan(known)

    def flush(self, until: datetime) -> None:
        """Everything, now: what was kept is of batches up to that time."""
        self._run()
        self._plan(until)
        self._run()

    def _run(self) -> None:
        while self._steps:
            self._steps.popleft()()

    def _plan(self, until: datetime) -> None:
        _say_time(self._folder / "flushing.json", until)
        taken = {name: pl.concat(parts) for name, parts in self._rows.items() if parts}
        for name in taken:
            self._rows[name] = []
        for name, rows in taken.items():
            self._steps.append(lambda name=name, rows=rows: self._push(name, rows))  # type: ignore[misc]
        self._steps.append(lambda: self._end(until))
        for table in self._tables:
            self._steps.append(lambda table=table: self._log.merge(table, until))  # type: ignore[misc]

    def _push(self, name: str, rows: pl.DataFrame) -> None:
        from feast.data_source import PushMode

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._store.push(f"push_{name}", rows.to_pandas(), to=PushMode.OFFLINE)

    def _end(self, until: datetime) -> None:
        _say_time(self._folder / "flushed.json", until)
        self.flushed = until
        for path in (self._folder / "ticks").iterdir():
            if _tick_time(path) <= until:
                path.unlink()


def created(rows: pl.DataFrame, known: datetime) -> pl.DataFrame:
    """The rows as made at that time."""
    return rows.with_columns(pl.lit(known).cast(pl.Datetime("us", "UTC")).alias(CREATED))


def _tick_time(path: Path) -> datetime:
    return START + timedelta(microseconds=int(path.name))


def _say_time(path: Path, until: datetime) -> None:
    write_atomically(path, json.dumps({"until": until.isoformat()}).encode())


def _time_in(path: Path) -> datetime:
    return datetime.fromisoformat(json.loads(path.read_text())["until"]) if path.exists() else START
