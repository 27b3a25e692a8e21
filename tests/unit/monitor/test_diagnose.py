"""Diagnosis on flights-like rows whose days differ, and on independent rows: false alarms and planted causes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from tidegate.errors import UserError
from tidegate.monitor.concept import platt
from tidegate.monitor.diagnose import ACTION_BENIGN, ACTIONS, ORDER, diagnose, window_of
from tidegate.monitor.drift import Window
from tidegate.monitor.join import Row
from tidegate.observations import Prediction

CARRIERS = np.array(["UA", "B6", "DL", "EV", "AA"], object)


def flights(days: int, rng: np.random.Generator, rows: int = 120, first: int = 0, by_day: bool = True) -> Window:
    """Rows like flights: weather shared by a day, which lasts into the next, lateness that the day moves, a weekly
    cycle. A fitted model would know x and not the day's own lateness, so that is not in the score."""
    number = days * rows
    weather = np.zeros(days)
    for day in range(1, days):
        weather[day] = 0.6 * weather[day - 1] + 0.8 * rng.normal()
    at = np.repeat(np.arange(days), rows)
    hour = rng.integers(6, 22, number).astype(float)
    carrier = CARRIERS[rng.choice(5, number, p=[0.3, 0.25, 0.2, 0.15, 0.1])]
    temp = 60 + 15 * weather[at] + rng.normal(0, 4, number)
    delay = np.where(rng.random(number) < 0.1, math.nan, rng.exponential(10, number))
    log_odds = -2 + 0.08 * (hour - 14) + 0.3 * (carrier == "EV") + 0.02 * np.nan_to_num(delay) + 0.4 * weather[at]
    score = 1 / (1 + np.exp(-log_odds))
    label = (rng.random(number) < 1 / (1 + np.exp(-log_odds - 0.4 * rng.normal(size=days)[at]))).astype(float)
    features = {"hour": hour, "temp": temp, "delay": delay, "weekday": (at % 7).astype(float), "carrier": carrier}
    return Window(features, score, label, at + first if by_day else None)


def with_feature(window: Window, name: str, column: np.ndarray) -> Window:
    return dataclasses.replace(window, features={**window.features, name: column})


def unseen(window: Window, rng: np.random.Generator) -> Window:
    return with_feature(window, "carrier", np.where(rng.random(len(window)) < 0.15, "ZZ", window.features["carrier"]))


def evening(window: Window, rng: np.random.Generator) -> Window:
    return window.take(rng.random(len(window)) < np.where(window.features["hour"] > 15, 1.0, 0.2))


def always_late(window: Window, rng: np.random.Generator) -> Window:
    return dataclasses.replace(window, label=np.where(rng.random(len(window)) < 0.5, 1.0, window.label))


def backwards(window: Window, rng: np.random.Generator) -> Window:
    at = window.features["carrier"] == "UA"
    return dataclasses.replace(window, label=np.where(at, 1 - window.label, window.label))


def selected(window: Window, rng: np.random.Generator) -> Window:
    known = rng.random(len(window)) < np.where(window.score > np.median(window.score), 0.9, 0.4)
    return dataclasses.replace(window, label=np.where(known, window.label, math.nan), known=known)


def at_random(window: Window, rng: np.random.Generator) -> Window:
    known = rng.random(len(window)) < 0.6
    return dataclasses.replace(window, label=np.where(known, window.label, math.nan), known=known)


def stale(window: Window, rng: np.random.Generator) -> Window:
    wrong = np.where(rng.random(len(window)) < 0.03, 1.5, window.features["temp"])
    return dataclasses.replace(with_feature(window, "temp", wrong), recomputed=window.features)


def untouched(window: Window, rng: np.random.Generator) -> Window:
    return dataclasses.replace(window, recomputed=window.features)


def test_ordinary_weeks_do_not_alarm() -> None:
    """Weeks after 60 days of reference, days correlated as weather is; `make diagnosis-report` looks at a thousand."""
    rng = np.random.default_rng(11)
    alarms = Counter()
    for _ in range(15):
        year = flights(67, rng)
        found = diagnose(year.take(year.day < 60), year.take(year.day >= 60))
        alarms[found.finding] += 1
    assert alarms == {"none": 15}


@pytest.mark.parametrize(
    ("cause", "finding", "least"),
    [
        (untouched, "none", 3),
        (at_random, "none", 3),
        (stale, "skew", 3),
        (selected, "selective_labels", 3),
        (unseen, "domain_shift", 3),
        (always_late, "concept_drift", 3),
        (backwards, "concept_drift", 3),
        (evening, "data_drift", 3),
    ],
)
def test_a_planted_cause_is_named(
    cause: Callable[[Window, np.random.Generator], Window], finding: str, least: int
) -> None:
    rng = np.random.default_rng(3)
    named = 0
    for _ in range(3):
        year = flights(81, rng)
        found = diagnose(year.take(year.day < 60), cause(year.take(year.day >= 60), rng))
        named += found.finding == finding
    assert named >= least


def test_independent_rows_do_not_alarm_and_a_large_change_is_named() -> None:
    rng = np.random.default_rng(4)
    calm = Counter()
    for _ in range(8):
        rows = flights(1, rng, 8000, by_day=False)
        order = rng.permutation(8000)
        calm[diagnose(rows.take(order[:6000]), rows.take(order[6000:])).finding] += 1
    assert calm == {"none": 8}
    rows = flights(1, rng, 8000, by_day=False)
    assert (
        diagnose(rows.take(slice(0, 6000)), always_late(rows.take(slice(6000, None)), rng)).finding == "concept_drift"
    )


