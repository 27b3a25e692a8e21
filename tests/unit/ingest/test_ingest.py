"""Ingest: what had arrived by a time, in partitions whose bytes do not change once their month has passed."""

import hashlib
import json

import polars as pl
import pytest

from tidegate.errors import PlatformError, UserError
from tidegate.ingest import disk
from tidegate.ingest.arrivals import Manifest, Partition, by_partition, format_time, parse_manifest, parse_until
from tidegate.ingest.step import ingest

FLIGHTS = "flights.workload:flight_delay"


def test_rows_arrive_by_their_event_time(tmp_path):
    record = ingest(FLIGHTS, "2013-01-05", tmp_path / "arrivals")
    manifest = json.loads((tmp_path / "arrivals" / "manifest.json").read_text())
    assert manifest["until"] == record.until == "2013-01-05T00:00:00Z"
    for name, table in manifest["tables"].items():
        rows = pl.concat([pl.read_parquet(tmp_path / "arrivals" / p["path"]) for p in table["partitions"]])
        assert rows.height == table["rows"] == record.tables[name] > 0
        assert rows["event_time"].is_sorted()
        assert rows["event_time"].max() <= parse_until("2013-01-05")
    assert record.rows == sum(record.tables.values())


def test_the_same_ingest_gives_the_same_bytes_and_a_passed_month_keeps_its_own(tmp_path):
    for name, until in (("a", "2013-02-03"), ("b", "2013-02-03"), ("c", "2013-02-05")):
        ingest(FLIGHTS, until, tmp_path / name)
    a, b, c = (_digests(tmp_path / name) for name in "abc")
    assert a == b
    assert a["flights/2013-01.parquet"] == c["flights/2013-01.parquet"]
    assert a["flights/2013-02.parquet"] != c["flights/2013-02.parquet"]


def test_the_manifest_tells_each_partitions_digest(tmp_path):
    ingest(FLIGHTS, "2013-01-03", tmp_path / "arrivals")
    manifest = disk.read_manifest(tmp_path / "arrivals")
    for parts in manifest.tables.values():
        for part in parts:
            content = (tmp_path / "arrivals" / part.path).read_bytes()
            assert part.sha256 == hashlib.sha256(content).hexdigest()


def test_an_ingest_takes_the_place_of_an_older_one_and_leaves_nothing_beside_it(tmp_path):
    ingest(FLIGHTS, "2013-02-02", tmp_path / "arrivals")
    ingest(FLIGHTS, "2013-01-03", tmp_path / "arrivals")
    assert not (tmp_path / "arrivals" / "flights" / "2013-02.parquet").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["arrivals"]


def test_a_failure_half_way_leaves_what_was_there(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    for fail in (_fail_in_folder, _fail_in_file):
        with pytest.raises(RuntimeError):
            fail(tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]
    assert (tmp_path / "out" / "old").read_text() == "old"


def test_what_the_disk_refuses_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match="cannot be written") as caught:
        ingest(FLIGHTS, "2013-01-02", tmp_path / "file" / "arrivals")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2013-07-01", "2013-07-01T00:00:00Z"),
        ("2013-07-01T00:00:00Z", "2013-07-01T00:00:00Z"),
        ("2013-07-01T02:00:00+02:00", "2013-07-01T00:00:00Z"),
        ("2013-07-01T00:00:00.5", "2013-07-01T00:00:00.500000Z"),
    ],
)
def test_times_are_utc(text, time):
    assert format_time(parse_until(text)) == time


def test_a_wrong_time_is_the_users_fault(tmp_path):
    with pytest.raises(UserError, match="until"):
        ingest(FLIGHTS, "next monday", tmp_path / "arrivals")
    assert not list(tmp_path.iterdir())


def test_months_are_in_order_and_keep_the_rows_order():
    times = ["2013-02-01", "2013-01-31", "2013-02-02"]
    table = pl.DataFrame({"event_time": times, "n": [0, 1, 2]}).with_columns(
        pl.col("event_time").str.to_datetime(time_unit="us", time_zone="UTC")
    )
    parts = by_partition(table, "month")
    assert [(month, part["n"].to_list()) for month, part in parts] == [("2013-01", [1]), ("2013-02", [0, 2])]


def test_a_manifest_reads_back():
    manifest = Manifest("w:x", "2013-01-01T00:00:00Z", {"t": (Partition("t/2013-01.parquet", 3, "ab"),), "u": ()})
    assert parse_manifest(manifest.dump(), "m") == manifest
    assert manifest.rows == 3
    for text in ("", "[]", "{}", '{"workload":"w","until":"u","tables":{"t":{}}}'):
        with pytest.raises(UserError, match="m: got"):
            parse_manifest(text, "m")


def _fail_in_folder(out):
    with disk.atomic_folder(out) as folder:
        (folder / "new").write_text("new")
        raise RuntimeError


def _fail_in_file(out):
    with disk.atomic_file(out / "old") as made:
        made.write_text("new")
        raise RuntimeError


def _digests(folder):
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.*")}
