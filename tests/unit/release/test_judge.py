"""The verdict's rule, in its order, on hand-made statistics."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tidegate.errors import UserError
from tidegate.release.confidence import State, bounds
from tidegate.release.evidence import Counts, Stats
from tidegate.release.judge import block_limits, carried_after, check_metric, check_slices, judge
from tidegate.release.policy import JudgePolicy, Metric, policy_of
from tidegate.spec import ReleaseSpec

DAY = 86400.0
STAGES = [{"shadow": {"requests": 5000}}, {"canary": {"weights": ["1%", "50%"]}}]


def spec(**more):
    return ReleaseSpec.model_validate({"stages": STAGES, **more})


def policy(**more):
    metrics = (Metric("loss", 0.005, "split", True), Metric("errors", 0.005, "split", False))
    return JudgePolicy(**{"alpha": 0.05, "metrics": metrics, "places": ("split",), "label_deadline": 0.0, **more})


def mean(value, n=1_000_000, variance=0.01):
    """A state of n observations with w = 1/4."""
    return State(n, 0.0, value * n / 4, variance * n / 4, n / 4)


def stats(loss=0.0, errors=0.0, days=0, ratio=None, matured=1000, **more):
    blocks = {"loss": {d: (100, loss * 25 + 0.001 * (-1) ** d, 25.0) for d in range(days)}}
    states = {"loss": mean(loss), "errors": mean(errors)}
    if ratio is not None:
        states["sample_ratio"] = State(10_000, 0, ratio * 10_000, 2500, 10_000)
    return Stats({**states, **more}, blocks if days else {}, Counts(matured=matured))


def look(policy, stats, **more):
    return judge(policy, stats, **{"now": 10 * DAY, "opened": 0.0, "place": "split", **more})


def test_equal_and_proved_is_promoted():
    found = look(policy(), stats())
    assert (found.verdict, found.reason) == ("promote", "proved_not_worse")
    assert set(found.proved) == {"loss", "errors"}
    assert "loss +0.0000" in found.sentence


def test_one_metric_that_is_worse_aborts():
    found = look(policy(), stats(errors=0.02))
    assert (found.verdict, found.reason) == ("abort", "proved_worse")
    assert "errors" in found.sentence
    assert "loss" not in found.sentence


def test_a_broken_split_holds_before_anything_else():
    found = look(policy(), stats(errors=0.02, ratio=0.05))
    assert (found.verdict, found.reason) == ("hold", "sample_ratio")
    assert look(policy(), stats(), latched=True).reason == "sample_ratio"


def test_labels_that_are_lost_in_one_arm_hold():
    lost = State(10_000, 0, 500.0, 2500, 10_000)
    assert look(policy(), stats(sample_ratio_labels=lost)).reason == "sample_ratio"


@pytest.mark.parametrize("empty", [Stats(), Stats({}, {}, Counts(matured=5)), stats(matured=0)])
def test_nothing_matured_holds(empty):
    found = look(policy(), empty)
    assert (found.verdict, found.reason) == ("hold", "no_evidence")


def test_errors_abort_before_any_label_is_there():
    assert look(policy(), stats(errors=0.02, matured=0)).verdict == "abort"


def test_one_metric_that_is_not_proved_holds():
    found = look(policy(), Stats({"loss": mean(0), "errors": mean(0, n=100)}, {}, Counts(matured=9)))
    assert (found.verdict, found.reason, found.proved) == ("hold", "too_little_evidence", ("loss",))


def test_a_quality_promotion_needs_seven_blocks_and_an_abort_five():
    days = policy(block=DAY)
    assert look(days, stats(days=6)).reason == "block_check"
    assert look(days, stats(days=7)).verdict == "promote"
    assert look(days, stats(loss=0.02, days=4)).reason == "block_check"
    assert look(days, stats(loss=0.02, days=5)).verdict == "abort"


def test_errors_need_no_blocks():
    assert look(policy(block=DAY), stats(errors=0.02)).verdict == "abort"


def test_days_that_disagree_hold():
    noisy = {d: (100, 25 * (0.02 + 0.2 * (-1) ** d), 25.0) for d in range(8)}
    found = look(policy(block=DAY), Stats({"loss": mean(0.02), "errors": mean(0)}, {"loss": noisy}, Counts(matured=9)))
    assert (found.verdict, found.reason) == ("hold", "block_check")


def test_the_least_duration_delays_a_promotion():
    timed = policy(min_duration=7 * DAY)
    assert look(timed, stats(), now=6.9 * DAY).reason == "min_duration"
    assert look(timed, stats(), now=7 * DAY).verdict == "promote"
    assert look(timed, stats(errors=0.02), now=1.0).verdict == "abort"


def test_a_margin_that_is_spent_cannot_be_spent_again():
    assert look(policy(), stats(loss=-0.0005), carried=0.004).verdict == "promote"
    assert look(policy(), stats(loss=0.0), carried=0.0049).reason == "carried"
    assert look(policy(), stats(loss=-0.02), carried=0.01).verdict == "promote"


def test_what_is_proved_elsewhere_is_only_guarded_here():
    place = (Metric("loss", 0.005, "shadow", True), Metric("errors", 0.005, "split", False))
    split = policy(metrics=place, places=("shadow", "split"), block=DAY)
    assert look(split, stats()).reason == "proved_here"
    assert look(split, stats(), proofs=["loss"]).verdict == "promote"
    assert look(split, stats(loss=0.02, days=4), proofs=["loss"]).reason == "block_check"
    assert look(split, stats(loss=0.02, days=5), proofs=["loss"]).verdict == "abort"


def test_the_abort_level_is_shared_and_the_promotion_level_is_not():
    shared = policy(places=("shadow", "split"), challengers=2)
    assert shared.a_abort == pytest.approx(0.05 / 8)
    assert shared.a_promote == pytest.approx(0.025)


def test_quality_on_a_split_is_tuned_for_16_and_the_rest_for_4():
    state = mean(0.001)
    rules = policy()
    loss = check_metric(rules, rules.metrics[0], Stats({"loss": state}), "split")
    pairs = check_metric(rules, rules.metrics[0], Stats({"loss": state}), "shadow")
    assert loss != pairs


COST = Metric("cost", 2.0, "split", True, bound=10.0)


def test_a_business_metric_is_judged_in_its_own_unit():
    rules = policy(metrics=(*policy().metrics, COST))
    found = look(rules, stats(cost=mean(0.05)))
    assert (found.verdict, found.checks["cost"].estimate) == ("abort", pytest.approx(0.5))
    assert found.checks["cost"].margin == 2.0
    assert rules.a_abort == pytest.approx(0.05 / 3)
    assert look(rules, stats(cost=mean(0.0))).verdict == "promote"
    assert look(rules, stats(cost=mean(0.0, n=100))).reason == "too_little_evidence"


def test_what_is_carried_is_of_the_loss_alone():
    rules = policy(metrics=(COST,))
    assert look(rules, Stats({"cost": mean(0.0)}, {}, Counts(matured=9)), carried=5.0).verdict == "promote"


def test_a_slice_that_is_worse_aborts_and_needs_no_proof():
    rules = policy(slices=("origin",), block=DAY)
    good = {"loss[origin=JFK]": mean(0.0, n=100), "loss[dest=LAX]": mean(0.5)}
    assert look(rules, stats(days=7, **good)).verdict == "promote"
    worse = stats(days=7, **{**good, "loss[origin=LGA]": mean(0.05)})
    assert look(rules, worse).reason == "block_check", "a slice that may be worse keeps a promotion"
    blocks = {**worse.blocks, "loss[origin=LGA]": {d: (9, 1.0 + d / 99, 20.0) for d in range(5)}}
    found = look(rules, replace(worse, blocks=blocks))
    assert (found.verdict, found.reason) == ("abort", "proved_worse")
    assert "loss[origin=LGA]" in found.sentence


def test_the_values_of_a_slice_share_one_level():
    rules = policy(slices=("origin",))
    same = {f"loss[origin={value}]": mean(0.001) for value in "abc"}
    found = check_slices(rules, Stats(same), "split")
    state = mean(0.001)
    for k, check in enumerate(found.values(), start=1):
        assert check.lower == bounds(state, rules.a_abort / (k * (k + 1)), 0.05, 16.0)[0]
    assert sum(1 / (k * (k + 1)) for k in range(1, 10_000)) < 1


def test_labels_of_a_business_metric_that_are_lost_in_one_arm_hold():
    lost = State(10_000, 0, 500.0, 2500, 10_000)
    assert look(policy(), stats(sample_ratio_labels_cost=lost)).reason == "sample_ratio"


def test_block_limits_of_equal_blocks_are_the_t_limits_of_their_means():
    from scipy import stats as reference

    values = np.random.default_rng(1).normal(0.01, 0.02, 9)
    size, lower, upper = block_limits({d: (10, 30 * v, 30.0) for d, v in enumerate(values)})
    error = values.std(ddof=1) / math.sqrt(9)
    assert size == 9
    assert lower == pytest.approx(values.mean() - reference.t.ppf(0.99, 8) * error)
    assert upper == pytest.approx(values.mean() + reference.t.ppf(0.95, 8) * error)


def test_one_heavy_block_does_not_pass_for_many():
    light = {d: (1, 0.001 * (-1) ** d, 0.01) for d in range(6)}
    _, lower, upper = block_limits({**light, 6: (10_000, 50.0, 2500.0)})
    assert lower < 0
    assert upper > 0.05


def test_blocks_without_weight_do_not_count():
    assert block_limits({1: (3, 0.0, 0.0), 2: (3, 1.0, 1.0)}) == (1, None, None)


def test_carried_grows_by_the_estimate_and_shrinks_by_what_is_proved():
    assert carried_after(0.001, 0.002, 0.005) == pytest.approx(0.001 + 0.002 + 0.001)
    assert carried_after(0.001, -0.002, 0.001) == pytest.approx(0.001)
    assert carried_after(0.003, -0.004, -0.001) == pytest.approx(0.002)
    assert carried_after(0.001, -0.4, -0.1) == 0.0


def test_with_a_shadow_stage_the_loss_is_proved_there():
    rules = policy_of(spec())
    assert {m.name: m.proved_at for m in rules.metrics} == {"loss": "shadow", "errors": "split"}
    assert rules.places == ("shadow", "split")
    alone = policy_of(spec(stages=[{"canary": {"weights": ["5%"]}}]))
    assert {m.proved_at for m in alone.metrics} == {"split"}


@pytest.mark.parametrize(
    "more",
    [
        {"stages": [{"approval": {}}]},
        {"judge": {"metrics": [{"name": "loss", "margin": 1, "bound": 9}]}},
        {"judge": {"metrics": [{"name": "cost", "margin": 1, "bound": 9}] * 2}},
        {"judge": {"metrics": [{"name": "cost", "margin": 1, "bound": 9}]}, "stages": [{"shadow": {}}]},
        {"judge": {"loss": None, "errors": None}},
    ],
)
def test_what_is_not_judged_is_refused(more):
    with pytest.raises(UserError):
        policy_of(spec(**more))
