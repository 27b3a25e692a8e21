"""The reader of the online store, held against Feast's own `get_online_features` on a real store."""

from __future__ import annotations

import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.features.asof import INSTANT, TIME, AsofView
from tidegate.features.feast_repo import quick_import
from tidegate.features.online import OnlineReader
from tidegate.features.online_write import let_readers_pass, write_online

with quick_import():
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
    from feast.repo_config import RepoConfig
    from feast.types import Bool, Bytes, Float32, Float64, Int32, Int64, String

NOW = datetime(2026, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)
AT = NOW.timestamp()
KINDS = {"f32": Float32, "f64": Float64, "i32": Int32, "i64": Int64, "text": String, "flag": Bool, "raw": Bytes}
PLANE = AsofView("plane", ("tailnum",), tuple(KINDS), timedelta(hours=2))
ROUTE = AsofView(
    "route", ("origin", "number"), ("delay",), None, entity_keys={"origin": "from"}, rename={"delay": "route_delay"}
)
EVERY = AsofView("every", (), ("mean",), timedelta(days=1))
VIEWS = (PLANE, ROUTE, EVERY)
ENTITIES = {
    "tailnum": Entity(name="tailnum", value_type=ValueType.STRING),
    "origin": Entity(name="origin", value_type=ValueType.STRING),
    "number": Entity(name="number", value_type=ValueType.INT64),
}
POLARS = {
    **{"tailnum": pl.String, "origin": pl.String, "number": pl.Int64, "delay": pl.Float32, "mean": pl.Float32},
    **{"f32": pl.Float32, "f64": pl.Float64, "i32": pl.Int32, "i64": pl.Int64},
    **{"text": pl.String, "flag": pl.Boolean, "raw": pl.Binary},
}
TYPES = {"delay": Float32, "mean": Float32, **KINDS}


