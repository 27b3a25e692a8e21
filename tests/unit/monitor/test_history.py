"""The joined history in its folder: what a step takes, what a kill leaves, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidegate.errors import UserError
from tidegate.monitor import bulk
from tidegate.monitor import history as history_module
from tidegate.monitor.history import KINDS, History
from tidegate.monitor.history_rows import read_rows
from tidegate.observations import Label, Prediction, SegmentWriter


def prediction(name: str, time: float, endpoint: str | None = None) -> Prediction:
    features: list[float | str | None] = [1.5, "JFK", None]
    return Prediction(
        f"{name}/0", time, time, "v1", "sha256:0", "v1", 0.5, "r1", 0.25, False, 3.0, features, endpoint=endpoint
    )


def label(name: str, time: float, value: float = 1.0) -> Label:
    return Label(f"{name}/0", time, time, value, "observed")


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "predictions", tmp_path / "labels"


def write(log: tuple[Path, Path], *records: Prediction | Label, segment_bytes: int = 2**20) -> None:
    for folder, kind in zip(log, (Prediction, Label), strict=True):
        writer = SegmentWriter(folder, "w", segment_bytes, background=False)
        for record in records:
            if isinstance(record, kind):
                writer.append(record)
                writer.flush()


def rows(history: History) -> list[tuple[Any, ...]]:
    found = sorted(read_rows(history, 0.0, 1e9), key=lambda row: (row.prediction.time, row.prediction.request_id))
    assert all(row.prediction.features in ([], [1.5, "JFK", None]) for row in found)
    return [(row.prediction.request_id, row.outcome) for row in found]


def waiting(history: History) -> list[str]:
    """Ids of the rows that have not matured, in order of time."""
    found = [
        row for kind in ("open", "ahead") for path in history.files(kind) for row in pq.read_table(path).to_pylist()
    ]
    due = history.manifest.until - history.manifest.deadline
    return [row["request_id"] for row in sorted(found, key=lambda row: row["time"]) if row["time"] > due]


def test_a_step_takes_what_is_new_and_the_rest_stays_open(log: tuple[Path, Path], tmp_path: Path) -> None:
    write(log, prediction("a", 1.0), prediction("b", 8.0), prediction("r", 1.0, "rank"), label("a", 3.0))
    history = History(tmp_path / "joined", deadline=10.0)
    first = history.update(*log, until=12.0)
    assert (first["matured"], first["open"], first["predictions"]) == (1, 1, 2)
    assert history.update(*log)["predictions"] == 0
    write(log, label("b", 9.0), label("a", 40.0, 0.0), prediction("c", 30.0), segment_bytes=1)
    second = history.update(*log)
    assert (second["matured"], second["open"], second["labels"], second["corrected_late"]) == (1, 1, 2, 1)
    assert rows(history) == [("a/0", "observed"), ("b/0", "observed")]
    assert waiting(history) == ["c/0"]


def test_a_torn_line_is_taken_once_it_is_whole(log: tuple[Path, Path], tmp_path: Path) -> None:
    write(log, prediction("a", 1.0), prediction("b", 2.0), label("a", 3.0))
    segment = log[0] / "w.000001.jsonl"
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-20])
    history = History(tmp_path / "joined", deadline=1.0)
    assert history.update(*log, until=1.5)["predictions"] == 1
    segment.write_bytes(whole)
    assert history.update(*log, until=9.0)["predictions"] == 1
    assert [name for name, _ in rows(history)] == ["a/0", "b/0"]


def test_parquet_segments_are_taken_once_and_may_lack_what_is_not_needed(
    log: tuple[Path, Path], tmp_path: Path
) -> None:
    for folder in log:
        folder.mkdir()
    found = {"request_id": ["a/0", "b/0"], "time": [1.0, 2.0], "version": ["v1", "v1"], "score": [0.5, 0.5]}
    pq.write_table(pa.table(found), log[0] / "p.parquet")
    pq.write_table(
        pa.table({"request_id": ["a", "c/3"], "time": [2.0, 2.0], "value": [1.0, 0.0]}), log[1] / "l.parquet"
    )
    history = History(tmp_path / "joined", deadline=1.0)
    counts = history.update(*log, until=50.0)
    assert (counts["matured"], counts["observed"], counts["unknown"]) == (2, 1, 1)
    assert history.update(*log, until=60.0)["predictions"] == 0
    assert rows(history) == [("a/0", "observed"), ("b/0", "missing")]


def test_a_file_without_a_needed_column_and_another_deadline_are_refused(
    log: tuple[Path, Path], tmp_path: Path
) -> None:
    write(log, prediction("a", 1.0))
    log[1].mkdir(exist_ok=True)
    history = History(tmp_path / "joined", deadline=1.0)
    history.update(*log)
    with pytest.raises(UserError, match="deadline"):
        History(tmp_path / "joined", deadline=2.0)
    pq.write_table(pa.table({"request_id": ["a/0"], "time": [1.0]}), log[1] / "bad.parquet")
    with pytest.raises(UserError, match="no column value"):
        history.update(*log)
    with pytest.raises(UserError, match="takes a folder of segments"):
        history.update(tmp_path / "nowhere", log[1])


def test_a_folder_that_another_process_joins_in_is_refused(log: tuple[Path, Path], tmp_path: Path) -> None:
    write(log, prediction("a", 1.0), label("a", 2.0))
    history = History(tmp_path / "joined", deadline=1.0)
    with history._alone(), pytest.raises(UserError, match="in use"):
        History(tmp_path / "joined", deadline=1.0).update(*log)
    assert history.update(*log)["predictions"] == 1


STEP = """
import os, signal, sys
from pathlib import Path
from tidegate.monitor import bulk, history
made, at = Path(sys.argv[1]), sys.argv[2]
def dying(real):
    def died(*args, **rest):
        found = real(*args, **rest)
        os.kill(os.getpid(), signal.SIGKILL)
    return died
