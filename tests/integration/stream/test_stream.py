"""Events on a real server until they are features: exactly once, right, and at once."""

import json
import random
import stat
import subprocess
import threading
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from streamed.running import Stream, agrees, row
from streamed.workload import DEFINITIONS

from tidegate.features.streaming import LATENESS
from tidegate.ingest.stream_log import KNOWN, StreamSource
from tidegate.targets.processes import free_port, is_free, wait_until
from tidegate.targets.streams import _server


def until_known(stream: Stream) -> datetime:
    """Until when a feeder that was stopped had fed its views."""
    return datetime.fromisoformat(json.loads((stream.state / "stream/flushed.json").read_text())["until"])


def test_an_event_is_online_at_once_and_leaves_its_window_by_itself(stream):
    stream.start()
    stream.publish([row("A", 4), row("A", 8), row("b", 1)])
    assert wait_until(lambda: stream.log.last("spent") == 3, 60, every=0.05), stream.feeder_log()
    assert wait_until(lambda: stream.online("spending", "A") == {"mean": 6.0, "share": 1.0}, 30)
    assert wait_until(lambda: stream.online("latest", "B") == {"last": 1.0}, 30), "the contract's repair was made"
    assert wait_until(lambda: stream.online("everybody") == {"average": None}, 30, every=0.05)
    assert wait_until(lambda: stream.online("spending", "A") == {"mean": None, "share": 0.0}, 30), "b was still there"
    assert stream.online("latest", "A") == {"last": 8.0}
    stream.stop()
    agrees(stream, stream.logged().drop(KNOWN), until_known(stream))


def test_bad_late_early_and_repeated_events_are_each_dealt_with(stream):
    stream.start()
    now, minutes = datetime.now(UTC), LATENESS.total_seconds() / 60
    good = [row("A", 1, id=1), row("A", 2, ago=300, id=2)]
    late = row("A", 3, ago=60 * (minutes + 1), id=3)
    soon = {"id": 4, "event_time": (now + timedelta(seconds=3)).isoformat(), "key": "C", "value": 4}
    bad = [
        row("A", 5, id="five"),
        row("A", 10**12, id=6),
        row("a1", 1, id=7),
        row("A", 1, ago=-3600, id=8),
        {"id": 9},
        row("A", 1, id=10) | {"event_time": "yesterday"},
        row("A", True, id=11),
        row(None, 0.5, id=12),
    ]
    stream.publish([*good, late, soon, *bad])
    stream.publish([dict(good[0])])
    stream.taken(4)
    assert wait_until(lambda: stream.status.get("quarantined") == 8, 30), stream.status
    assert stream.status["late"] == 1
    assert wait_until(lambda: stream.online("latest", "A") == {"last": 1.0}, 30)
    assert wait_until(lambda: stream.online("latest", "C") == {"last": 4.0}, 30)
    assert datetime.now(UTC) >= now + timedelta(seconds=3)
    stream.stop()
    assert sorted(stream.logged()["id"]) == [1, 2, 3, 4]
    aside = pl.concat([pl.read_parquet(path) for path in (stream.state / "stream/quarantine/spent").iterdir()])
    reasons = {json.loads(raw).get("id"): why for raw, why in aside.select("raw", "reasons").iter_rows()}
    assert reasons == {
        "five": "type(id)",
        6: "range(value)",
        7: "pattern(key)",
        8: "not_yet(event_time)",
        9: "null(event_time)",
        10: "type(event_time)",
        11: "type(value)",
        12: "type(value)",
    }
    agrees(stream, stream.logged().filter(pl.col("id") != 3).drop(KNOWN), until_known(stream))


def test_the_log_is_a_source_each_key_once(stream):
    stream.start()
    stream.publish([row("A", 1, ago=3), row("B", 2, ago=5)])
    stream.taken(2)
    source = StreamSource(stream.state / "stream", ("spent",), {"spent": ("id",)})
    assert source.arrivals(datetime.now(UTC))["spent"]["id"].to_list() == [1, 0]
    assert source.arrivals(datetime.now(UTC) - timedelta(seconds=60))["spent"].is_empty()
    parts = list(source.parts())
    assert sum(part.read().height for part in parts) == 2
    assert {part.table for part in parts} == {"spent"}


def test_the_url_has_a_token_that_only_the_owner_reads(stream):
    stream.start()
    for name in ("nats.json", "nats.conf"):
        assert stat.S_IMODE((stream.state / "stream" / name).stat().st_mode) == 0o600
    assert (stream.state / "token").read_text().strip() in stream.url


