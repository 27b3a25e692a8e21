"""What is new is taken once: pieces by token, rows into the partitions they belong to, whatever is killed when."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readings import NAME

from tidegate.errors import PlatformError, UserError
from tidegate.ingest.disk import read_manifest
from tidegate.ingest.step import ingest

START = datetime(2024, 1, 30, tzinfo=UTC)
UNTIL = "2024-06-01"
TESTS = Path(__file__).parents[2]
SCHEMA = {
    **{"sensor": pl.String, "event_time": pl.Datetime("us", "UTC"), "number": pl.Int64},
    **{"value": pl.Float64, "note": pl.String},
}


def rows(first: int, count: int, sensor: str = "a") -> pl.DataFrame:
    """One row a sensor and 6 hours, from the first-th on."""
    numbers = range(first, first + count)
    return pl.DataFrame(
        {
            "sensor": [sensor] * count,
            "event_time": [START + timedelta(hours=6 * n) for n in numbers],
            "number": list(numbers),
            "value": [n / 7 for n in numbers],
            "note": [None if n % 3 else f"n{n}" for n in numbers],
        },
        schema=SCHEMA,
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    made = tmp_path / "in"
    made.mkdir()
    monkeypatch.setenv("READINGS", json.dumps({"files": {"readings": str(made)}}))
    return made


def taken(out: Path) -> pl.DataFrame:
    """Every row of the arrivals, partitions one after the other."""
    parts = read_manifest(out).tables["readings"]
    return pl.concat([pl.read_parquet(out / part.path) for part in parts]) if parts else rows(0, 0)


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_second_ingest_reads_nothing(folder, tmp_path, monkeypatch):
    rows(0, 20).write_parquet(folder / "a.parquet")
    first = ingest(NAME, UNTIL, tmp_path / "one", tmp_path / "state")
    assert (first.parts, first.rows) == (1, 20)
    monkeypatch.setattr("tidegate.ingest.files._read", lambda *_: pytest.fail("a piece that was taken is read again"))
    again = ingest(NAME, UNTIL, tmp_path / "two", tmp_path / "state")
    assert (again.parts, again.rows) == (0, 20)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_late_row_goes_to_the_partition_it_belongs_to_and_no_other_changes(folder, tmp_path):
    rows(0, 200).write_parquet(folder / "a.parquet")
    ingest(NAME, UNTIL, tmp_path / "before", tmp_path / "state")
    rows(10, 1, "late").write_csv(folder / "b.csv")
    record = ingest(NAME, UNTIL, tmp_path / "after", tmp_path / "state")
    before, after = contents(tmp_path / "before"), contents(tmp_path / "after")
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed == {"readings/2024-02.parquet", "manifest.json"}
    assert (record.parts, record.rows) == (1, 201)
    assert taken(tmp_path / "after").equals(pl.concat([rows(0, 200), rows(10, 1, "late")]).sort("event_time", "sensor"))


def test_exact_duplicates_are_dropped_and_counted_and_a_key_with_other_content_stays(folder, tmp_path):
    pl.concat([rows(0, 5), rows(3, 2)]).write_parquet(folder / "a.parquet")
    rows(2, 4).write_parquet(folder / "b.parquet")
    rows(0, 1).with_columns(value=9.0).write_parquet(folder / "c.parquet")
    record = ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    assert record.duplicates == 2 + 3
    assert taken(tmp_path / "out")["number"].to_list() == [0, 0, 1, 2, 3, 4, 5]


def test_a_file_that_grew_is_read_again_and_its_old_rows_are_no_duplicates(folder, tmp_path):
    rows(0, 5).write_parquet(folder / "a.parquet")
    ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    rows(0, 8).write_parquet(folder / "a.parquet")
    record = ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    assert (record.parts, record.rows, record.duplicates) == (1, 8, 0)


def test_a_file_that_is_gone_has_been_taken_all_the_same(folder, tmp_path):
    rows(0, 5).write_parquet(folder / "a.parquet")
    ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    (folder / "a.parquet").unlink()
    assert ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state").rows == 5


@pytest.mark.parametrize("until", ["2024-01-30T05:59", "2024-02-10T06:00", "2024-01-01"])
def test_rows_after_until_wait(folder, tmp_path, until):
    rows(0, 200).write_parquet(folder / "a.parquet")
    limit = datetime.fromisoformat(until).replace(tzinfo=UTC)
    record = ingest(NAME, until, tmp_path / "out", tmp_path / "state")
    assert taken(tmp_path / "out").equals(rows(0, 200).filter(pl.col("event_time") <= limit))
    assert record.rows == taken(tmp_path / "out").height
    assert ingest(NAME, UNTIL, tmp_path / "all", tmp_path / "state").rows == 200


def test_partitions_may_be_days(folder, tmp_path, monkeypatch):
    import dataclasses

    import readings

    rows(0, 9).write_parquet(folder / "a.parquet")
    monkeypatch.setattr(readings, "readings", dataclasses.replace(readings.readings, partition="day"))
    ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    paths = [part.path for part in read_manifest(tmp_path / "out").tables["readings"]]
    assert paths == [f"readings/2024-{day}.parquet" for day in ("01-30", "01-31", "02-01")]


def test_a_table_without_a_contract_is_the_users_fault(folder, tmp_path, monkeypatch):
    rows(0, 1).write_parquet(folder / "a.parquet")
    monkeypatch.setenv("READINGS", json.dumps({"files": {"other": str(folder)}}))
    with pytest.raises(UserError, match="a table of the contract: readings, places"):
        ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")


@pytest.mark.parametrize("fault", ["torn ledger", "torn partition", "lost partition"])
def test_a_damaged_state_is_one_clear_line(folder, tmp_path, fault):
    rows(0, 5).write_parquet(folder / "a.parquet")
    ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    (ledger,) = (tmp_path / "state").rglob("ledger.json")
    (partition, *_) = sorted(ledger.parent.rglob("2024-*.parquet"))
    victim = ledger if fault == "torn ledger" else partition
    content = victim.read_bytes()
    victim.unlink()  # the arrivals hold the same bytes by a hard link: they are another file from here on
    if fault != "lost partition":
        victim.write_bytes(content[: len(content) // 2])
    with pytest.raises(PlatformError, match="is damaged or gone; remove") as caught:
        ingest(NAME, UNTIL, tmp_path / "again", tmp_path / "state")
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 300), st.sampled_from("ab")), max_size=6), min_size=1, max_size=5),
    st.randoms(),
)
def test_whatever_the_files_and_their_order_the_rows_are_those_of_all_of_them(tmp_path_factory, batches, shuffled):
    base = tmp_path_factory.mktemp("order")
    frames = [pl.concat([rows(n, 1, sensor) for n, sensor in batch] or [rows(0, 0)]) for batch in batches]
    outcomes = []
    for turn in ("one by one", "at once"):
        folder, order = base / turn, list(enumerate(frames))
        folder.mkdir()
        shuffled.shuffle(order)
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("READINGS", json.dumps({"files": {"readings": str(folder)}}))
            for number, frame in order:
                frame.write_parquet(folder / f"{number}.parquet")
                if turn == "one by one":
                    ingest(NAME, UNTIL, base / f"{turn}-out", base / f"{turn}-state")
            ingest(NAME, UNTIL, base / f"{turn}-out", base / f"{turn}-state")
        outcomes.append(contents(base / f"{turn}-out"))
    assert outcomes[0] == outcomes[1]
    drawn = {pair for batch in batches for pair in batch}
    wanted = sorted((START + timedelta(hours=6 * n), sensor) for n, sensor in drawn)
    assert list(taken(base / "at once-out").select("event_time", "sensor").iter_rows()) == wanted


def start_ingest(out: Path, state: Path) -> subprocess.Popen[bytes]:
    """A real ingest in a process of its own, with a small batch: many commits, many moments to be killed at."""
    code = (
        "from pathlib import Path; from tidegate.ingest import take; from tidegate.ingest.step import ingest;"
        f"take.BATCH = 40; print('up', flush=True);"
        f"ingest({NAME!r}, {UNTIL!r}, Path({str(out)!r}), Path({str(state)!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)


def test_an_ingest_that_is_killed_at_any_moment_ends_as_if_it_had_not_been(folder, tmp_path):
    for number in range(30):
        rows(number * 8, 10, "ab"[number % 2]).write_parquet(folder / f"{number:02d}.parquet")
    began = time.monotonic()
    assert start_ingest(tmp_path / "calm", tmp_path / "calm-state").wait(60) == 0
    whole, draw, killed = time.monotonic() - began, random.Random(4), 0
    for _ in range(8):
        process = start_ingest(tmp_path / "out", tmp_path / "state")
        process.stdout.readline()  # imported; from here on it works
        try:
            process.wait(draw.uniform(0, 0.6 * whole))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert killed > 0
    record = ingest(NAME, UNTIL, tmp_path / "out", tmp_path / "state")
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")
    assert record.rows == taken(tmp_path / "out").height
    (ledger,) = (tmp_path / "state").rglob("ledger.json")
    named = {kept["file"] for kept in json.loads(ledger.read_text())["tables"]["readings"].values()}
    left = {path.relative_to(ledger.parent).as_posix() for path in ledger.parent.rglob("*") if path.is_file()}
    assert left == {*named, "ledger.json", "lock"}