if at == "rows":
    bulk._write_rows = dying(bulk._write_rows)
elif at == "carried":
    bulk._write_carried = dying(bulk._write_carried)
elif at == "merged":
    history.FEW, bulk.merge = 1, dying(bulk.merge)
elif at == "synced":
    history.to_disk = dying(history.to_disk)
elif at == "replaced":
    history._replace = dying(history._replace)
history.History(made / "joined", 1.0).update(made / "predictions", made / "labels", until=10.0)
"""


@pytest.mark.parametrize("at", ["rows", "carried", "merged", "synced", "replaced"])
def test_a_step_killed_at_any_place_is_done_once(log: tuple[Path, Path], tmp_path: Path, at: str) -> None:
    """The state left is that of the step before or that of the step, never a part; the next update ends in the same."""
    write(log, *(prediction(f"q{number}", number / 10) for number in range(50)), label("q3", 1.0))
    before = History(tmp_path / "joined", deadline=1.0)
    before.update(*log, until=2.0)
    had = rows(before)
    write(log, label("q40", 4.5), prediction("q50", 5.0))
    words = (sys.executable, "-c", STEP, str(tmp_path), at)
    assert subprocess.run(words, check=False, env=dict(os.environ)).returncode == -9
    left = History(tmp_path / "joined", deadline=1.0)
    assert left.manifest.step == (2 if at == "replaced" else 1)
    assert (rows(left) == had) == (at != "replaced")
    history = History(tmp_path / "joined", deadline=1.0)
    history.update(*log, until=10.0)
    assert sorted(name for name, _ in rows(history)) == sorted(f"q{number}/0" for number in range(51))
    assert history.manifest.counts["observed"] == 2
    kept = {path.name for path in history.folder.iterdir()}
    assert kept == {"history.json", *(path.name for kind in KINDS for path in history.files(kind))}


def test_a_segment_that_grows_is_read_on_and_small_parts_are_put_together(
    log: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing before the byte that was taken is looked at again, and parts stay few however many steps there are."""
    monkeypatch.setattr(history_module, "FEW", 3)
    history = History(tmp_path / "joined", deadline=2.0)
    for number in range(16):
        write(log, prediction(f"q{number}", float(number)), label(f"q{number}", number + 0.5))
        assert history.update(*log)["predictions"] == 1
        for folder in log:
            (segment,) = folder.iterdir()
            segment.write_bytes(b"?" * (segment.stat().st_size - 1) + b"\n")
        assert all(len(history.files(kind)) <= 3 + len(KINDS) for kind in KINDS)
    assert rows(history) == [(f"q{number}/0", "observed") for number in range(14)]
    assert waiting(history) == ["q14/0", "q15/0"]


def test_more_rows_than_the_memory_holds_give_the_same(log: tuple[Path, Path], tmp_path: Path) -> None:
    """200,000 labels in 30 MiB: the hash table goes to disk inside the folder."""
    import duckdb

    for folder in log:
        folder.mkdir()
    with duckdb.connect() as connection:
        key = "md5(i::VARCHAR) || '/0' AS request_id, i / 1000 AS time"
        connection.execute(
            f"COPY (SELECT {key}, 'v1' AS version, 0.5 AS score FROM range(200000) t(i)) TO '{log[0]}/p.parquet'"  # noqa: S608
        )
        connection.execute(
            f"COPY (SELECT {key}, (i % 2)::DOUBLE AS value FROM range(200000) t(i)) TO '{log[1]}/l.parquet'"  # noqa: S608
        )
    history = History(tmp_path / "joined", deadline=1.0)
    counts = history.update(*log, until=1e6, memory=60 * 2**20)
    assert (counts["observed"], counts["missing"], counts["unknown"]) == (200_000, 0, 0)
    assert bulk.MEMORY < 2e9
    assert json.loads((tmp_path / "joined/history.json").read_text())["counts"]["matured"] == 200_000
