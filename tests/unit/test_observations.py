from __future__ import annotations

import base64
import errno
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tidegate import observations
from tidegate.observations import (
    END,
    Answered,
    Label,
    Mark,
    Prediction,
    SegmentReader,
    SegmentWriter,
    parse_segment,
    read_segment,
)


def prediction(number: int, at: float = 0.0) -> Prediction:
    return Prediction(f"r{number}/0", at, at, "v1", "sha256:0", "v1", 1.0, None, 0.5, False, 0.1, [1.0, "AA", None])


def answered(number: int, rows: int) -> Answered:
    """One line of several rows, each of which reads as `one_of` says."""
    numbers = array("d", [value for row in range(rows) for value in (row, 1.0, float("nan"))]).tobytes()
    scores, texts = [0.5] * rows, {1: ["AA"] * rows}
    return Answered(f"r{number}", 0.0, 0.0, "v1", "sha256:0", "v1", 1.0, None, scores, False, 0.1, numbers, texts)


def one_of(number: int, row: int) -> Prediction:
    return msgspec.structs.replace(prediction(number), request_id=f"r{number}/{row}", features=[float(row), "AA", None])


def writer(folder: Path, name: str = "v1-a", **more: object) -> SegmentWriter:
    return SegmentWriter(folder, name, background=False, **more)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("scores", [[0.5, 0.25], np.array([0.5, 0.25], "<f4").tobytes()])
def test_rows_of_one_line_however_they_are_packed(tmp_path: Path, single: bool, scores: Any) -> None:
    numbers = np.array([[0.5, 1, np.nan], [1.5, 1, np.nan]], "<f4" if single else "<f8").tobytes()
    line = msgspec.structs.replace(answered(1, 2), scores=scores, numbers=numbers, single=single)
    one = writer(tmp_path)
    one.append(line)
    one.close()
    assert one.rows == 2
    found = SegmentReader(tmp_path).read()
    assert [(row.request_id, row.score, row.features) for row in found] == [  # type: ignore[union-attr]
        ("r1/0", 0.5, [0.5, "AA", None]),
        ("r1/1", 0.25, [1.5, "AA", None]),
    ]


def test_numbers_that_came_in_base64_are_those_of_the_record(tmp_path: Path) -> None:
    line, one = answered(1, 3), writer(tmp_path)
    one.append(line)
    one.append(msgspec.structs.replace(line, numbers=b""), base64.b64encode(line.numbers))
    one.close()
    rows = read_segment(tmp_path / "v1-a.000001.jsonl")
    assert rows[3:] == rows[:3]
    assert len(rows) == 6


@pytest.mark.parametrize("single", [False, True])
def test_categories_told_by_their_codes(tmp_path: Path, single: bool) -> None:
    texts = ["", "é\x00\n", None, "\U0001f600", 'a"b']
    numbers = np.array([[5, 0.5], [2, 0.5], [0, 0.5], [np.nan, 0.5], [3, 0.5], [1, 0.5], [4, 0.5]])
    told = msgspec.Raw(msgspec.json.encode({0: texts}))
    packed = {"numbers": numbers.astype("<f4" if single else "<f8").tobytes(), "scores": b"1234" * 7, "single": single}
    one = writer(tmp_path)
    one.append(msgspec.structs.replace(answered(1, 7), categories={}, names=told, **packed))
    one.append(answered(2, 1))
    one.close()
    *found, old = SegmentReader(tmp_path).read()
    given = ['a"b', "é\x00\n", None, None, None, "", "\U0001f600"]
    assert [row.features for row in found] == [[text, 0.5] for text in given]  # type: ignore[union-attr]
    assert old == one_of(2, 0)


@pytest.mark.parametrize(
    "names", ['{"1":[]}', '{"3":["AA"]}', '{"-1":["AA"]}', '{"0":["AA"]}', '{"1":[1]}', "[]", '{"x":[]}']
)
def test_a_line_whose_names_do_not_fit_is_counted(tmp_path: Path, names: str) -> None:
    one, reader = writer(tmp_path), SegmentReader(tmp_path)
    one.append(msgspec.structs.replace(answered(1, 3), categories={}, names=msgspec.Raw(names)))
    one.close()
    assert (reader.read(), reader.corrupt) == ([], 1)


