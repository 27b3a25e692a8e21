"""The label join's rules, one by one."""

from __future__ import annotations

import math

from tidegate.monitor.join import LabelJoin
from tidegate.monitor.rows import evidence_columns, row_id
from tidegate.observations import Label, Prediction


def prediction(
    request: str, time: float = 0.0, version: str = "v1", arm: str | None = "v1", **rest: object
) -> Prediction:
    values = {"propensity": 0.75, "release": "r1", "score": 0.25, "error": False, "latency_ms": 3.0} | rest
    return Prediction(f"{request}/0", time, 0.0, version, "sha256:0", arm, features=[1.0], **values)  # type: ignore[arg-type]


def label(request: str, time: float, value: float | None = 1.0, metric: str | None = None) -> Label:
    return Label(request, time, 0.0, value, "cancelled" if value is None else "observed", metric)


def joined(predictions: list[Prediction], labels: list[Label], watermark: float = 1000.0) -> LabelJoin:
    join = LabelJoin(deadline=10.0)
    join.add_predictions(predictions)
    join.add_labels(labels)
    join.rows(watermark)
    return join


def test_an_id_without_a_number_means_the_first_row() -> None:
    assert [row_id(one) for one in ("a", "a/0", "a/3", "a/b")] == ["a/0", "a/0", "a/3", "a/b/0"]


def test_a_row_is_seen_first_and_matures_at_its_deadline() -> None:
    join = LabelJoin(deadline=10.0)
    join.add_predictions([prediction("a", 5.0)])
    join.add_labels([label("a", 7.0)])
    assert join.rows(4.9).seen == []
    seen = join.rows(5.0)
    assert [row.outcome for row in seen.seen] == ["pending"]
    assert math.isnan(seen.seen[0].loss)
    assert join.rows(14.9).matured == []
    ripe = join.rows(15.0).matured
    assert [(row.outcome, row.label, row.loss, row.label_time) for row in ripe] == [("observed", 1.0, 0.5625, 7.0)]
    assert join.rows(15.0).matured == []


def test_a_label_at_the_last_moment_counts_and_one_after_it_does_not() -> None:
    for time, outcome in ((10.0, "observed"), (10.1, "missing")):
        join = LabelJoin(deadline=10.0)
        join.add_predictions([prediction("a")])
        join.add_labels([label("a", time)])
        assert join.rows(50.0).matured[0].outcome == outcome
        assert join.counts.late == (outcome == "missing")


def test_the_newest_label_before_maturity_counts_and_later_corrections_are_counted() -> None:
    join = LabelJoin(deadline=10.0)
    join.add_predictions([prediction("a")])
    join.add_labels([label("a", 9.0, 0.0), label("a", 2.0, 1.0)])
    assert join.rows(10.0).matured[0].label == 0.0
    join.add_labels([label("a", 11.0, 1.0), label("a", 12.0, 0.0), label("a", 9.5, 1.0)])
    assert (join.counts.corrected_late, join.counts.behind, join.counts.late) == (1, 1, 0)
    assert join.rows(15.0).matured == []


def test_a_cancelled_request_leaves_the_loss_and_stays_counted() -> None:
    join = joined([prediction("a"), prediction("b")], [label("a", 1.0, None)])
    assert (join.counts.cancelled, join.counts.missing, join.counts.observed) == (1, 1, 0)


def test_a_mirrored_row_is_told_by_its_header_and_carries_propensity_one() -> None:
    join = LabelJoin(deadline=10.0)
    join.add_predictions([prediction("a"), prediction("a", version="v2"), prediction("b", arm=None, propensity=None)])
    join.add_labels([label("a", 1.0)])
    rows = join.rows(50.0).matured
    assert [(row.prediction.version, row.mirrored, row.outcome) for row in rows] == [
        ("v1", False, "observed"),
        ("v2", True, "observed"),
        ("v1", False, "missing"),
    ]
    assert [row.propensity for row in rows[:2]] == [0.75, 1.0]
    assert math.isnan(rows[2].propensity)
    columns = evidence_columns(rows, release="r1")
    assert columns["version"] == ["v1", "v2"]
    assert columns["propensity"].tolist() == [0.75, 1.0]
    assert evidence_columns(rows, release="r2")["time"].size == 0


def test_a_retry_counts_once_as_the_earlier_row() -> None:
    join = LabelJoin(deadline=10.0)
    join.add_predictions([prediction("a", 3.0), prediction("a", 1.0), prediction("a", 2.0)])
    assert [row.prediction.time for row in join.rows(50.0).seen] == [1.0]
    assert join.counts.repeated == 2


def test_business_metrics_are_joined_under_their_names() -> None:
    join = LabelJoin(deadline=10.0)
    join.add_predictions([prediction("a")])
    join.add_labels([label("a", 1.0, 40.0, "fuel"), label("a", 2.0, 50.0, "fuel"), label("a", 1.0, 3.0, "cost")])
    row = join.rows(50.0).matured[0]
    assert (row.outcome, row.metrics) == ("missing", (("cost", 3.0), ("fuel", 50.0)))


def test_a_failed_row_has_no_loss() -> None:
    join = LabelJoin(deadline=10.0)
    join.add_predictions([prediction("a", score=None, error=True)])
    join.add_labels([label("a", 1.0)])
    assert math.isnan(join.rows(50.0).matured[0].loss)


def test_memory_follows_the_open_rows_and_not_history() -> None:
    join = LabelJoin(deadline=10.0)
    for time in range(5000):
        join.add_predictions([prediction(f"p{time}", float(time))])
        join.add_labels([label(f"p{time}", time + 5.0), label(f"nobody{time}", float(time))])
        join.rows(float(time))
    assert len(join._slots) < 40
    assert len(join._labels) < 80
    assert join.known("p4999")
    assert not join.known("p0")
    assert join.counts.observed == 4990


def test_a_forgotten_label_of_an_unknown_request_takes_no_newer_one_with_it() -> None:
    join = LabelJoin(deadline=10.0, keep=5.0)
    join.add_labels([label("a", 0.0, 0.0), label("a", 20.0)])
    join.rows(26.0)
    join.add_predictions([prediction("a", 19.0)])
    assert [(row.outcome, row.label) for row in join.rows(50.0).matured] == [("observed", 1.0)]


def test_a_version_is_remembered_for_as_long_as_its_own_row() -> None:
    """Of two versions of one request the older one is forgotten; a repeat of the other is still known as one."""
    join = LabelJoin(deadline=10.0, keep=5.0)
    join.add_predictions([prediction("a", 0.0), prediction("a", 9.0, "v2")])
    assert len(join.rows(20.0).matured) == 2
    join.add_predictions([prediction("a", 9.0, "v2")])
    assert join.rows(23.0).matured == []
    assert join.counts.repeated == 1
    join.rows(100.0)
    assert not join.known("a")
