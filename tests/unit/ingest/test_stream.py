"""Events into rows of the contract, and the raw log of them."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from tidegate.errors import PlatformError, UserError
from tidegate.ingest import stream_log
from tidegate.ingest.stream import Event, contract_tables, message_id, publish, take
from tidegate.ingest.stream_log import KNOWN, StreamLog, StreamSource
from tidegate.validate.contract import Column, Repair, TableContract

NOW = datetime(2013, 7, 1, tzinfo=UTC)
TABLE = TableContract(
    (
        Column("id", "integer"),
        Column("event_time", "time"),
        Column("name", "text", nullable=True, pattern="[a-z]+"),
        Column("size", "number", nullable=True, low=0, high=10),
    ),
    key=("id",),
    repairs=(Repair("lower", "name", lambda: pl.col("name").str.to_lowercase()),),
)


def event(number, **values):
    row = {"id": number, "event_time": "2013-06-30T23:00:00+00:00", "name": "a", "size": 1} | values
    return Event(number, json.dumps(row).encode())


def reasons(*events):
    return dict(take(events, TABLE, NOW).aside.select("sequence", "reasons").iter_rows())


def test_events_become_rows_of_the_contract():
    taken = take(
        [event(1, name="UP"), event(2, event_time="2013-06-30T20:00:00.5-03:00", size=2.5, more=1)], TABLE, NOW
    )
    assert taken.aside.is_empty()
    assert taken.rows.columns == ["id", "event_time", "name", "size"]
    assert taken.rows.rows() == [
        (1, NOW - timedelta(hours=1), "up", 1.0),
        (2, NOW - timedelta(hours=1) + timedelta(milliseconds=500), "a", 2.5),
    ]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"id": "1"}, "type(id)"),
        ({"id": True}, "type(id)"),
        ({"id": 2**63}, "type(id)"),
        ({"size": "big"}, "type(size)"),
        ({"size": 11}, "range(size)"),
        ({"size": 2**70}, "type(size)"),
        ({"name": ["a"]}, "type(name)"),
        ({"name": "a1"}, "pattern(name)"),
        ({"event_time": None}, "null(event_time)"),
        ({"event_time": "2013-07-01T00:00:01Z"}, "not_yet(event_time)"),
        ({"event_time": "noon"}, "type(event_time)"),
        ({"name": 1, "size": "x"}, "type(name), type(size)"),
    ],
)
def test_an_event_that_breaks_the_contract_is_put_aside_and_no_other(values, why):
    events = [event(1), event(2, **values), event(3)]
    assert reasons(*events) == {2: why}
    assert take(events, TABLE, NOW).rows["id"].to_list() == [1, 3]
    assert take(events, TABLE, NOW).aside["raw"].to_list() == [events[1].body]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b'{"size": NaN}', b'{"name": "\xff"}'])
def test_what_is_no_json_object_is_put_aside_raw(body):
    assert reasons(event(1), Event(2, body)) == {2: "undecodable"}


def test_no_events_are_no_rows():
    taken = take([], TABLE, NOW)
    assert taken.rows.is_empty()
    assert taken.aside.is_empty()


def test_rows_of_two_tables_with_one_key_have_two_message_ids():
    row = {"a": 1, "b": "x", "c": 2}
    assert message_id("one", row, ("a", "b")) == "one|1|x"
    assert message_id("two", row, ("a", "b")) != message_id("one", row, ("a", "b"))


def test_a_stream_without_a_contract_is_named():
    assert list(contract_tables({"a": TABLE, "b": TABLE}, ("b",))) == ["b"]
    with pytest.raises(PlatformError, match="no contract for the table c"):
        contract_tables({"a": TABLE}, ("a", "c"))


def test_a_server_that_does_not_answer_is_one_line_without_its_token():
    with pytest.raises(UserError, match=r"--nats nats://127\.0\.0\.1:9") as raised:
        publish("nats://secret@127.0.0.1:9", "m", "t", [], ("id",))
    assert "secret" not in str(raised.value)


def rows(first, count, known):
    ids = list(range(first, first + count))
    return pl.DataFrame({"id": ids, "event_time": [NOW - timedelta(minutes=i) for i in ids]}).with_columns(
        pl.lit(NOW + timedelta(seconds=known)).cast(pl.Datetime("us", "UTC")).alias(KNOWN)
    )


def test_the_log_gives_back_what_was_appended_in_order(tmp_path):
    log = StreamLog(tmp_path)
    assert (log.last("t"), log.rows("t"), log.pieces("t")) == (0, None, [])
    log.append("t", 5, 9, rows(5, 3, 0))
    log.append("t", 12, 12, rows(12, 1, 1))
    assert log.last("t") == 12
    assert log.rows("t")["id"].to_list() == [5, 6, 7, 12]
    assert log.rows("t", NOW)["id"].to_list() == [12]


def test_a_torn_file_of_a_killed_writer_is_not_read(tmp_path):
    log = StreamLog(tmp_path)
    log.append("t", 1, 2, rows(1, 2, 0))
    (tmp_path / "t" / ".000000000000003-000000000000004.parquet.new").write_bytes(b"PAR1 torn")
    assert log.last("t") == 2
    assert log.rows("t").height == 2
    log.append("t", 3, 4, rows(3, 2, 1))
    assert log.rows("t")["id"].to_list() == [1, 2, 3, 4]


def test_small_files_are_merged_and_a_merge_that_was_killed_doubles_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(stream_log, "FILES", 4)
    log = StreamLog(tmp_path)
    for number in range(1, 7):
        log.append("t", number, number, rows(number, 1, number))
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "t", kept)
    log.merge("t", NOW + timedelta(seconds=5))
    assert [(piece.first, piece.last) for piece in log.pieces("t")] == [(1, 5), (6, 6)]
    for path in kept.iterdir():  # as if it had been killed before it removed what it merged
        shutil.copy(path, tmp_path / "t")
    assert log.rows("t")["id"].to_list() == [1, 2, 3, 4, 5, 6]
    assert log.last("t") == 6


def test_few_or_large_files_are_left_alone(tmp_path, monkeypatch):
    log = StreamLog(tmp_path)
    for number in range(1, 6):
        log.append("t", number, number, rows(number, 1, number))
    before = log.pieces("t")
    log.merge("t", NOW + timedelta(hours=1))
    assert log.pieces("t") == before
    monkeypatch.setattr(stream_log, "FILES", 3)
    monkeypatch.setattr(stream_log, "ROWS", 1)
    log.merge("t", NOW + timedelta(hours=1))
    assert log.pieces("t") == before


def test_the_log_as_a_source_gives_each_key_once_in_order(tmp_path):
    log = StreamLog(tmp_path)
    log.append("t", 1, 3, rows(1, 3, 0))
    log.append("t", 4, 4, rows(3, 1, 1))
    source = StreamSource(tmp_path, ("t", "u"), {"t": ("id",), "u": ("id",)})
    found = source.arrivals(NOW - timedelta(minutes=1.5))
    assert {name: table["id"].to_list() for name, table in found.items()} == {"t": [3, 2]}
    assert [(part.table, part.token, part.read().columns) for part in source.parts()] == [
        ("t", "1-3", ["id", "event_time"]),
        ("t", "4-4", ["id", "event_time"]),
    ]