@pytest.mark.parametrize("scores", [b"12345", b"1234" * 3])
def test_a_line_whose_scores_do_not_fit_is_counted(tmp_path: Path, scores: bytes) -> None:
    one, reader = writer(tmp_path), SegmentReader(tmp_path)
    one.append(msgspec.structs.replace(answered(1, 2), scores=scores))
    one.close()
    assert (reader.read(), reader.corrupt) == ([], 1)


def test_what_was_appended_is_read_once_in_order(tmp_path: Path) -> None:
    one, reader = writer(tmp_path), SegmentReader(tmp_path)
    rows = [prediction(i) for i in range(100)]
    for row in rows[:60]:
        one.append(row)
    assert reader.read() == []
    one.flush()
    assert reader.read() == rows[:60]
    for row in rows[60:]:
        one.append(row)
    one.close()
    assert reader.read() == rows[60:]
    assert reader.read() == []
    assert SegmentReader(tmp_path).read() == rows


def test_predictions_and_labels_come_back_as_what_they_were(tmp_path: Path) -> None:
    one = writer(tmp_path)
    records = [
        prediction(1),
        Label("r1/0", 5.0, 6.0, None, "cancelled"),
        Label("r1/0", 5.0, 6.0, 1.0, "observed", "cost"),
    ]
    for record in records:
        one.append(record)
    one.close()
    assert SegmentReader(tmp_path).read() == records


