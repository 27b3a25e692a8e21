"""The join in SQL gives what `LabelJoin` gives, on any history, in one step or in many."""

from __future__ import annotations

import json
import math
import random
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.naive_join import DEADLINE, END, Arriving, arriving, naive
from tidegate.monitor import history as parts_of
from tidegate.monitor.history import History
from tidegate.monitor.join import LabelJoin
from tidegate.monitor.rows import Row, row_id
from tidegate.observations import Label, Prediction, SegmentWriter

COUNTS = ("repeated", "observed", "cancelled", "missing", "late", "corrected_late", "labels", "predictions")


def prediction(
    request: str, time: float, version: str, wall: float, score: float | None, arm: str | None
) -> Prediction:
    return Prediction(
        f"{request}/0", time, wall, version, "sha256:0", arm, 0.5, "r1", score, score is None, 3.0, [1.0, "a", None]
    )


requests = st.sampled_from(["a", "b", "c'd", "e", "f"])
times = st.integers(0, 30).map(float)
walls = st.integers(0, 2).map(float)
scores = st.sampled_from([0.25, 0.75, None])
predictions = st.builds(
    prediction, requests, times, st.sampled_from(["v1", "v2"]), walls, scores, st.sampled_from(["v1", None])
)
labels = st.builds(
    lambda request, time, wall, value, metric: Label(
        row_id(request), time, wall, value, "cancelled" if value is None else "observed", metric
    ),
    st.sampled_from(["a", "b", "c'd", "e", "f", "unknown"]),
    times,
    walls,
    st.sampled_from([0.0, 1.0, None]),
    st.sampled_from([None, None, None, "fuel", "fare"]),
)
histories = st.tuples(st.lists(predictions, max_size=12), st.lists(labels, max_size=12))


class Log:
    """A log's two folders, written in as many parts as are given, and the history joined from it."""

    def __init__(self, folder: Path, keep: float | None = None) -> None:
        self.folders = (folder / "predictions", folder / "labels")
        self.writers = [SegmentWriter(one, "w", background=False) for one in self.folders]
        self.history = History(folder / "joined", DEADLINE, keep)

    def write(self, found: list[Prediction], told: list[Label]) -> None:
        for writer, records in zip(self.writers, (found, told), strict=True):
            for record in records:
                writer.append(record)
            writer.flush()

    def rows(self) -> list[tuple[Any, ...]]:
        found = [row for path in self.history.files() for row in pq.read_table(path).to_pylist()]
        return [_plain(row) for row in found]


def _plain(row: dict[str, Any]) -> tuple[Any, ...]:
    metrics = tuple((name, str(value)) for name, value in row["metrics"] or ())
    kept = (row["time"], row["request_id"], row["version"], row["wall"], row["arm"], row["score"], row["error"])
    return (*kept, json.loads(row["features"]), row["outcome"], row["label"], row["label_time"], metrics)


def plain(row: Row) -> tuple[Any, ...]:
    one = row.prediction
    kept = (one.time, one.request_id, one.version, one.wall, one.arm, one.score, one.error)
    label = None if math.isnan(row.label) else row.label
    metrics = tuple((name, str(value)) for name, value in row.metrics)
    return (*kept, one.features, row.outcome, label, row.label_time, metrics)


