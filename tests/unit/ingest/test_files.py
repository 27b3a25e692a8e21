"""Files: which ones are taken, and that a poisoned one is put aside with its reason and costs nothing else."""

import contextlib
import gzip
import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readings import NAME

from tidegate.errors import UserError
from tidegate.ingest.files import Files
from tidegate.ingest.footer import LARGEST, RATIO, SMALL, Chunk, check_sizes
from tidegate.ingest.sources import Together, Unreadable
from tidegate.ingest.step import ingest

TIMES = [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
GOOD = pl.DataFrame(
    {"sensor": list("abc"), "event_time": TIMES, "number": [1, 2, 3], "value": [0.5, None, 2.5], "note": list("xyz")}
)
UNTIL = "2024-06-01"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    made = tmp_path / "in"
    made.mkdir()
    monkeypatch.setenv("READINGS", json.dumps({"files": {"readings": str(made)}}))
    GOOD.write_parquet(made / "good.parquet")
    return made


def shifted(days: int) -> pl.DataFrame:
    return GOOD.with_columns(pl.col("event_time") + timedelta(days=days))


def bomb(path: Path) -> None:
    """Two million zeros, written plainly and compressed: a column that expands several thousandfold."""
    table = pa.table({"sensor": pa.array([0] * 2_000_000, pa.int64())})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


def truncated(path: Path) -> None:
    shifted(30).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-40])


def cut_in_the_middle(path: Path) -> None:
    """The footer is whole, the pages are not."""
    draw = random.Random(3)
    rows = pl.DataFrame({"sensor": [f"{draw.random()}" for _ in range(5000)]})
    rows.write_parquet(path)
    content = bytearray(path.read_bytes())
    content[100:-1000] = bytes(len(content) - 1100)
    path.write_bytes(content)


def bad_column_name(path: Path) -> None:
    shifted(30).rename({"note": "nXte"}).write_parquet(path)
    path.write_bytes(path.read_bytes().replace(b"nXte", b"n\xffte"))


