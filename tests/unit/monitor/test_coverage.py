"""Label coverage and delay of groups of rows, against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate.monitor.coverage import TENTHS, labelled
from tidegate.monitor.join import Row
from tidegate.monitor.performance import Coverage
from tidegate.observations import Prediction


def row(number: int, score: float | None, outcome: str, delay: float | None, version: str = "v1") -> Row:
    at = float(number)
    origin = "JFK" if number % 2 else "EWR"
    found = Prediction(f"{number}/0", at, 0.0, version, "", "v1", 1.0, "r", score, score is None, 1.0, [origin])
    label_time = None if delay is None else at + delay
    return Row(found, outcome, 1.0 if outcome == "observed" else math.nan, label_time)


def drawn(count: int = 500) -> list[Row]:
    rng = np.random.default_rng(3)
    outcomes = rng.choice(["observed", "cancelled", "missing"], count, p=[0.7, 0.1, 0.2])
    delays = rng.exponential(100.0, count)
    return [
        row(
            number,
            None if number % 50 == 7 else float(np.round(rng.random(), 2)),
            str(outcome),
            None if outcome == "missing" else float(delay),
            "v2" if number % 5 == 0 else "v1",
        )
        for number, (outcome, delay) in enumerate(zip(outcomes, delays, strict=True))
    ]


def edges_of(rows: list[Row]) -> dict[str, list[float]]:
    versions = {one.prediction.version for one in rows}
    return {
        name: np.quantile(
            [
                one.prediction.score
                for one in rows
                if one.prediction.version == name and one.prediction.score is not None
            ],
            TENTHS,
        ).tolist()
        for name in versions
    }


def test_every_group_counts_its_rows() -> None:
    rows = drawn()
    edges = edges_of(rows)
    groups = labelled(iter(rows), edges, ["origin"], lambda one: (str(one.prediction.features[0]),))
    for group in groups:
        ours = [one for one in rows if one.prediction.version == group.version]
        if group.by == "origin":
            ours = [one for one in ours if one.prediction.features[0] == group.value]
        if group.by == "score":
            lower, upper = ([-1.0, *edges[group.version], 2.0][int(group.value) - 1 + more] for more in (0, 1))
            ours = [one for one in ours if one.prediction.score is not None and lower < one.prediction.score <= upper]
        counts = [sum(one.outcome == name for one in ours) for name in ("observed", "cancelled", "missing")]
        assert group.coverage == Coverage(len(ours), *counts)
        delays = [one.label_time - one.prediction.time for one in ours if one.label_time is not None]
        assert (group.delay_median, group.delay_p95) == pytest.approx(tuple(np.quantile(delays, [0.5, 0.95])))
    told = [(one.version, one.by, one.value) for one in groups]
    tenths = [str(number) for number in range(1, 11)]
    assert told == [
        (version, by, value)
        for version in ("v1", "v2")
        for by, values in (("version", [version]), ("origin", ["EWR", "JFK"]), ("score", tenths))
        for value in values
    ]


def test_a_group_without_labels_has_no_delay_and_equal_scores_are_one_tenth() -> None:
    rows = [row(number, 0.5, "missing", None) for number in range(3)]
    whole, tenth = labelled(rows, edges_of(rows))
    assert (whole.coverage.share, tenth.by, tenth.coverage.matured) == (0.0, "score", 3)
    assert math.isnan(whole.delay_median)
    assert labelled([], {}) == []