@settings(max_examples=20, deadline=None)
@given(histories, st.randoms(use_true_random=False))
def test_one_step_gives_what_the_join_in_memory_gives(
    history: tuple[list[Prediction], list[Label]], chance: random.Random
) -> None:
    found, told = history[0], history[1] + history[1][: len(history[1]) // 2]
    chance.shuffle(told)
    join = LabelJoin(DEADLINE, keep=1e9)
    join.add_predictions(found)
    join.add_labels(told)
    rows = [plain(row) for row in join.rows(END).matured]
    with tempfile.TemporaryDirectory() as made:
        log = Log(Path(made), keep=1e9)
        log.write(found, told)
        counts = log.history.update(*log.folders, until=END)
        assert log.rows() == rows
    assert {name: counts[name] for name in COUNTS} == {name: getattr(join.counts, name) for name in COUNTS}
    ids = {one.request_id for one in found}
    assert counts["unknown"] == sum(label.request_id not in ids for label in told)


@settings(max_examples=12, deadline=None)
@given(histories, st.lists(times, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_steps_at_any_watermarks_give_what_the_join_in_memory_gives(
    history: tuple[list[Prediction], list[Label]], watermarks: list[float], chance: random.Random
) -> None:
    """Rows and labels come in any order, also behind the watermark; every row matures once, in order in its step."""
    join = LabelJoin(DEADLINE, keep=1e9)
    parts = [([], []) for _ in range(len(watermarks) + 1)]
    for kind in (0, 1):
        for one in history[kind]:
            parts[chance.randrange(len(parts))][kind].append(one)
    with tempfile.TemporaryDirectory() as made:
        log, rows = Log(Path(made), keep=1e9), []
        for (found, told), watermark in zip(parts, [*watermarks, END], strict=True):
            join.add_predictions(found)
            join.add_labels(told)
            rows += [plain(row) for row in join.rows(watermark).matured]
            log.write(found, told)
            log.history.update(*log.folders, until=watermark)
            assert log.rows() == rows
        total = log.history.manifest.counts
    names = [*COUNTS, "behind"] if _first_comes_first(parts) else COUNTS
    assert {name: total[name] for name in names} == {name: getattr(join.counts, name) for name in names}


def _first_comes_first(parts: list[tuple[list[Prediction], list[Label]]]) -> bool:
    """Whether no row is repeated: `behind` counts a repeated row by the one that came first."""
    keys = [(one.request_id, one.version) for found, _ in parts for one in found]
    return len(keys) == len(set(keys))


def _joined(arrived: Arriving, keep: float) -> tuple[list[tuple[Any, ...]], dict[str, int]]:
    """The rows after all steps, in order, as the naive join tells them; and the counts."""
    with tempfile.TemporaryDirectory() as made:
        log = Log(Path(made), keep)
        for watermark, found, told in arrived:
            log.write(found, told)
            log.history.update(*log.folders, until=watermark)
        rows = [(*row[:3], row[-4], row[-3], repr(_metrics(row[-1]))) for row in log.rows()]
        return sorted(rows), log.history.manifest.counts


def _metrics(told: tuple[tuple[str, str], ...]) -> tuple[tuple[str, float | None], ...]:
    return tuple((name, None if value == "nan" else float(value)) for name, value in told)


@settings(max_examples=20, deadline=None)
@given(histories, st.sampled_from([(), (-1.0,), (-1.0, 3.0)]), st.randoms(use_true_random=False))
def test_every_order_gives_the_naive_join(
    history: tuple[list[Prediction], list[Label]], watermarks: tuple[float, ...], chance: random.Random
) -> None:
    """Late, doubled, corrected, missing, in any order and in up to three steps, as long as nothing comes behind."""
    found, told = history[0], history[1] + history[1][: len(history[1]) // 2]
    mixed = [(chance.randrange(len(watermarks) + 1), one) for one in [*found, *told]]
    chance.shuffle(mixed)
    arrived: Arriving = [(watermark, [], []) for watermark in (*watermarks, END)]
    for at, one in mixed:
        after = sum(watermark >= one.time for watermark in watermarks)
        arrived[min(at, len(watermarks) - after)][1 + isinstance(one, Label)].append(one)
    rows, counts = _joined(arrived, keep=1e9)
    assert rows == naive(found, told)
    assert counts["behind"] == 0
    assert counts["repeated"] == len(found) - len(rows)


@settings(max_examples=12, deadline=None)
@given(
    histories,
    st.lists(st.integers(0, 60).map(float), max_size=4),
    st.sampled_from([0.0, 5.0]),
    st.randoms(use_true_random=False),
)
def test_forgetting_and_merging_parts_change_nothing_for_what_comes_within_keep(
    history: tuple[list[Prediction], list[Label]], watermarks: list[float], keep: float, chance: random.Random
) -> None:
    arrived = arriving(*history, watermarks, keep, chance)
    rows, counts = _joined(arrived, keep=1e9)
    few, parts_of.FEW = parts_of.FEW, 1
    try:
        again, forgetful = _joined(arrived, keep)
    finally:
        parts_of.FEW = few
    assert again == rows
    assert forgetful["repeated"] == counts["repeated"]
    keys = {(one.request_id, one.version) for _, found, _ in arrived for one in found}
    assert sorted(row[1:3] for row in rows) == sorted(keys)
