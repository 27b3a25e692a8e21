"""A request of many rows is one observation: its rows share the draw and most of the world."""

import numpy as np
import pytest

from tidegate.observations import Label, Prediction
from tidegate.release.fold import EvidenceFold
from tidegate.release.judge import judge
from tidegate.release.logged import labels_of, part_of, rows_from_predictions
from tidegate.release.policy import JudgePolicy, Metric
from tidegate.release.rows import Labels, rows_of
from tidegate.release.units import Requests, by_request

POLICY = JudgePolicy(
    alpha=0.05,
    metrics=(Metric("loss", 0.05, "split", True), Metric("errors", 0.05, "split", False)),
    places=("split",),
    label_deadline=100.0,
    slices=("origin",),
)


def test_rows_of_one_request_are_its_mean_in_the_log_as_the_service_writes_it():
    def row(number, score, features):
        return Prediction(
            f"q/{number}", 1.0, 1.0, "v2", "sha256:b", "v2", 0.5, "r", score, False, 5.0, features, None
        )  # fmt: skip

    log = [row(0, 0.2, ["E"]), row(1, 0.6, ["E"]), row(2, 0.9, ["J"]), row(10, 0.4, ["J"])]
    fold = EvidenceFold(POLICY)
    fold.add(rows_from_predictions(log, "r", "v1", "v2", [lambda one: one.features[0]]))
    told = [Label(one.request_id, 50.0, 50.0, 1.0, "observed") for one in log[:3]]
    fold.label(labels_of(told)[0])
    stats = fold.advance(200).at("split")
    counts = stats.counts
    assert (counts.requests, counts.challenger, counts.matured, counts.unlabelled_challenger) == (1, 1, 1, 0)
    assert {name: state.n for name, state in stats.states.items()} == {
        "errors": 1, "sample_ratio": 1, "sample_ratio_labels": 1, "loss": 1, "loss[origin=E]": 1, "loss[origin=J]": 1,
    }  # fmt: skip
    assert stats.state("loss").sum_y == pytest.approx((0.64 + 0.16 + 0.01) / 3)
    assert stats.state("loss[origin=E]").sum_y == pytest.approx(0.4)
    assert stats.state("loss[origin=J]").sum_y == pytest.approx(0.01)


def test_a_row_that_comes_late_by_itself_does_not_count_its_request_again():
    fold = EvidenceFold(POLICY)
    for part in (0, 1):
        fold.add(rows_of([1.0], [f"q/{part}"], [1], [0.5], loss=[0.5], part=[part], groups=[["E"]]))
        stats = fold.advance(200 + part).at("split")
    assert (stats.counts.requests, stats.counts.late, stats.state("loss").n) == (1, 1, 1)


@pytest.mark.parametrize(("row", "part"), [("q/0", 0), ("q/1", 1), ("q/10", 10), ("a/b/20", 20), ("q", 0), ("q/x", 0)])
def test_the_place_of_a_row_stands_in_its_id(row, part):
    assert part_of(row) == part


def test_single_rows_cost_nothing():
    rows = rows_of([1.0, 2.0], ["a/0", "b/0"], [0, 1], [0.5, 0.5])
    same, of = by_request(rows)
    assert same is rows
    assert of == Requests() or of.number is None
    assert of.mean(rows.time) is rows.time


def fooled(runs, as_one, requests=150, size=20):
    """How many A/A releases are aborted or held for their ratio when rows share the world of their request."""
    rng, found = np.random.default_rng(1), 0
    for _ in range(runs):
        world, arms = np.repeat(rng.random(requests), size), np.repeat(rng.integers(0, 2, requests), size)
        late, half = (rng.random(len(world)) < world).astype(float), np.full(len(world), 0.5)
        ids = [f"{number:04}/{part}" for number in range(requests) for part in range(size)]
        time = np.repeat(np.arange(requests, dtype=float), size)
        parts = list(range(size)) * requests if as_one else None
        fold = EvidenceFold(POLICY)
        fold.add(rows_of(time, ids, arms, half, score=0.2 * half, part=parts, groups=[["E"] * len(ids)]))
        fold.label(Labels(time + 1, ids, late))
        looks = [fold.advance(100.0 + seen).at("split") for seen in range(25, requests + 1, 25)]
        told = [judge(POLICY, stats, now=1e4, opened=0.0, place="split") for stats in looks]
        found += any(one.verdict == "abort" or one.reason == "sample_ratio" for one in told)
    return found


def test_counted_row_by_row_an_equal_challenger_would_be_stopped():
    assert fooled(30, as_one=False) > 10
    assert fooled(30, as_one=True) <= 2
