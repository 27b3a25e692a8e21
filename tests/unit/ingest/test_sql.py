"""Tables and queries of a real SQLite database: months as pieces, late rows, mixed types, faults in one line."""

import json
import sqlite3
from datetime import UTC, datetime

import polars as pl
import pytest
from readings import NAME

from tidegate.errors import UserError
from tidegate.ingest.disk import read_manifest
from tidegate.ingest.sql import Sql
from tidegate.ingest.step import ingest

UNTIL = "2024-06-01"
ROWS = [
    ("a", "2024-01-01 00:00:00", 1, 0.5, "x"),
    ("a", "2024-01-31 23:59:59.5", 2, None, None),
    ("b", "2024-02-01 00:00:00+00:00", 3, 2.5, "z"),
]


@pytest.fixture
def database(tmp_path, monkeypatch):
    path = tmp_path / "rows.db"
    monkeypatch.setenv("READINGS", json.dumps({"sql": [f"sqlite:///{path}", {"readings": "readings"}]}))
    with sqlite3.connect(path) as made:
        made.execute("create table readings (sensor text, event_time text, number integer, value real, note text)")
    add(path, *ROWS)
    return path


def add(path, *rows):
    connection = sqlite3.connect(path)
    with connection:
        connection.executemany("insert into readings values (?, ?, ?, ?, ?)", rows)
    connection.close()


def taken(out):
    return pl.concat([pl.read_parquet(out / part.path) for part in read_manifest(out).tables["readings"]]).rows()


def test_months_are_pieces_and_a_late_row_costs_its_month_alone(database, tmp_path):
    assert ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state").parts == 2
    assert ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state").parts == 0
    add(database, ("c", "2024-01-15", 4, 1.0, "late"))
    record = ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    assert (record.parts, record.rows, record.duplicates) == (1, 4, 0)
    assert [row[0] for row in taken(tmp_path / "out")] == ["a", "c", "a", "b"]
    assert taken(tmp_path / "out")[2] == ("a", datetime(2024, 1, 31, 23, 59, 59, 500_000, tzinfo=UTC), 2, None, None)


def test_a_query_may_choose_and_rename(database, tmp_path, monkeypatch):
    query = "select sensor || '!' as sensor, event_time, number, value, note from readings where number < 3"
    monkeypatch.setenv("READINGS", json.dumps({"sql": [f"sqlite:///{database}", {"readings": query}]}))
    ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    assert [row[0] for row in taken(tmp_path / "out")] == ["a!", "a!"]


def test_values_of_a_wrong_type_cost_their_rows(database, tmp_path):
    poisoned = [
        ("d", "2024-03-01", "many", 1.0, None),
        ("e", "2024-03-02", 5, b"\xff\xfe", None),
        ("f", None, 6, 1.0, None),
        ("g", "not a time", 7, 1.0, None),
        ("h", "2024-03-03", 10**12, 1.0, None),
    ]
    add(database, *poisoned)
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("insert into readings values ('i', '2024-03-04', 8, 1.0, cast(x'636166e9' as text))")
    connection.close()
    record = ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    assert [row[0] for row in taken(tmp_path / "out")] == ["a", "a", "b", "h"]
    said = {(one["check"], one["column"]) for one in json.loads((tmp_path / "out" / "rejected.json").read_text())}
    types = {("type", "number"), ("type", "value"), ("type", "event_time")}
    assert said == types | {("null", "event_time"), ("encoding", "note")}
    assert record.rejected == 5


@pytest.mark.parametrize(
    ("url", "query"),
    [
        ("sqlite:///{path}", "absent"),
        ("sqlite:///{path}", "select sensor from readings"),
        ("sqlite:///{path}", "drop table readings"),
        ("nodialect://someone:secret@host/db", "readings"),  # pragma: allowlist secret
        ("no url", "readings"),
    ],
)
def test_a_database_that_refuses_is_one_line_without_a_password(database, url, query):
    with pytest.raises(UserError, match="SQL source") as caught:
        list(Sql(url.format(path=database), {"readings": query}).parts())
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(list(Sql(f"sqlite:///{database}", {"readings": "readings"}).parts())) == 2