def feast_view(view: AsofView, folder: Path) -> FeatureView:
    table = FileSource(
        name=f"{view.name}_table",
        path=str(folder / view.name),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    keys = [Field(name=key, dtype=Int64 if key == "number" else String) for key in view.keys]
    return FeatureView(
        name=view.name,
        entities=[ENTITIES[key] for key in view.keys],
        ttl=view.ttl,
        schema=[*keys, *(Field(name=feature, dtype=TYPES[feature]) for feature in view.features)],
        source=PushSource(name=f"push_{view.name}", batch_source=table),
    )


class Online:
    """A Feast store with our three views, and our reader beside it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "online.db"
        self.store = FeatureStore(
            config=RepoConfig(
                project="p",
                provider="local",
                registry=str(folder / "registry.db"),
                online_store={"type": "sqlite", "path": str(self.path)},
                offline_store={"type": "tidegate.features.AsofOfflineStore"},
                entity_key_serialization_version=3,
            )
        )
        self.store.apply([*ENTITIES.values(), *(feast_view(view, folder) for view in VIEWS)])

    def reader(self) -> OnlineReader:
        return OnlineReader(self.path, "p", VIEWS)

    def push(self, view: AsofView, rows: list[dict], known: datetime = NOW) -> None:
        """What every feeder does."""
        told = [{TIME: NOW, "created": known, **row} for row in rows]
        types = {name: POLARS[name] for name in (*view.keys, *view.features)}
        write_online(self.store, view, pl.DataFrame(told, {**types, TIME: INSTANT, "created": INSTANT}), known)


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Online:
    found = Online(tmp_path_factory.mktemp("online"))
    full = {"f32": 0.1, "f64": 0.1, "i32": -5, "i64": 2**40, "text": "é", "flag": True, "raw": b"\x00\xff"}
    found.push(PLANE, [{"tailnum": "N1", **full}, {"tailnum": "N2", **dict.fromkeys(KINDS)}])
    found.push(ROUTE, [{"origin": "JFK", "number": 7, "delay": 2.5}, {"origin": "JFK", "number": -1, "delay": None}])
    found.push(EVERY, [{"mean": 1.25}])
    return found


def feasts_own(online: Online, rows: list[dict]) -> list[dict]:
    """`get_online_features` for the same rows, one view a time, under our names."""
    asked = [{"tailnum": row["tailnum"], "origin": row["from"], "number": row["number"]} for row in rows]
    names = [f"{view.name}:{feature}" for view in VIEWS for feature in view.features]
    found = online.store.get_online_features(names, asked).to_dict()
    outputs = [(feature, view.rename.get(feature, feature)) for view in VIEWS for feature in view.features]
    return [{output: found[name][index] for name, output in outputs} for index in range(len(rows))]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "tailnum": st.sampled_from(["N1", "N2", "unseen", ""]),
            "from": st.sampled_from(["JFK", "LGA"]),
            "number": st.sampled_from([7, -1, 0]),
        }
    ),
    min_size=1,
    max_size=12,
)


@given(ROWS)
@settings(max_examples=50, deadline=None)
def test_values_are_those_of_get_online_features(online: Online, rows: list[dict]) -> None:
    found = online.reader().read(rows, AT)
    assert found.values == feasts_own(online, rows)
    assert found.known == [AT, AT, AT]


def test_one_read_of_many_keys_equals_many_reads(online: Online) -> None:
    reader = online.reader()
    rows: list[Any] = [{"tailnum": f"N{i % 3}", "from": "JFK", "number": 7 - 8 * (i % 2)} for i in range(1000)]
    whole = reader.read(rows, AT)
    assert whole.values == [reader.read([row], AT).values[0] for row in rows]


def test_a_null_key_matches_nothing(online: Online) -> None:
    (row,) = online.reader().read([{"tailnum": None, "from": "JFK", "number": None}], AT).values
    assert row["f32"] is None
    assert row["route_delay"] is None
    assert row["mean"] == 1.25


def test_the_time_to_live_counts_from_the_requests_time_and_both_ends_are_in_it(online: Online) -> None:
    reader, row = online.reader(), {"tailnum": "N1", "from": "JFK", "number": 7}
    seconds = float(int(AT))  # the store keeps whole seconds
    last = reader.read([row], seconds + 7200).values[0]
    gone = reader.read([row], seconds + 7200.001).values[0]
    assert (last["text"], gone["text"]) == ("é", None)
    assert gone["route_delay"] == 2.5  # no time to live
    # Feast 0.67 answers a value of any age online; point-in-time joins do not, and a model must see the same in both.
    old = feasts_own(online, [row])[0]
    assert old["text"] == "é"


def test_known_is_the_heartbeat_of_each_view(online: Online, tmp_path: Path) -> None:
    fresh = Online(tmp_path)
    reader, row = fresh.reader(), {"tailnum": "N1", "from": "JFK", "number": 7}
    assert reader.read([row], AT).known == [0.0, 0.0, 0.0]
    later = NOW + timedelta(microseconds=750_001)
    fresh.push(PLANE, [{"tailnum": "N9", "f32": 1.0, "text": "", "flag": True}], later)
    fresh.push(EVERY, [{"mean": None}], NOW)
    known = reader.read([row], AT).known
    assert known == [later.timestamp(), 0.0, AT]
    assert known[0] is not None
    assert round(known[0] * 1e6) % 1_000_000 == 1


def test_what_is_not_there_is_nothing_known_and_is_seen_once_it_appears(tmp_path: Path) -> None:
    reader = OnlineReader(tmp_path / "later" / "online.db", "p", VIEWS)
    row = {"tailnum": "N1", "from": "JFK", "number": 7}
    assert reader.read([row], AT).known == [None, None, None]
    (tmp_path / "later").mkdir()
    sqlite3.connect(reader._path).execute("CREATE TABLE other(a)").connection.close()
    absent = reader.read([row], AT)
    assert absent.known == [None, None, None]
    assert set(absent.values[0].values()) == {None}
    assert reader.failures == 0
    reader._path.unlink()
    online = Online(tmp_path / "later")
    online.push(EVERY, [{"mean": 3.0}])
    assert reader.read([row], AT).values[0]["mean"] == 3.0


def test_a_damaged_value_is_that_views_null_and_counted(tmp_path: Path) -> None:
    online = Online(tmp_path)
    online.push(PLANE, [{"tailnum": "N1", "f32": 1.0, "text": "", "flag": True}])
    online.push(EVERY, [{"mean": 3.0}])
    with sqlite3.connect(online.path) as raw:
        raw.execute("UPDATE p_plane SET value = x'35ff' WHERE feature_name = 'f32'")
    raw.close()
    reader = online.reader()
    found = reader.read([{"tailnum": "N1", "from": "JFK", "number": 7}], AT)
    assert found.values[0]["f32"] is found.values[0]["text"] is None
    assert found.values[0]["mean"] == 3.0
    assert found.known[0] is None
    assert reader.failures == 1


def test_a_file_that_is_no_database_is_nothing_known_and_counted(tmp_path: Path) -> None:
    (tmp_path / "online.db").write_bytes(b"no database at all" * 1000)
    reader = OnlineReader(tmp_path / "online.db", "p", VIEWS)
    assert reader.read([{"tailnum": "N1", "from": "JFK", "number": 7}], AT).known == [None, None, None]
    assert reader.failures == 3


@pytest.mark.parametrize("wal", [True, False])
def test_readers_and_a_writer_do_not_stop_each_other(tmp_path: Path, wal: bool) -> None:
    online = Online(tmp_path)
    if wal:
        let_readers_pass(online.path)
    stop, faults, reads = threading.Event(), list[str](), [0]

    def read() -> None:
        reader = online.reader()
        while not stop.is_set():
            found = reader.read([{"tailnum": "N1", "from": "JFK", "number": 7}], AT)
            number, text = found.values[0]["i64"], found.values[0]["text"]
            if reader.failures or (number is not None and text != str(number)):
                faults.append(f"{reader.failures} failures, {number} and {text}")
                return
            reads[0] += 1

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(40):  # a push is one transaction: a reader never sees half of it
        online.push(PLANE, [{"tailnum": "N1", "f32": 1.0, "flag": True, "i64": number, "text": str(number)}])
    deadline = time.monotonic() + 10
    while reads[0] < 10 and not faults and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join()
    assert faults == []
    assert reads[0] >= 10


def test_a_lock_held_by_a_writer_for_too_long_is_counted_and_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.features.online.BUSY_SECONDS", 0.05)
    online = Online(tmp_path)
    online.push(EVERY, [{"mean": 3.0}])
    reader, row = online.reader(), {"tailnum": "N1", "from": "JFK", "number": 7}
    writer = sqlite3.connect(online.path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    assert reader.read([row], AT).known == [None, None, None]
    assert reader.failures == 3
    writer.execute("COMMIT")
    assert reader.read([row], AT).values[0]["mean"] == 3.0
    writer.close()