WHOLE = {
    "bomb.parquet": (bomb, "expands"),
    "truncated.parquet": (truncated, "unreadable"),
    "cut.parquet": (cut_in_the_middle, "unreadable"),
    "empty.parquet": (lambda path: path.write_bytes(b""), "unreadable"),
    "text.parquet": (lambda path: path.write_text("no parquet"), "unreadable"),
    "empty.csv": (lambda path: path.write_bytes(b"\n"), "unreadable"),
    "packed.csv": (lambda path: path.write_bytes(gzip.compress(b"sensor\na\n")), "unreadable"),
    "ragged.csv": (lambda path: path.write_text("sensor,number\na,1\nb,2,3,4\n"), "unreadable"),
    "name.parquet": (bad_column_name, None),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_poisoned_file_is_put_aside_whole_and_nothing_else_is_lost(folder, tmp_path, name):
    make, check = WHOLE[name]
    make(folder / name)
    shifted(60).write_parquet(folder / "zz-later.parquet")
    record = ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    assert record.tables["readings"] == 6
    assert (record.parts, record.unreadable, record.rejected) == (3, 1, 0)
    (fault,) = json.loads((tmp_path / "out" / "rejected.json").read_text())
    assert fault["part"].endswith(name)
    assert fault["table"] == "readings"
    assert fault["check"] in ([check] if check else ["encoding", "unreadable"])
    assert (fault["rows"], len(fault["examples"])) == (0, 1)
    assert ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state").parts == 0
    assert (tmp_path / "out" / "rejected.json").exists()


ROWS = {
    "a text for a number": (shifted(30).with_columns(number=pl.Series(["7", "x", "9"])), "type", "number", 1),
    "lists for numbers": (shifted(30).with_columns(value=pl.Series([[1.0], [2.0], [3.0]])), "type", "value", 3),
    "a fraction for an integer": (shifted(30).with_columns(number=pl.Series([7.0, 8.5, 9.0])), "type", "number", 1),
    "a clock in 2100": (shifted(365 * 76), "not_yet", "event_time", 3),
    "no clock": (shifted(30).with_columns(event_time=pl.lit(None, pl.Datetime("us"))), "null", "event_time", 3),
    "a missing column": (shifted(30).drop("number"), "missing_column", "number", 3),
    "bytes for text": (shifted(30).with_columns(note=pl.Series([b"\xff", b"b", b"c"])), "encoding", "note", 1),
}


@pytest.mark.parametrize("fault", ROWS)
def test_rows_that_do_not_fit_are_put_aside_with_the_reason_and_the_others_go_on(folder, tmp_path, fault):
    frame, check, column, bad = ROWS[fault]
    frame.write_parquet(folder / "poisoned.parquet")
    record = ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    assert record.tables["readings"] == 3 + 3 - bad
    assert (record.rejected, record.unreadable) == (bad, 0)
    (said,) = json.loads((tmp_path / "out" / "rejected.json").read_text())
    assert (said["check"], said["column"], said["rows"]) == (check, column, bad)
    (kept,) = (tmp_path / "out" / "rejected").iterdir()
    aside = pl.read_parquet(kept)
    assert aside["reasons"].to_list() == [f"{check}({column})"] * bad


def test_a_new_column_is_named_and_dropped(folder, tmp_path):
    shifted(30).with_columns(extra=1).write_parquet(folder / "more.parquet")
    assert ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state").rows == 6
    (said,) = json.loads((tmp_path / "out" / "rejected.json").read_text())
    assert (said["check"], said["column"], said["rows"]) == ("new_column", "extra", 3)


def test_text_that_is_not_utf_8_costs_its_row_of_a_csv_file(folder, tmp_path):
    text = b"sensor,event_time,number,value,note\nd,2024-02-01,1,,caf\xe9\ne,2024-02-02T00:00:00Z,2,1e3,caf\xc3\xa9\n"
    (folder / "latin.csv").write_bytes(text)
    assert ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state").rows == 4
    (said,) = json.loads((tmp_path / "out" / "rejected.json").read_text())
    assert (said["check"], said["column"], said["rows"]) == ("encoding", "note", 1)
    (february,) = (tmp_path / "out").rglob("2024-02.parquet")
    assert pl.read_parquet(february).rows() == [("e", datetime(2024, 2, 2, tzinfo=UTC), 2, 1000.0, "café")]


def test_text_that_is_not_utf_8_costs_its_row_of_a_parquet_file(folder, tmp_path):
    path, notes = folder / "latin.parquet", ["cafX-and-more", "tea-and-more", "milk"]
    shifted(30).with_columns(note=pl.Series(notes)).write_parquet(path, compression="uncompressed")
    path.write_bytes(path.read_bytes().replace(b"cafX-", b"caf\xe9-"))
    assert ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state").rows == 5
    (said,) = json.loads((tmp_path / "out" / "rejected.json").read_text())
    assert (said["check"], said["column"], said["rows"]) == ("encoding", "note", 1)


def test_changed_bytes_cost_their_file_and_not_the_process(folder, tmp_path):
    """Random bytes are changed in 300 files; in about one of 2,000 such files polars' own reader ends the process."""
    content, draw = bytearray((folder / "good.parquet").read_bytes()), random.Random(0)
    found = 0
    for number in range(300):
        broken = bytearray(content)
        for _ in range(draw.randint(1, 6)):
            broken[draw.randrange(len(broken))] = draw.randrange(256)
        (folder / f"broken-{number}.parquet").write_bytes(broken)
        found += broken != content
    record = ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    assert record.rows >= 3
    assert 0 < record.unreadable <= found


def test_a_name_that_is_not_utf_8_costs_its_file(folder, tmp_path):
    GOOD.write_parquet(folder / "x.parquet")
    os.rename(bytes(folder / "x.parquet"), bytes(folder) + b"/caf\xe9.parquet")
    record = ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    assert (record.rows, record.unreadable) == (3, 1)
    (said,) = json.loads((tmp_path / "out" / "rejected.json").read_text())
    assert said["part"].endswith(r"caf\udce9.parquet")


def test_a_file_that_was_put_right_is_taken_and_its_fault_forgotten(folder, tmp_path):
    truncated(folder / "t.parquet")
    ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    shifted(30).write_parquet(folder / "t.parquet")
    assert ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state").rows == 6
    assert not (tmp_path / "out" / "rejected.json").exists()


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_bytes_are_changed_a_file_is_read_or_put_aside(tmp_path, data):
    path = tmp_path / "fuzz.parquet"
    GOOD.write_parquet(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    (part,) = Files({"readings": str(path)}).parts()
    with contextlib.suppress(Unreadable):  # any other exception, a panic too, fails the test
        assert isinstance(part.read(), pl.DataFrame)


def test_a_folder_gives_its_data_files_at_any_depth_and_a_glob_what_it_matches(tmp_path):
    for name in ("a.parquet", "b.csv", "deep/er/c.parquet", "d.txt", "_x.parquet", ".e.parquet", "_SUCCESS"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    names = {
        url: [Path(part.name).name for part in Files({"t": f"{tmp_path}{url}"}).parts()]
        for url in ("", "/*.parquet", "/**/*.parquet", "/d.txt", "/deep", "/*.none")
    }
    assert names[""] == ["a.parquet", "b.csv", "c.parquet"]
    assert set(names["/*.parquet"]) >= {"_x.parquet", "a.parquet"}
    assert "c.parquet" in names["/**/*.parquet"]
    assert (names["/d.txt"], names["/deep"], names["/*.none"]) == (["d.txt"], ["c.parquet"], [])


def test_a_place_that_is_not_there_is_the_users_fault(tmp_path):
    for url in (str(tmp_path / "absent"), "noprotocol://x"):
        with pytest.raises(UserError, match="files ") as caught:
            list(Files({"t": url}).parts())
        assert "\n" not in str(caught.value)


def test_several_sources_are_one(folder):
    both = Together(Files({"readings": str(folder)}), Files({"places": str(folder / "good.parquet")}))
    assert [part.table for part in both.parts()] == ["readings", "places"]
    tables = both.arrivals(TIMES[1])
    assert tables["readings"]["sensor"].to_list() == ["a", "b"]


@given(st.lists(st.tuples(st.integers(0, 2**34), st.integers(0, 2**34)), max_size=4), st.integers(0, 2**36))
def test_sizes_are_refused_before_anything_is_decoded(sizes, cells):
    chunks = [Chunk("x", small, large) for small, large in sizes]
    bad = any(c.uncompressed > SMALL and c.uncompressed > RATIO * max(1, c.compressed) for c in chunks)
    bad = bad or sum(c.uncompressed for c in chunks) > LARGEST or cells * 8 > LARGEST
    if bad:
        with pytest.raises(Unreadable):
            check_sizes(chunks, cells)
    else:
        check_sizes(chunks, cells)
