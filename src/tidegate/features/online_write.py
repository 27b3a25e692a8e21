"""Writes rows of a view into Feast's online store, with the heartbeat that says until when it was fed. Does I/O.

Feast's `push` drops a frame whose values are all null and puts a keyless view's row where `get_online_features` does
not look for it; so rows go to the online store by the provider's `ingest_df`, as `materialize` sends them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from tidegate.features.asof import AsofView
from tidegate.features.windows import CREATED
from tidegate.features.wire import HEARTBEAT, HEARTBEAT_NUMBER, NO_KEYS, entity_key, heartbeat_times

if TYPE_CHECKING:
    from feast import FeatureStore

_BLANK = {pl.String: "", pl.Binary: b"", pl.Boolean: False}


def write_online(store: FeatureStore, view: AsofView, rows: pl.DataFrame, known: datetime) -> None:
    """Write `rows`, one a key (keys, event time, features, ``created``), and the heartbeat `known` at once.

    Feast's SQLite store does it in one transaction, so that whoever reads sees both or neither.
    """
    target = store._get_feature_view(view.name, hide_dummy_entity=False, allow_registry_cache=True)
    keyed = rows if view.keys else rows.with_columns(pl.lit("").alias(name) for name in NO_KEYS)
    frame = pl.concat([keyed, _heartbeat(view, keyed, known)])
    store._get_provider().ingest_df(target, frame.to_pandas())


def _heartbeat(view: AsofView, like: pl.DataFrame, known: datetime) -> pl.DataFrame:
    """The heartbeat's row in the columns of `like`."""
    event, created = heartbeat_times(known)
    row: dict[str, object] = {name: _BLANK.get(kind, 0) for name, kind in like.schema.items()}  # type: ignore[call-overload]
    for name in view.keys or NO_KEYS:
        row[name] = HEARTBEAT_NUMBER if like.schema[name].is_integer() else HEARTBEAT
    row |= {view.timestamp: event, CREATED: created}
    return pl.DataFrame([row], like.schema)


def let_readers_pass(path: Path) -> None:
    """Set the database's journal to a write-ahead log, once and for all who open it: readers never wait for writers."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def newer_than_stored(path: Path, project: str, view: AsofView, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows, one a key, that are newer than what the online store at `path` holds of their key.

    Newer by event time, then by ``created``, both in whole seconds, as the store keeps them.
    """
    table = f"{project}_{view.name}".replace('"', '""')
    query = f'SELECT entity_key, MAX(event_ts), MAX(created_ts) FROM "{table}" GROUP BY entity_key'  # noqa: S608
    with contextlib.closing(sqlite3.connect(path)) as connection:
        stored = {key: (event, made or 0) for key, event, made in connection.execute(query)}
    names = view.keys or NO_KEYS
    keys = rows.select(view.keys).rows() if view.keys else [("",)] * rows.height
    times = rows.select(pl.col(view.timestamp, CREATED).dt.epoch("s")).rows()
    newer = [pair > stored.get(entity_key(names, key), _NEVER) for key, pair in zip(keys, times, strict=True)]
    return rows.filter(pl.Series(newer, dtype=pl.Boolean))


_NEVER = (-(2**63), 0)
