"""Performance by version, window and slice; the statistics against sklearn and by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate.errors import UserError
from tidegate.monitor.clusters import DAY, auc_left_out, jackknife, mean_left_out, shift
from tidegate.monitor.join import Row
from tidegate.monitor.performance import Performance, brier_losses, log_losses, measure
from tidegate.observations import Prediction


def row(
    day: int, score: float, label: float | None, version: str = "v1", origin: str = "JFK", outcome: str = ""
) -> Row:
    outcome = outcome or ("missing" if label is None else "observed")
    found = Prediction(f"{day}-{score}/0", day * DAY + 1, 0.0, version, "", "v1", 1.0, "r", score, False, 1.0, [origin])
    return Row(found, outcome, math.nan if label is None else label)


def parts(days: int = 9, rows: int = 80, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(days):
        scores = np.round(rng.random(rows), 2)
        found.append((scores, (rng.random(rows) < scores).astype(float)))
    return found


def test_the_metrics_are_sklearns() -> None:
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    days = parts()
    scores, labels = (np.concatenate(one) for one in zip(*days, strict=True))
    assert measure("roc_auc", days).value == pytest.approx(roc_auc_score(labels, scores))
    assert measure("brier", days).value == pytest.approx(brier_score_loss(labels, scores))
    assert measure("log_loss", days).value == pytest.approx(log_loss(labels, np.clip(scores, 1e-6, 1 - 1e-6)))


def test_leaving_out_a_day_is_computing_without_it() -> None:
    from sklearn.metrics import roc_auc_score

    days = parts(days=5)
    left = auc_left_out([s[y > 0] for s, y in days], [s[y == 0] for s, y in days])[1]
    for out in range(5):
        scores, labels = (np.concatenate(one) for one in zip(*(days[:out] + days[out + 1 :]), strict=True))
        assert left[out] == pytest.approx(roc_auc_score(labels, scores))
    sums = np.array([brier_losses(s, y).sum() for s, y in days])
    without = mean_left_out(sums, np.array([len(s) for s, _ in days]))[1]
    assert without[0] == pytest.approx(np.mean([brier_losses(s, y).mean() for s, y in days[1:]]))


def test_a_window_of_one_day_has_no_limits_and_one_class_has_no_auc() -> None:
    found = Performance()
    found.add([row(10, 0.2, 0.0), row(10, 0.7, 1.0), row(11, 0.4, 0.0)])
    auc, log_loss, _ = found.metrics("v1", 10 * DAY, 11 * DAY)
    assert (auc.value, auc.labels) == (1.0, 2)
    assert math.isnan(log_loss.upper)
    assert math.isnan(found.metrics("v1", 11 * DAY, 12 * DAY)[0].value)
    assert math.isnan(found.metrics("v1", 12 * DAY, 13 * DAY)[1].value)


def test_the_interval_over_days_holds_the_truth_where_rows_alone_would_not() -> None:
    """400 weeks whose days differ: the 95 % interval misses about one in twenty; taking rows as independent, half."""
    rng = np.random.default_rng(5)
    missed = rows_missed = 0
    for _ in range(400):
        days = []
        for _ in range(7):
            base = np.clip(0.3 + 0.1 * rng.normal(), 0.01, 0.99)
            days.append((np.full(200, 0.3), (rng.random(200) < base).astype(float)))
        found = measure("brier", days)
        truth = 0.3 * 0.49 + 0.7 * 0.09
        missed += not found.lower <= truth <= found.upper
        losses = np.concatenate([brier_losses(s, y) for s, y in days])
        rows_missed += abs(losses.mean() - truth) > 1.96 * losses.std() / math.sqrt(len(losses))
    assert missed / 400 < 0.09
    assert rows_missed / 400 > 0.3


def test_versions_windows_and_slices_are_kept_apart() -> None:
    found = Performance(("origin",), lambda one: (str(one.prediction.features[0]),))
    found.add([row(1, 0.2, 0.0), row(1, 0.9, 1.0, origin="EWR"), row(2, 0.4, 1.0), row(2, 0.1, 1.0, version="v2")])
    found.add([row(2, 0.3, None), row(3, 0.3, None, outcome="cancelled")])
    assert found.versions() == ["v1", "v2"]
    assert found.metrics("v1", DAY, 3 * DAY)[2].labels == 3
    assert found.metrics("v1", DAY, 3 * DAY, where=("origin", "EWR"))[2].value == pytest.approx(0.01)
    assert found.values("origin", "v1", DAY, 3 * DAY) == ["EWR", "JFK"]
    covered = found.coverage("v1", DAY, 4 * DAY)
    assert (covered.matured, covered.observed, covered.cancelled, covered.missing) == (5, 3, 1, 1)
    assert covered.share == pytest.approx(0.8)
    assert found.coverage("v1", DAY, 4 * DAY, ("origin", "EWR")).matured == 1
    found.forget(2 * DAY)
    assert found.metrics("v1", DAY, 4 * DAY)[2].labels == 1
    with pytest.raises(UserError, match="carrier"):
        found.metrics("v1", DAY, 2 * DAY, where=("carrier", "UA"))
    with pytest.raises(UserError, match="accuracy"):
        found.metrics("v1", DAY, 4 * DAY, names=["accuracy"])


def test_a_sure_miss_keeps_the_log_loss_finite() -> None:
    assert np.isfinite(log_losses(np.array([0.0, 1.0]), np.array([1.0, 0.0]))).all()


def test_a_jackknife_needs_two_days() -> None:
    assert math.isnan(jackknife(0.5, np.array([0.5])).lower)
    assert jackknife(0.5, np.array([0.4, 0.6])).upper > 0.6


def test_a_change_of_a_mean_is_tested_beyond_its_margin_with_days_as_the_unit() -> None:
    rng = np.random.default_rng(2)
    false = 0
    for _ in range(300):
        effects = 0.15 * rng.normal(size=47)
        values = (rng.random((47, 150)) < 0.4 + effects[:, None]).astype(float)
        day = np.repeat(np.arange(47), 150)
        before, after = day < 40, day >= 40
        flat = values.ravel()
        false += shift(flat[before], day[before], flat[after], day[after]).beyond(0.02) < 0.05
    assert false / 300 < 0.05
    assert shift(np.zeros(500), None, np.ones(500), None).beyond(0.5) < 1e-9
    assert shift(np.zeros(0), None, np.ones(5), None).beyond(0.0) == 1.0
