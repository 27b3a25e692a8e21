"""Which logged rows are scored again: the newest of the version, whoever wrote them."""

from __future__ import annotations

import os

from tidegate.observations import Prediction, SegmentWriter, read_segment
from tidegate.serve import batch_parity
from tidegate.serve.batch_parity import newest


def row(number: int, digest: str = "d", **other) -> Prediction:
    plain = Prediction(f"r{number}/0", 1.0, float(number), "v1", digest, None, None, None, 0.5, False, 1.0, [1.0])
    return Prediction(**{**{name: getattr(plain, name) for name in Prediction.__struct_fields__}, **other})


def test_the_newest_rows_of_the_version_are_taken_and_old_segments_not_even_read(tmp_path, monkeypatch):
    read: list[str] = []
    for age, (writer, numbers) in enumerate({"c": range(20, 26), "b": range(10, 16), "a": range(6)}.items()):
        segments = SegmentWriter(tmp_path, writer, background=False)
        for number in numbers:
            segments.append(row(number))
        segments.append(row(99, "other"))
        segments.append(row(98, score=None, error=True))
        segments.append(row(97, features=[]))
        segments.close()
        os.utime(tmp_path / f"{writer}.000001.jsonl", (1e9 - age, 1e9 - age))
    assert [one.wall for one in newest(tmp_path, "d", 100)] == [*range(6), *range(10, 16), *range(20, 26)]
    monkeypatch.setattr(batch_parity, "read_segment", lambda path: read.append(path.name) or read_segment(path))
    assert [one.wall for one in newest(tmp_path, "d", 8)] == [14, 15, *range(20, 26)]
    assert read == ["c.000001.jsonl", "b.000001.jsonl"]
    assert newest(tmp_path / "absent", "d", 8) == []


def test_a_torn_line_and_what_is_no_record_are_passed_over(tmp_path):
    segments = SegmentWriter(tmp_path, "a", background=False)
    segments.append(row(1))
    segments.flush()
    with (tmp_path / "a.000001.jsonl").open("a") as file:
        file.write('{"no": "record"}\n{"t":"p","request_id":"to')
    assert [one.wall for one in newest(tmp_path, "d", 5)] == [1.0]
    segments.close()
