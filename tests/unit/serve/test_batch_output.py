"""Every kind of output takes a partition whole or not at all, in place of an earlier one, and knows what it has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from tidegate.errors import UserError
from tidegate.serve.batch_output import Folder, Made, columns_of, open_output

AT = 1_372_636_800.5
KEYS = [pa.field("flight_id", pa.large_string()), pa.field("leg", pa.int64())]
SCHEMA = columns_of(KEYS)
FIRST = Made("file:///rows/part-000.parquet", "1:2", "sha256:a", AT)
SECOND = replace(FIRST, partition="s3://rows/day=2/part-000.parquet")


def batch(first: int, rows: int) -> pa.RecordBatch:
    def same(text: str) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))

    numbers = range(first, first + rows)
    names = pa.array([None if n == 3 else f'F, "{n}"' for n in numbers], pa.large_string())
    at = pa.array([round(AT * 1e6)] * rows, pa.timestamp("us", "UTC"))
    scores = pa.array([n / 7 for n in numbers])
    columns = [names, pa.array(list(numbers), pa.int64()), scores, same("m@v1"), same("sha256:a"), at]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def dying() -> Iterator[pa.RecordBatch]:
    yield batch(50, 5)
    raise KeyboardInterrupt


@pytest.fixture(params=["folder", "csv", "sqlite"])
def place(request, tmp_path: Path) -> str:
    return {
        "folder": str(tmp_path / "out"),
        "csv": str(tmp_path / "out.csv"),
        "sqlite": f"sqlite:///{tmp_path}/out.db#predictions",
    }[request.param]


def rows_of(place: str) -> list[tuple]:
    """(flight_id, leg, score) of what a reader finds, in order of the leg."""
    url, _, table = place.partition("#")
    if table:
        with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
            return db.execute(f"SELECT flight_id, leg, score FROM {table} ORDER BY leg").fetchall()  # noqa: S608
    frame = pl.read_csv(place) if place.endswith(".csv") else pl.read_parquet(f"{place}/*.parquet")
    return frame.sort("leg").select("flight_id", "leg", "score").rows()


def expected(*numbers: int) -> list[tuple]:
    return [(None if n == 3 else f'F, "{n}"', n, n / 7) for n in numbers]


def test_partitions_are_there_once_and_a_new_output_knows_them(place):
    output = open_output(place)
    output.begin()
    assert output.rows(FIRST) is None
    output.write(FIRST, SCHEMA, [batch(0, 4), batch(4, 1)])
    output.write(SECOND, SCHEMA, [batch(10, 2)])
    output.finish()
    again = open_output(place)
    again.begin()
    assert (again.rows(FIRST), again.rows(SECOND)) == (5, 2)
    assert rows_of(place) == expected(0, 1, 2, 3, 4, 10, 11)


@pytest.mark.parametrize("change", [{"token": "9:9"}, {"digest": "sha256:b"}, {"at": AT + 1}])
def test_what_was_made_of_something_else_is_written_again_in_place_of_the_earlier(place, change):
    output, other = open_output(place), replace(FIRST, **change)
    output.write(FIRST, SCHEMA, [batch(0, 5)])
    output.write(SECOND, SCHEMA, [batch(10, 1)])
    assert output.rows(other) is None
    output.write(other, SCHEMA, [batch(0, 3)])
    output.finish()
    assert (output.rows(FIRST), output.rows(other), output.rows(SECOND)) == (None, 3, 1)
    assert rows_of(place) == expected(0, 1, 2, 10)


def test_a_partition_whose_rows_break_off_leaves_what_was_there(place):
    output = open_output(place)
    output.write(FIRST, SCHEMA, [batch(0, 2)])
    for made in (FIRST, SECOND):
        with pytest.raises(KeyboardInterrupt):
            output.write(made, SCHEMA, dying())
    output.finish()
    assert (output.rows(FIRST), output.rows(SECOND)) == (2, None)
    assert rows_of(place) == expected(0, 1)


def test_a_partition_without_rows_is_there_too(place):
    output = open_output(place)
    output.write(FIRST, SCHEMA, [])
    output.write(SECOND, SCHEMA, [batch(0, 1)])
    output.finish()
    assert output.rows(FIRST) == 0
    assert rows_of(place) == expected(0)


def test_the_same_rows_give_the_same_bytes(tmp_path):
    found = []
    for name in ("a", "b"):
        folder = Folder(str(tmp_path / name))
        folder.write(FIRST, SCHEMA, [batch(0, 5), batch(5, 3)])
        (path,) = folder.files()
        found.append((Path(path).name, Path(path).read_bytes()))
    assert found[0] == found[1]


def test_readers_see_plain_columns_and_the_time_of_the_run(tmp_path):
    Folder(str(tmp_path / "out")).write(FIRST, SCHEMA, [batch(0, 1)])
    (row,) = pl.read_parquet(tmp_path / "out").to_dicts()
    assert (row["model"], row["digest"], row["scored_at"].timestamp()) == ("m@v1", "sha256:a", AT)
    csv = open_output(str(tmp_path / "out.csv"))
    csv.write(FIRST, SCHEMA, [batch(0, 1)])
    csv.finish()
    assert (tmp_path / "out.csv").read_text().splitlines()[1].endswith('"2013-07-01T00:00:00.500000Z"')


def test_what_a_killed_writer_left_half_written_is_removed(tmp_path):
    for left in ("out/.part-0.parquet.77.writing", ".out.csv.77.writing", ".out.csv.parts/.x.7.writing"):
        (tmp_path / left).parent.mkdir(exist_ok=True)
        (tmp_path / left).write_text("half")
    open_output(str(tmp_path / "out")).begin()
    open_output(str(tmp_path / "out.csv")).begin()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("sqlite:///x.db", "takes a URL with #TABLE"),
        ("sqlite:///x.db#a b", "takes a URL with #TABLE"),
        ("mysql://x#t", "takes a folder for Parquet files, a file NAME.csv, or"),
        ("nosuch://x", "takes a folder for Parquet files"),
        ("postgresql+nosuch://x#t", "takes the URL of a database whose driver is installed"),
    ],
)
def test_a_place_that_is_no_output_is_told_in_one_line(place, line):
    with pytest.raises(UserError, match=line):
        open_output(place)


def test_another_table_of_the_same_name_is_refused_in_one_line(tmp_path):
    with sqlite3.connect(tmp_path / "x.db") as db:
        db.execute("CREATE TABLE predictions (colour TEXT)")
    with pytest.raises(UserError, match="takes a table of predictions of these keys, or none yet"):
        open_output(f"sqlite:///{tmp_path}/x.db#predictions").write(FIRST, SCHEMA, [batch(0, 1)])
