"""Parquet sources: what is part of one, what is read of it, and batches that appear whole or not at all."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from tidegate.errors import UserError
from tidegate.features.asof import AsofView
from tidegate.features.memory import decoded_bytes
from tidegate.features.opened import opened_view
from tidegate.features.parquet_source import collect, open_source, rows_in, scan
from tidegate.features.parquet_write import add_part, add_to_file

START = datetime(2013, 1, 1, tzinfo=UTC)


def rows(low, high, **columns):
    days = list(range(low, high))
    times = pl.Series("at", [START + timedelta(days=day) for day in days], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"n": days}, schema={"n": pl.Int64}).with_columns(times, **columns)


def read(source):
    return collect([scan(source)], source.url)[0]


def test_a_folder_is_its_parquet_files_and_nothing_hidden(tmp_path):
    rows(0, 2).write_parquet(tmp_path / "b.parquet")
    (tmp_path / "deep").mkdir()
    rows(2, 3).write_parquet(tmp_path / "deep" / "a.parquet")
    for name in (".b.parquet", "_b.parquet", "b.txt"):
        (tmp_path / name).write_text("no Parquet")
    (tmp_path / ".making").mkdir()
    (tmp_path / ".making" / "c.parquet").write_text("half a file")
    source = open_source(str(tmp_path))
    assert [part[len(str(tmp_path)) :] for part in source.parts()] == ["/b.parquet", "/deep/a.parquet"]
    assert read(source)["n"].to_list() == [0, 1, 2]
    assert rows_in(source) == 3


def test_files_of_older_types_and_columns_are_read_together(tmp_path):
    rows(0, 1).with_columns(pl.col("n").cast(pl.Int32), pl.col("at").cast(pl.Datetime("ms", "UTC"))).write_parquet(
        tmp_path / "1.parquet"
    )
    rows(1, 3).write_parquet(tmp_path / "2.parquet")
    rows(3, 4, more=pl.lit("x")).write_parquet(tmp_path / "3.parquet")
    found = read(open_source(str(tmp_path)))
    assert found["n"].to_list() == [0, 1, 2, 3]
    assert found["more"].to_list() == [None, None, None, "x"]
    assert found["at"].dt.convert_time_zone("UTC").dt.day().to_list() == [1, 2, 3, 4]


@pytest.mark.parametrize("url", ["", "file://"])
def test_only_row_groups_that_can_count_are_read(tmp_path, url):
    """The pages of a file whose footer says that it is of another time are rubbish, and nobody notices."""
    for month in range(3):
        path = tmp_path / f"m={month}" / "a.parquet"
        path.parent.mkdir()
        rows(30 * month, 30 * month + 30, v=pl.col("n") * 2.0).write_parquet(path)
        if month != 1:
            size, body = path.stat().st_size, path.read_bytes()
            footer = 8 + int.from_bytes(body[-8:-4], "little")
            path.write_bytes(b"PAR1" + b"\xff" * (size - footer - 4) + body[-footer:])
    source = open_source(f"{url}{tmp_path}")
    asked = pl.Series([START + timedelta(days=45)], dtype=pl.Datetime("us", "UTC"))
    view = AsofView("v", (), ("v",), timedelta(days=5), "at")
    found = collect([opened_view(view, source, {}).in_reach(asked)], source.url)[0]
    assert found["v"].to_list() == [80, 82, 84, 86, 88, 90]
    with pytest.raises(UserError, match="takes readable Parquet"):
        read(source)


def test_a_batch_is_a_part_of_its_own_and_once(tmp_path):
    source = open_source(str(tmp_path / "not" / "there yet"))
    assert source.is_folder
    add_part(source, rows(0, 3))
    before = {path: os.stat(path).st_mtime_ns for path in source.parts()}
    batch = rows(3, 6)
    # The same rows, in other chunks.
    assert add_part(source, batch) == add_part(source, pl.concat([batch[:1], batch[1:]], rechunk=False))
    assert len(source.parts()) == 2
    assert {path: os.stat(path).st_mtime_ns for path in before} == before
    assert sorted(read(source)["n"]) == [0, 1, 2, 3, 4, 5]


def test_hive_folders_are_columns_and_are_written_by_value(tmp_path):
    source = open_source(str(tmp_path))
    add_part(source, rows(0, 4, k=pl.Series(["a", "b", "a", "c"])), ["k"])
    assert source.hive_keys(source.parts()[0]) == ("k",)
    assert {part.split("/")[-2] for part in source.parts()} == {"k=a", "k=b", "k=c"}
    assert read(source).sort("n")["k"].to_list() == ["a", "b", "a", "c"]


def test_a_file_grows_at_its_end(tmp_path):
    source = open_source(str(tmp_path / "a.parquet"))
    assert not source.is_folder
    add_to_file(source, rows(5, 7))
    add_to_file(source, rows(0, 1))
    assert read(source)["n"].to_list() == [5, 6, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_a_torn_file_is_named_in_one_line(tmp_path):
    path = tmp_path / "a.parquet"
    rows(0, 100).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"a\.parquet: got .*, takes readable Parquet") as refused:
        read(open_source(str(path)))
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="got 'no Parquet file'"):
        scan(open_source(str(tmp_path / "none")))


WRITER = """
import sys
from datetime import UTC, datetime
import polars as pl
from tidegate.features.parquet_source import open_source
from tidegate.features.parquet_write import add_part
source = open_source(sys.argv[1])
batch = pl.DataFrame({"n": pl.int_range(50_000, eager=True), "batch": 0})
number = 0
while True:
    add_part(source, batch.with_columns(batch=pl.lit(number)))
    number += 1
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_whole_batches(tmp_path):
    """Killed at whatever it was doing, five times: every batch that is there is whole, every one that was told is."""
    source = open_source(str(tmp_path / "view"))
    for lines in range(1, 6):
        words = [sys.executable, "-c", WRITER, source.path]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as writer:
            told = [writer.stdout.readline() for _ in range(lines)]
            writer.send_signal(signal.SIGKILL)
        found = read(source).group_by("batch").len()
        assert found["len"].unique().to_list() == [50_000]
        assert int(told[-1]) <= found.height


def test_two_writers_of_one_file_take_turns(tmp_path):
    path = tmp_path / "a.parquet"
    code = (
        "import sys, polars as pl\n"
        "from tidegate.features.parquet_source import open_source\n"
        "from tidegate.features.parquet_write import add_to_file\n"
        "for n in range(20): add_to_file(open_source(sys.argv[1]), pl.DataFrame({'n': [n]}))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(2)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert sorted(read(open_source(str(path)))["n"]) == sorted([*range(20), *range(20)])


def test_an_unknown_scheme_is_refused():
    with pytest.raises(UserError, match="a URL that fsspec can open"):
        open_source("nothing-of-the-kind://a/b")


def test_the_size_of_a_table_is_estimated_from_its_types():
    assert decoded_bytes(10, {"a": pl.Float32(), "b": pl.String(), "c": pl.Boolean()}) == 10 * (8 + 32 + 1)
