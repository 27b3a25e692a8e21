"""The stream: order, pairing, lateness, labels."""

from dataclasses import replace

import numpy as np
import pytest

from tidegate.observations import Label, Prediction
from tidegate.release.fold import EvidenceFold
from tidegate.release.logged import labels_of, rows_from_predictions
from tidegate.release.policy import JudgePolicy, Metric
from tidegate.release.rows import Labels, rows_of

POLICY = JudgePolicy(
    alpha=0.05,
    metrics=(Metric("loss", 0.005, "shadow", True), Metric("errors", 0.005, "split", False)),
    places=("shadow", "split"),
    label_deadline=100.0,
    block=50.0,
    slo_ms=50.0,
)


def served(time, request, arm=0, share=1.0, **more):
    return rows_of([time], [request], [arm], [share], **{name: [value] for name, value in more.items()})


def copied(time, request, arm=1, **more):
    return served(time, request, arm, 1.0, mirrored=True, **more)


def labels(*told):
    return Labels(np.array([t[1] for t in told], float), [t[0] for t in told], np.array([t[2] for t in told], float))


@pytest.mark.parametrize("turned", [False, True])
def test_a_pair_counts_once_both_rows_are_there_whatever_came_first(turned):
    fold = EvidenceFold(POLICY)
    first, second = served(1, "q", score=0.5), copied(1, "q", score=0.7, error=True)
    rows = (second, first) if turned else (first, second)
    fold.add(rows[0])
    assert fold.advance(10).at("shadow").counts.requests == 0
    fold.add(rows[1])
    stats = fold.advance(10).at("shadow")
    assert stats.counts.requests == 1
    assert stats.state("errors").S == 1.0


def test_the_loss_of_a_pair_waits_for_its_maturity_and_is_the_difference_of_brier_scores():
    fold = EvidenceFold(POLICY)
    fold.add(served(1, "q", score=0.5))
    fold.add(copied(1, "q", score=0.7))
    fold.label(labels(("q", 60, 1.0)))
    assert fold.advance(100).at("shadow").state("loss").n == 0
    stats = fold.advance(101).at("shadow")
    assert pytest.approx(0.09 - 0.25) == stats.state("loss").S
    assert stats.blocks["loss"][0][0] == 1


def test_a_request_without_its_copy_is_the_challengers_error_at_maturity():
    fold = EvidenceFold(POLICY)
    fold.add(served(1, "q", latency_ms=10.0))
    assert fold.advance(100).at("shadow").state("errors").n == 0
    stats = fold.advance(101).at("shadow")
    assert (stats.counts.missing, stats.counts.requests, stats.state("errors").S) == (1, 1, 1.0)
    assert stats.state("latency").S == 1.0
    fold.add(copied(1, "q"))
    assert fold.advance(300).at("shadow").state("errors").n == 1, "a copy after maturity does not count again"
    assert fold.advance(300).at("shadow").counts.orphans == 1


def test_in_the_watch_a_silent_old_champion_says_nothing_about_the_new_one():
    fold = EvidenceFold(POLICY)
    fold.add(served(1, "q", arm=1, error=True))
    stats = fold.advance(500).at("watch")
    assert (stats.counts.missing, stats.state("errors").n) == (1, 0)


def test_in_the_watch_the_difference_keeps_its_sign():
    fold = EvidenceFold(POLICY)
    fold.add(served(1, "q", arm=1, error=True))
    fold.add(copied(1, "q", arm=0))
    assert fold.advance(5).at("watch").state("errors").S == 1.0


def test_split_errors_are_folded_at_the_watermark_and_the_loss_at_maturity():
    fold = EvidenceFold(POLICY)
    fold.add(served(1, "a", arm=1, share=0.25, score=0.5, latency_ms=70.0))
    fold.add(served(2, "b", arm=0, share=0.75, score=0.5))
    fold.label(labels(("a", 3, 1.0), ("b", 4, 0.0)))
    stats = fold.advance(2).at("split")
    assert (stats.state("errors").n, stats.state("loss").n, stats.counts.by_weight) == (2, 0, {"0.25": 2})
    assert pytest.approx(0.75 - 0.25 * -1.0) == stats.state("latency").S
    assert fold.advance(101).at("split").state("loss").n == 1
    assert fold.advance(102).at("split").state("loss").n == 2


def test_rows_beyond_the_watermark_wait():
    fold = EvidenceFold(POLICY)
    fold.add(served(9, "a", arm=1, share=0.5))
    assert fold.advance(8).places == {}
    assert fold.advance(9).at("split").counts.requests == 1


def test_a_row_behind_the_watermark_is_folded_next_and_counted():
    fold = EvidenceFold(POLICY)
    fold.add(served(9, "a", arm=1, share=0.5))
    fold.advance(10)
    fold.add(served(5, "b", arm=0, share=0.5))
    counts = fold.advance(11).at("split").counts
    assert (counts.requests, counts.late) == (2, 1)


def test_a_second_row_of_one_request_and_arm_counts_once():
    fold = EvidenceFold(POLICY)
    for _ in range(2):
        fold.add(served(1, "a", arm=1, share=0.5))
    fold.advance(5)
    fold.add(served(1, "a", arm=1, share=0.5))
    assert fold.advance(6).at("split").counts.requests == 1