def test_history_counts_and_a_killed_server_comes_back_with_everything(stream, tmp_path, monkeypatch):
    now = datetime.now(UTC)
    history = pl.DataFrame({"id": [900], "event_time": [now - timedelta(minutes=1)], "key": ["H"], "value": [7]})
    history.write_parquet(tmp_path / "history.parquet")
    monkeypatch.setenv("STREAMED_HISTORY", str(tmp_path / "history.parquet"))
    stream.start()
    stream.publish([row("A", 1)])
    stream.taken(1)
    assert stream.online("latest", "H") == {"last": 7.0}
    before = stream.pid("nats")
    stream.kill("nats")
    assert wait_until(lambda: stream.pid("nats") not in (0, before), 20, every=0.05)
    stream.publish([row("A", 2)])
    stream.taken(2)
    assert sorted(stream.logged()["id"]) == [0, 1]


@pytest.fixture
def external(tmp_path):
    """A server that is not ours, with JetStream; gives its URL."""
    port = free_port()
    words = (_server(), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(tmp_path / "external"))
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: not is_free(port), 30)
        yield f"nats://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(15)


def test_an_external_server_is_used_and_none_of_ours_started(stream, external):
    stream.start(external)
    stream.publish([row("A", 4)])
    stream.taken(1)
    assert wait_until(lambda: stream.online("latest", "A") == {"last": 4.0}, 30, every=0.05)
    assert (stream.url, stream.pid("nats")) == (external, 0)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.soak)])
def test_kill_nine_again_and_again_loses_and_doubles_nothing(stream, kills):
    chance, ended = random.Random(20), threading.Event()
    stream.start()

    def publishing() -> None:
        while not ended.is_set():
            stream.publish([row(chance.choice("ABC"), chance.randint(-9, 9), chance.random() * 3) for _ in range(20)])
            ended.wait(0.05)

    publisher = threading.Thread(target=publishing)
    publisher.start()
    try:
        killed = [kill_once(stream, number, chance) for number in range(kills)]
    finally:
        ended.set()
        publisher.join()
    assert all(killed)
    wanted = {one["id"]: (one["key"], one["value"]) for one in stream.published}
    stream.taken(len(wanted))
    assert wait_until(lambda: stream.status.get("pid") == stream.pid("feeder") and len(wanted) > 100, 30)
    stream.stop()
    logged = stream.logged()
    assert logged.height == len(wanted)
    assert {one: (key, value) for one, key, value in logged.select("id", "key", "value").iter_rows()} == wanted
    late = logged[KNOWN] - logged["event_time"] > LATENESS
    assert not late.any()
    agrees(stream, logged.drop(KNOWN), until_known(stream))


def kill_once(stream: Stream, number: int, chance: random.Random) -> bool:
    """Kill the feeder at random: every other time while it starts, else soon after it took something."""
    assert wait_until(lambda: stream.pid("feeder"), 20), stream.feeder_log()
    if number % 2:
        last = stream.log.last("spent")
        assert wait_until(lambda: stream.log.last("spent") > last, 60, every=0.02), stream.feeder_log()
        pause = chance.random() * 0.6
    else:
        pause = chance.random() * 1.5
    threading.Event().wait(pause)
    pid = stream.pid("feeder")
    stream.kill()
    return bool(pid) and wait_until(lambda: stream.pid("feeder") != pid, 30)


def test_the_definitions_cover_every_kind_of_view():
    assert {type(one).__name__ for one in DEFINITIONS} == {"Latest", "Trailing"}
    assert {one.view.keys for one in DEFINITIONS} == {("key",), ()}


def test_under_the_event_clock_the_newest_event_is_now(stream, tmp_path, monkeypatch):
    began = datetime(2013, 7, 1, tzinfo=UTC)
    history = pl.DataFrame({"id": [900], "event_time": [began - timedelta(seconds=1)], "key": ["A"], "value": [2]})
    history.write_parquet(tmp_path / "history.parquet")
    monkeypatch.setenv("STREAMED_HISTORY", str(tmp_path / "history.parquet"))
    stream.clock = "events"
    stream.start()

    def at(seconds, value):
        return {"event_time": (began + timedelta(seconds=seconds)).isoformat(), "key": "A", "value": value}

    stream.publish([at(0, 4)])
    assert wait_until(lambda: stream.online("spending", "A").get("mean") == 3.0, 20), stream.feeder_log()
    stream.kill()
    stream.publish([at(7.5, 10)])
    assert wait_until(lambda: stream.online("spending", "A").get("mean") == 7.0, 30), "the history had left the window"
    stream.publish([at(2, 1), at(60 - LATENESS.total_seconds(), 5), at(60, 6)])
    assert wait_until(lambda: stream.online("spending", "A").get("mean") == 6.0, 20)
    stream.stop()
    logged = pl.concat([history, stream.logged().drop(KNOWN).select(history.columns)], how="vertical_relaxed")
    agrees(stream, logged, began + timedelta(seconds=60))