def test_the_background_thread_writes_without_being_asked(tmp_path: Path) -> None:
    one, reader = SegmentWriter(tmp_path, "v1-a"), SegmentReader(tmp_path)
    one.append(prediction(1))
    deadline = time.monotonic() + 10
    while not (found := reader.read()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found == [prediction(1)]
    one.close()


def test_what_was_written_is_synced_though_nothing_more_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, real = list[int](), os.fdatasync
    monkeypatch.setattr(observations, "SYNC_EVERY", 0.3)
    monkeypatch.setattr(os, "fdatasync", lambda file: (real(file), synced.append(os.fstat(file).st_size)))
    one = SegmentWriter(tmp_path, "v1-a")
    for number in range(2):
        one.append(prediction(number))
        time.sleep(0.15)
    size, until = (tmp_path / "v1-a.000001.jsonl").stat().st_size, time.monotonic() + 20
    while synced[-1:] != [size] and time.monotonic() < until:
        time.sleep(0.01)
    assert synced[-1] == size
    before = len(synced)
    time.sleep(0.5)
    assert len(synced) == before
    one.close()


def test_the_kernel_is_told_once_of_each_part_to_begin_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[tuple[int, int]]()

    def advise(file: int, start: int, size: int, advice: int) -> None:
        told.append((start, size))
        raise OSError(errno.EINVAL, "no such advice here")

    monkeypatch.setattr(observations, "EARLY_BYTES", 1000)
    monkeypatch.setattr(os, "posix_fadvise", advise, raising=False)
    one = writer(tmp_path)
    for number in range(50):
        one.append(prediction(number))
        one.flush()
    one.close()
    assert all(size >= 1000 for _, size in told)
    assert [start for start, _ in told] == [0, *(start + size for start, size in told[:-1])]
    assert len(told) > 3
    assert one.dropped == 0
    assert len(read_segment(tmp_path / "v1-a.000001.jsonl")) == 50


def test_a_torn_line_is_not_read_and_is_cut_off_by_the_next_start(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.append(prediction(1))
    one.flush()
    (segment,) = tmp_path.iterdir()
    with segment.open("ab") as file:
        file.write(b'{"t":"p","request_id":"torn')
    reader = SegmentReader(tmp_path)
    assert reader.read() == [prediction(1)]
    again = writer(tmp_path)
    again.append(prediction(2))
    again.close()
    assert reader.read() == [prediction(2)]
    assert b"torn" not in segment.read_bytes()


def test_a_line_that_is_no_record_is_passed_over_and_counted(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.append(prediction(1))
    one.flush()
    (segment,) = tmp_path.iterdir()
    with segment.open("ab") as file:
        file.write(b'\xff\xfe\n{"t":"p"}\n')
    again = writer(tmp_path)
    again.append(prediction(2))
    again.close()
    reader = SegmentReader(tmp_path)
    assert reader.read() == [prediction(1), prediction(2)]
    assert reader.corrupt == 2


def test_the_watermark_is_the_slowest_live_writers_newest_mark(tmp_path: Path) -> None:
    one, two, reader = writer(tmp_path, "v1-a"), writer(tmp_path, "v2-b"), SegmentReader(tmp_path)
    reader.read()
    assert reader.watermark == float("-inf")
    one.mark(10.0)
    reader.read()
    assert reader.watermark == float("-inf")
    two.mark(7.0)
    reader.read()
    assert reader.watermark == 7.0
    two.close()
    reader.read()
    assert reader.watermark == 10.0


def test_a_writer_that_is_not_alive_holds_nobody_back(tmp_path: Path) -> None:
    one, reader = writer(tmp_path, "v1-a"), SegmentReader(tmp_path)
    crashed = writer(tmp_path, "v2-b")
    crashed.append(prediction(1))
    crashed.mark(3.0)
    one.mark(10.0)
    assert reader.read() == [prediction(1)]
    assert reader.watermark == 3.0
    reader.expect(["v1-a"])
    assert reader.watermark == 10.0
    reader.expect([])
    assert reader.watermark == 10.0


def test_the_watermark_never_goes_back_when_a_writer_joins(tmp_path: Path) -> None:
    one, reader = writer(tmp_path, "v1-a"), SegmentReader(tmp_path)
    one.mark(10.0)
    reader.read()
    assert reader.watermark == 10.0
    writer(tmp_path, "v2-b")
    one.mark(20.0)
    reader.read()
    assert reader.watermark == 10.0


def test_a_mark_stands_behind_every_row_taken_before_it(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.append(prediction(1))
    one.promise(5.0)
    one.append(prediction(2))
    one.close()
    (segment,) = tmp_path.iterdir()
    lines = msgspec.json.Decoder(Prediction | Label | Mark).decode_lines(segment.read_bytes())
    assert lines == [prediction(1), Mark(5.0), prediction(2), Mark(END)]


def test_a_full_segment_is_left_and_the_next_begun(tmp_path: Path) -> None:
    one = writer(tmp_path, segment_bytes=2000)
    rows = [prediction(i) for i in range(50)]
    for row in rows:
        one.append(row)
        one.flush()
    one.close()
    assert len(list(tmp_path.iterdir())) > 3
    assert SegmentReader(tmp_path).read() == rows
    assert one.rows == 50


def test_a_full_disk_is_a_counted_drop_and_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = writer(tmp_path)
    one.append(prediction(1))
    one.flush()
    real = os.writev

    def full(file: int, parts: Sequence[bytes]) -> int:
        if len(data := b"".join(parts)) > 40:
            return real(file, [data[:40]])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    one.append(prediction(2))
    one.append(prediction(3))
    one.flush()
    monkeypatch.setattr(os, "writev", real)
    one.append(prediction(4))
    one.close()
    assert (one.rows, one.dropped) == (2, 2)
    reader = SegmentReader(tmp_path)
    assert reader.read() == [prediction(1), prediction(4)]
    assert reader.corrupt == 0


@pytest.mark.parametrize("rows", [1, 3])
def test_kill_9_loses_nothing_that_was_flushed(tmp_path: Path, rows: int) -> None:
    program = """
import sys, pathlib
sys.path.insert(0, {here!r})
from test_observations import answered, prediction, writer
one = writer(pathlib.Path({folder!r}))
for number in range(10**9):
    one.append(prediction(number) if {rows} == 1 else answered(number, {rows}))
    if number % 50 == 49:
        one.flush()
        print(number, flush=True)
"""
    text = program.format(here=str(Path(__file__).parent), folder=str(tmp_path), rows=rows)
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as process:
        seen = [int(process.stdout.readline()) for _ in range(40)]
        os.kill(process.pid, signal.SIGKILL)
        seen += [int(line) for line in process.stdout.read().splitlines()]
    count = seen[-1] + 1
    each = prediction if rows == 1 else one_of
    expected = [each(*place) for place in product(range(count), *([range(rows)] if rows > 1 else []))]
    assert SegmentReader(tmp_path).read()[: count * rows] == expected


def test_a_line_of_several_rows_is_read_as_its_rows_in_place(tmp_path: Path) -> None:
    one = writer(tmp_path)
    for record in (prediction(1), answered(2, 3), Label("r1/0", 5.0, 6.0, 1.0, "observed"), prediction(3)):
        one.append(record)
    assert one.rows == 6
    one.close()
    rows = [prediction(1), *(one_of(2, row) for row in range(3)), Label("r1/0", 5.0, 6.0, 1.0, "observed")]
    assert SegmentReader(tmp_path).read() == [*rows, prediction(3)]
    (segment,) = tmp_path.iterdir()
    assert read_segment(segment) == [*rows, prediction(3)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"numbers": b"1234567"},
        {"numbers": bytes(8 * 5)},
        {"categories": {1: ["AA"]}},
        {"categories": {3: ["AA", "UA"]}},
        {"categories": {-1: ["AA", "UA"]}},
        {"keys": [{"tail": "N1"}]},
        {"fallbacks": ["all"] * 3},
        {"scores": []},
    ],
)
def test_a_line_whose_lists_do_not_fit_is_passed_over_and_counted(tmp_path: Path, wrong: dict) -> None:
    one = writer(tmp_path)
    one.append(prediction(1))
    one.append(msgspec.structs.replace(answered(2, 2), **wrong))
    one.append(prediction(3))
    one.close()
    reader = SegmentReader(tmp_path)
    assert reader.read() == [prediction(1), prediction(3)]
    assert reader.corrupt == 1


def test_a_full_disk_and_a_full_list_drop_rows_not_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observations, "MOST_BUFFERED", 10)
    one = writer(tmp_path)
    for number in range(3):
        one.append(answered(number, 4))
    assert (one.rows, one.dropped) == (8, 4)

    def full(file: int, parts: Sequence[bytes]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "writev", full)
        one.flush()
    assert (one.rows, one.dropped) == (0, 12)
    one.append(answered(4, 10))
    one.close()
    assert (one.rows, one.dropped) == (10, 12)
    assert SegmentReader(tmp_path).read() == [one_of(4, row) for row in range(10)]


def test_what_the_system_takes_by_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda file, parts: real(file, [b"".join(parts)[:100]]))
    one, rows = writer(tmp_path), [prediction(number) for number in range(1200)]
    for row in rows[:20]:
        one.append(row)
    one.flush()
    monkeypatch.setattr(os, "writev", real)
    for row in rows[20:]:
        one.append(row)
    one.close()
    assert (SegmentReader(tmp_path).read(), one.rows) == (rows, 1200)


def test_what_is_written_in_several_goes_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observations, "WRITE_BYTES", 1)
    one = writer(tmp_path)
    for number in range(5):
        one.append(answered(number, 2))
    one.close()
    assert SegmentReader(tmp_path).read() == [one_of(number, row) for number in range(5) for row in range(2)]


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("v1.1-8.000002.jsonl", ("v1.1-8", 2)),
        ("labels.000001.jsonl", ("labels", 1)),
        (".x.jsonl", None),
        ("a.jsonl", None),
    ],
)
def test_segment_names(name: str, parsed: object) -> None:
    assert parse_segment(name) == parsed