def test_a_label_is_judged_as_it_stood_at_maturity():
    fold = EvidenceFold(POLICY)
    fold.add(served(1, "a", arm=1, share=0.5, score=0.0))
    fold.label(labels(("a", 50, 1.0), ("a", 90, 0.0), ("a", 150, 1.0)))
    evidence = fold.advance(200)
    assert evidence.at("split").state("loss").sum_y == 0.0
    assert evidence.late_labels == 1


def test_a_label_after_the_deadline_is_missing_and_a_cancelled_one_is_not():
    fold = EvidenceFold(POLICY)
    fold.add(served(1, "a", arm=1, share=0.5, score=0.2))
    fold.add(served(2, "b", arm=0, share=0.5, score=0.2))
    fold.label(labels(("a", 150, 1.0), ("b", 50, np.nan)))
    stats = fold.advance(200).at("split")
    assert stats.state("loss").n == 0
    assert (stats.counts.unlabelled_challenger, stats.counts.unlabelled_champion, stats.counts.cancelled) == (1, 0, 1)
    assert stats.state("sample_ratio_labels").n == 1


def test_unknown_labels_are_dropped_in_the_end():
    fold = EvidenceFold(POLICY)
    fold.label(labels(*[(f"x{i}", 1.0, 0.0) for i in range(1500)]))
    assert fold.advance(500).late_labels == 1500


def prediction(**more):
    base = dict(
        request_id="q", time=1.0, wall=1.0, version="v1", digest="d", arm="v1", propensity=0.5, release="r", score=0.4,
        error=False, latency_ms=3.0, features=[],
    )  # fmt: skip
    return Prediction(**{**base, **more})


def test_rows_of_the_log_that_are_no_evidence_are_left_out():
    found = [
        prediction(),
        prediction(version="v2", propensity=0.5, arm="v1"),
        prediction(arm=None),
        prediction(release="other"),
        prediction(version="v9", arm="v9"),
        prediction(propensity=None),
        prediction(propensity=0.0),
    ]
    rows = rows_from_predictions(found, "r", "v1", "v2")
    assert rows.arm.tolist() == [0, 1]
    assert rows.mirrored.tolist() == [False, True]
    assert rows.propensity.tolist() == [0.5, 1.0]


def test_labels_come_by_metric_and_metrics_that_nobody_asked_for_are_left_out():
    told = [Label("q", 1.0, 1.0, 1.0, "observed"), Label("q", 1.0, 1.0, 5.0, "observed", metric="cost")]
    told += [Label("p", 1.0, 1.0, None, "cancelled"), Label("q", 1.0, 1.0, 5.0, "observed", metric="clicks")]
    outcome, cost = labels_of(told, ["cost"])
    assert list(outcome.request_id) == ["q", "p"]
    assert np.isnan(outcome.value[1])
    assert (cost.metric, cost.value.tolist()) == ("cost", [5.0])
    assert [found.metric for found in labels_of(told)] == [""]


def test_a_row_that_a_cookie_sent_is_no_observation_of_its_own():
    found = [prediction(), prediction(request_id="p", returning=True), prediction(request_id="r", endpoint="rank")]
    assert rows_from_predictions(found, "r", "v1", "v2").request_id.tolist() == ["q"]


def test_of_more_than_two_arms_the_propensity_is_that_between_the_two():
    weights = "v1=0.5,v2=0.3,v3=0.2"
    found = [
        prediction(propensity=0.5, weights=weights),
        prediction(request_id="b", version="v2", arm="v2", propensity=0.3, weights=weights),
        prediction(request_id="c", version="v3", arm="v3", propensity=0.2, weights=weights),
        prediction(request_id="d", propensity=0.5, weights="v1=1.0"),
        prediction(request_id="e", propensity=0.5, weights="nonsense"),
    ]
    rows = rows_from_predictions(found, "r", "v1", "v2")
    assert rows.request_id.tolist() == ["q", "b"]
    assert rows.propensity.tolist() == pytest.approx([0.625, 0.375])


def test_the_values_of_a_slice_are_checks_in_the_order_in_which_they_are_seen():
    fold = EvidenceFold(replace(POLICY, slices=("origin",)))
    rows = [("a", 3, "JFK"), ("b", 1, "LGA"), ("c", 2, "JFK")]
    for name, time, origin in rows:
        fold.add(rows_of([time], [name], [1], [0.5], score=[0.5], groups=[[origin]]))
    fold.label(labels(*[(name, time, 1.0) for name, time, _ in rows]))
    stats = fold.advance(200).at("split")
    assert [check for check in stats.states if "[" in check] == ["loss[origin=LGA]", "loss[origin=JFK]"]
    assert stats.state("loss[origin=JFK]").n == 2


def test_a_slice_of_very_many_values_has_one_check_for_the_rest():
    fold, size = EvidenceFold(replace(POLICY, slices=("tail",))), 80
    ids = [f"q{i}" for i in range(size)]
    fold.add(rows_of(range(size), ids, [1] * size, [0.5] * size, score=[0.5] * size, groups=[ids]))
    fold.label(labels(*[(name, 1, 1.0) for name in ids]))
    states = fold.advance(500).at("split").states
    assert sum("[" in check for check in states) == 51
    assert states["loss[tail: others]"].n == 30
