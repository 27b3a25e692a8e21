"""Every order of late, doubled, corrected and missing labels gives the same join, equal to a naive one."""

from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.naive_join import DEADLINE, END, arriving, naive
from tidegate.monitor.join import Joined, LabelJoin, Row
from tidegate.observations import Label, Prediction


def prediction(request: str, time: float, version: str = "v1", wall: float = 0.0) -> Prediction:
    return Prediction(
        f"{request}/0", time, wall, version, "sha256:0", "v1", 0.5, "r1", 0.25, False, 3.0, [1.0, "a", None]
    )


requests = st.sampled_from("abcdef")
times = st.integers(0, 30).map(float)
predictions = st.builds(prediction, requests, times, st.sampled_from(["v1", "v2"]), st.integers(0, 3).map(float))
labels = st.builds(
    lambda request, time, wall, value, metric: Label(
        request, time, wall, value, "cancelled" if value is None else "observed", metric
    ),
    st.sampled_from("abcdefx"),
    times,
    st.integers(0, 3).map(float),
    st.sampled_from([0.0, 1.0, None]),
    st.sampled_from([None, None, None, "fuel"]),
)


def plain(rows: list[Row]) -> list[tuple[object, ...]]:
    return [
        (
            row.prediction.time,
            row.prediction.request_id,
            row.prediction.version,
            row.outcome,
            None if math.isnan(row.label) else row.label,
            repr(tuple((name, None if math.isnan(value) else value) for name, value in row.metrics)),
        )
        for row in rows
    ]


@settings(max_examples=300, deadline=None)
@given(st.lists(predictions, max_size=12), st.lists(labels, max_size=12), st.randoms(use_true_random=False))
def test_every_order_gives_the_same_join(found: list[Prediction], told: list[Label], chance: random.Random) -> None:
    told = told + told[: len(told) // 2]
    mixed: list[Prediction | Label] = [*found, *told]
    chance.shuffle(mixed)
    join = LabelJoin(DEADLINE)
    for one in mixed:
        join.add_predictions([one]) if isinstance(one, Prediction) else join.add_labels([one])
    assert plain(join.rows(END).matured) == naive(found, told)


@settings(max_examples=300, deadline=None)
@given(st.lists(predictions, max_size=12), st.lists(labels, max_size=12), st.randoms(use_true_random=False))
def test_batches_that_keep_the_watermark_give_the_same_join(
    found: list[Prediction], told: list[Label], chance: random.Random
) -> None:
    """Rows and labels come as late as the watermark lets them; each row is seen once and matures once, in order."""
    join = LabelJoin(DEADLINE, keep=1e9)
    arriving = sorted([(one.time, chance.random(), one) for one in [*found, *told]], key=lambda item: item[:2])
    moved: list[Joined] = []
    for time, _, one in arriving:
        moved.append(join.rows(time - 0.5))
        join.add_predictions([one]) if isinstance(one, Prediction) else join.add_labels([one])
    moved.append(join.rows(END))
    seen = [
        (row.prediction.time, row.prediction.request_id, row.prediction.version) for one in moved for row in one.seen
    ]
    matured = [row for one in moved for row in one.matured]
    assert sorted(plain(matured)) == naive(found, told)
    assert plain(matured) == naive(found, told)
    assert seen == [row[:3] for row in naive(found, told)]
    assert join.counts.behind == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(predictions, max_size=12), st.lists(labels, max_size=12), st.lists(times, max_size=8))
def test_behind_the_watermark_a_row_is_still_folded_once(
    found: list[Prediction], told: list[Label], watermarks: list[float]
) -> None:
    join = LabelJoin(DEADLINE, keep=1e9)
    join.add_labels(told)
    rows = [join.rows(watermark) for watermark in watermarks[:4]]
    for one in found:
        join.add_predictions([one])
        rows += [join.rows(watermark) for watermark in watermarks[4:]]
    rows.append(join.rows(END))
    keys = [(row.prediction.request_id, row.prediction.version) for one in rows for row in one.matured]
    assert sorted(keys) == sorted({(one.request_id, one.version) for one in found})
    assert len([row for one in rows for row in one.seen]) == len(keys)
    for one in rows:
        order = [(row.prediction.time, row.prediction.request_id, row.prediction.version) for row in one.matured]
        assert order == sorted(order)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.builds(prediction, st.sampled_from("ab"), times, st.sampled_from(["v1", "v2", "v3"])), max_size=12),
    st.lists(st.builds(Label, st.sampled_from("ab"), times, times, st.just(1.0), st.just("observed")), max_size=6),
    st.lists(st.integers(0, 60).map(float), max_size=6),
    st.sampled_from([0.0, 5.0, 15.0]),
    st.randoms(use_true_random=False),
)
def test_forgetting_changes_nothing_for_what_comes_within_keep(
    found: list[Prediction], told: list[Label], watermarks: list[float], keep: float, chance: random.Random
) -> None:
    forgetful, remembering = LabelJoin(DEADLINE, keep=keep), LabelJoin(DEADLINE, keep=1e9)
    for watermark, rows, answers in arriving(found, told, watermarks, keep, chance):
        moved = []
        for join in (forgetful, remembering):
            join.add_predictions(rows)
            join.add_labels(answers)
            moved.append(join.rows(watermark))
        assert plain(moved[0].matured) == plain(moved[1].matured)
    assert forgetful.counts.repeated == remembering.counts.repeated
    forgetful.rows(2 * END)
    assert not forgetful._slots
    assert not forgetful._labels
