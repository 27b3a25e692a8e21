"""Further objectives: what is measured, and that each refuses by its own margin."""

import numpy as np
import pytest
from pydantic import ValidationError

from tidegate.evaluate.gate import Policy, gate
from tidegate.evaluate.measure import Compared, measure
from tidegate.evaluate.objectives import calibration_error, decision_costs, objective_checks, residuals
from tidegate.reasons import GATE_REASONS
from tidegate.spec import GateSpec, Objective

N, DAYS = 20_000, 14


def compared(shift=0.0, seed=0):
    """A champion that is calibrated and a candidate whose log-odds are moved by `shift`."""
    rng = np.random.default_rng(seed)
    days, odds = np.sort(rng.integers(0, DAYS, N)), rng.normal(-1, 1, N)
    labels = (rng.uniform(size=N) < 1 / (1 + np.exp(-odds))).astype(float)
    scores = [1 / (1 + np.exp(-odds - by)) for by in (rng.normal(0, 0.02, N) + shift, 0.0)]
    return Compared(days, labels, scores[0], scores[1], float(labels.mean()))


def verdict(objective, shift=0.0, **measured):
    """The gate with one objective, wide open in everything else."""
    rows, spec = compared(shift), GateSpec(margin=0.5, objectives=(objective,))
    found = {"reference_distance": 0.0, **measure(rows, spec)}
    found["objectives"] |= measured
    return gate(Policy("log_loss", 0.5, objectives={objective.metric: objective.margin}), found)


COST = Objective(metric="decision_cost", margin=0.01, false_positive=1, false_negative=4)


@pytest.mark.parametrize(
    ("objective", "shift", "refused"),
    [
        (Objective(metric="log_loss", margin=0.002), 0.0, False),
        (Objective(metric="log_loss", margin=0.002), 0.5, True),
        (Objective(metric="brier", margin=0.002), 0.5, True),
        (Objective(metric="roc_auc", margin=0.002), 0.5, False),
        (Objective(metric="calibration", margin=0.01), 0.0, False),
        (Objective(metric="calibration", margin=0.01), 0.5, True),
        (COST, 0.0, False),
        (COST, -1.5, True),
    ],
)
def test_quality_must_be_proved_within_its_margin(objective, shift, refused):
    found = verdict(objective, shift)
    assert found.reason == ("gate_objective" if refused else "not_worse")
    assert found.failed == ((f"objective {objective.metric}",) if refused else ())
    assert found.reason in GATE_REASONS


@pytest.mark.parametrize(
    ("metric", "margin", "measured", "refused"),
    [
        ("size", 1000, {"candidate": 50_000, "champion": 49_500}, False),
        ("size", 1000, {"candidate": 51_000, "champion": 49_500}, True),
        ("training_cost", 2.0, {"candidate": 9.0, "champion": 8.0}, False),
        ("training_cost", 2.0, {"candidate": 11.0, "champion": 8.0}, True),
        ("latency", 0.1, {"rows": [1] * 15, "sums": [0.02, 0.03, 0.01] * 5}, False),
        ("latency", 0.1, {"rows": [1] * 15, "sums": [0.2, 0.3, 0.25] * 5}, True),
    ],
)
def test_expense_must_not_be_over_its_margin(metric, margin, measured, refused):
    found = verdict(Objective(metric=metric, margin=margin), **{metric: measured})
    assert found.verdict == ("refused" if refused else "passed")


def test_what_was_not_recorded_is_listed():
    found = verdict(Objective(metric="training_cost", margin=1), training_cost={"candidate": 3.0, "champion": None})
    assert (found.verdict, "objective training_cost" in found.not_assessed) == ("passed", True)
    assert objective_checks({"latency": 1.0}, {})[2] == {
        "objective latency": "not measured: one of the two models has no such record"
    }


def test_the_calibration_error_is_the_one_of_the_bins():
    rows = compared(0.5)
    bins = np.minimum((rows.candidate * 10).astype(int), 9)
    parts = [rows.labels[bins == b] - rows.candidate[bins == b] for b in range(10)]
    wanted = sum(len(part) / N * abs(part.mean()) for part in parts if len(part))
    found = np.asarray(residuals(rows.days, rows.labels, rows.candidate))
    assert calibration_error(found, np.bincount(rows.days)) == pytest.approx(wanted)


def test_a_decision_costs_what_the_matrix_says():
    labels, scores = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.1, 0.3, 0.1, 0.3])
    assert decision_costs(labels, scores, 1, 4).tolist() == [4.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"metric": "decision_cost", "margin": 0.1},
        {"metric": "size", "margin": 1, "falsePositive": 1, "falseNegative": 1},
        {"metric": "beauty", "margin": 1},
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        GateSpec.model_validate({"objectives": [wrong]})


def test_a_metric_is_named_once():
    with pytest.raises(ValidationError, match="each metric once"):
        GateSpec.model_validate({"objectives": [{"metric": "size", "margin": 1}, {"metric": "size", "margin": 2}]})