def test_rows_served_in_single_precision_are_not_another_distribution() -> None:
    rng = np.random.default_rng(5)
    rows = flights(1, rng, 10_000, by_day=False)
    rows = with_feature(rows, "wind", rng.integers(0, 12, len(rows)) * 1.15078)
    reference, current = rows.take(slice(0, 6000)), rows.take(slice(6000, None))
    served = {n: c if c.dtype.kind == "O" else c.astype(np.float32) for n, c in current.features.items()}
    found = diagnose(reference, dataclasses.replace(current, features=served, recomputed=current.features))
    assert found.finding == "none"


def test_where_the_rows_cannot_tell_it_says_so() -> None:
    rng = np.random.default_rng(6)
    year = flights(70, rng)
    reference = year.take(year.day < 60)
    few_days = diagnose(reference, year.take(year.day >= 65))
    assert few_days.finding == "not_assessable"
    assert dict(few_days.not_assessable)["data_drift"] == "5 days, fewer than 7"
    thin = diagnose(reference, year.take(np.flatnonzero(year.day >= 60)[::10]))
    assert dict(thin.not_assessable)["concept_drift"] == "120 rows, fewer than 200"
    short = diagnose(year.take(year.day < 20), year.take(year.day >= 60))
    assert dict(short.not_assessable)["domain_shift"] == "20 days of reference, fewer than 21"
    blind = year.take(year.day >= 60)
    blind = dataclasses.replace(blind, label=np.full(len(blind), math.nan))
    found = diagnose(reference, blind)
    assert (found.finding, found.loss["observed"]) == ("not_assessable", None)
    assert dict(found.not_assessable).keys() == {"skew", "concept_drift"}
    assert diagnose(reference, year.take([])).finding == "not_assessable"


def test_several_causes_are_listed_in_naming_order_and_the_first_is_the_finding() -> None:
    rng = np.random.default_rng(8)
    year = flights(81, rng)
    found = diagnose(year.take(year.day < 60), stale(always_late(evening(year.take(year.day >= 60), rng), rng), rng))
    assert found.finding == "skew"
    assert {"skew", "concept_drift", "data_drift"} <= set(found.findings)
    assert list(found.findings) == sorted(found.findings, key=ORDER.index)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["action"] == ACTIONS["skew"]


def test_drift_that_costs_nothing_is_benign_and_asks_for_nothing() -> None:
    rng = np.random.default_rng(9)
    year = flights(81, rng)
    later = year.take(year.day >= 60)
    found = diagnose(year.take(year.day < 60), with_feature(later, "delay", later.features["delay"] * 1.6))
    assert (found.finding, found.benign, found.asks, found.action) == ("data_drift", True, "none", ACTION_BENIGN)


@pytest.mark.parametrize("column", ["hour", "temp", "carrier"])
@pytest.mark.parametrize("by_day", [True, False])
def test_a_feature_that_breaks_down_is_named(column: str, by_day: bool) -> None:
    rng = np.random.default_rng(10)
    year = flights(67, rng)
    later = year.take(year.day >= 60)
    gone = np.full(len(later), None, object) if column == "carrier" else np.full(len(later), math.nan)
    reference, current = year.take(year.day < 60), with_feature(later, column, gone)
    if not by_day:
        reference, current = dataclasses.replace(reference, day=None), dataclasses.replace(current, day=None)
    assert "data_drift" in diagnose(reference, current).findings


def test_rows_of_the_join_become_a_window() -> None:
    def row(score: float | None, label: float, outcome: str, features: list[float | str | None]) -> Row:
        return Row(
            Prediction("a/0", 86400.0 * 3 + 5, 0, "v1", "", "v1", 1, "r", score, False, 1, features), outcome, label
        )

    found = window_of(
        [
            row(0.5, 1.0, "observed", [1.0, "UA"]),
            row(0.2, math.nan, "cancelled", [None, None]),
            row(0.2, math.nan, "missing", [2.0, "B6"]),
            row(None, math.nan, "missing", []),
        ],
        {"temp": "numeric", "carrier": "category"},
    )
    assert len(found) == 3
    assert found.day is not None
    assert found.known is not None
    assert (found.day.tolist(), found.known.tolist()) == ([3, 3, 3], [True, True, False])
    assert found.features["carrier"].tolist() == ["UA", None, "B6"]
    assert math.isnan(found.features["temp"][1])
    assert len(window_of([], {"temp": "numeric"})) == 0


def test_a_missing_column_is_named() -> None:
    rng = np.random.default_rng(1)
    rows = flights(30, rng)
    less = dataclasses.replace(rows, features={"hour": rows.features["hour"]})
    with pytest.raises(UserError, match="no column temp"):
        diagnose(rows, less)
    with pytest.raises(UserError, match="feature temp"):
        diagnose(rows, with_feature(rows, "temp", np.array(["hot"] * len(rows), object)))
    with pytest.raises(UserError, match="days"):
        diagnose(rows, dataclasses.replace(rows, day=None))


def test_platts_scaling_finds_what_was_planted() -> None:
    rng = np.random.default_rng(0)
    log_odds = rng.normal(size=50_000)
    label = (rng.random(50_000) < 1 / (1 + np.exp(-(0.7 * log_odds - 0.4)))).astype(float)
    assert platt(1 / (1 + np.exp(-log_odds)), label) == pytest.approx((0.7, -0.4), abs=0.05)
