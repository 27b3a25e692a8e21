"""The report's numpy twins say what production says, on random streams."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import judge_cases as cases
from benchmarks import judge_chains as chains
from benchmarks import judge_speed as speed
from benchmarks import judge_twin as twin
from benchmarks.judge_rates import World, aborted, even, promoted, ramp
from tidegate.release import confidence
from tidegate.release.confidence import State
from tidegate.release.evidence import Counts, Stats
from tidegate.release.judge import carried_after, judge
from tidegate.release.policy import SHADOW, SPLIT, JudgePolicy, Metric
from tidegate.release.sums import fold_mean, fold_split, fold_split_matured

RULES = JudgePolicy(
    0.05, (Metric("loss", 0.03, SPLIT, True), Metric("errors", 0.05, SPLIT, False)), (SPLIT,), 0.0, challengers=2
)


def production(a, pi, loss, errors, every):
    """(verdict, look) by the production fold and judge, look after look."""
    stats, latched = Stats(), False
    for look, start in enumerate(range(0, len(a), every)):
        part = slice(start, start + every)
        stats = fold_split(stats, a[part], pi[part], {"errors": errors[part]})
        known = np.ones(len(a[part]), bool)
        stats = fold_split_matured(stats, np.zeros(len(known)), a[part], pi[part], loss[part], known, None)
        found = judge(RULES, stats, now=0.0, opened=0.0, place=SPLIT, latched=latched)
        latched = latched or found.reason == "sample_ratio"
        if found.verdict != "hold":
            return found.verdict, look
    return "hold", None


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([-0.1, 0.0, 0.03, 0.1, 0.3]), st.sampled_from([0.0, 0.02, 0.3]))
def test_verdict_and_look_are_those_of_the_production_fold_and_judge(seed, worse, skew):
    rng, size, every = np.random.default_rng(seed), 3000, 75
    pi = np.repeat([0.05, 0.25, 0.5, 0.5], size // 4)
    a = (rng.random((2, size)) < pi + skew).astype(float)
    loss = np.clip(rng.random((2, size)) * 0.4 + worse * a, 0, 1)
    errors = (rng.random((2, size)) < 0.02 + max(0.0, worse) * a).astype(float)
    sums = {"loss": twin.split_sums(loss, a, pi, every), "errors": twin.split_sums(errors, a, pi, every)}
    verdicts, looks = twin.judged(RULES, SPLIT, sums, twin.mean_sums(a - pi, every))
    for i in range(2):
        verdict, look = production(a[i], pi, loss[i], errors[i], every)
        assert twin.VERDICTS[verdicts[i]] == verdict
        if verdict != "hold":
            assert looks[i] == look


@settings(max_examples=200, deadline=None)
@given(
    st.floats(0.0, 500.0),
    st.floats(0.0, 3e4),
    st.sampled_from([0.05, 0.05 / 3, 0.005]),
    st.sampled_from([4.0, 16.0]),
)
def test_what_exceeds_is_what_is_above_u(s, v, level, rho):
    limit = confidence.u(v, level, rho)
    if math.isclose(s, limit, rel_tol=1e-9):
        return
    assert bool(twin.exceeds(np.array([s]), np.array([v]), level, rho)[0]) == (s > limit)
    assert twin.u(np.array([v]), level, rho)[0] == pytest.approx(limit, rel=1e-9)
    assert twin.log_e(np.array([s]), np.array([v]), rho)[0] == pytest.approx(confidence.log_e(s, v, rho), abs=1e-7)


def test_sums_are_those_of_the_production_folds():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (2, 300))
    state = fold_mean(State(), x[1])
    sums = twin.mean_sums(x, 100)
    assert [sums.S[1, -1], sums.V[1, -1], sums.W[-1]] == pytest.approx([state.S, state.V, state.W])


def test_the_plain_inverse_form_is_bounded_and_estimates_the_same_effect():
    rng, pi = np.random.default_rng(2), ramp(40_000)
    a = (rng.random((1, 40_000)) < pi).astype(float)
    y = np.full((1, 40_000), 0.2) + 0.5 * a
    one = twin.inverse_sums(y, a, pi, 1)
    assert np.abs(np.diff(one.S[0], prepend=0)).max() <= 1
    assert one.estimate[0, -1] == pytest.approx(0.5, abs=0.1)
    assert twin.split_sums(y, a, pi, 1).estimate[0, -1] == pytest.approx(0.5, abs=0.01)


def test_a_chain_spends_what_production_would():
    rng = np.random.default_rng(3)
    sums = chains.differences(rng, 40, 60, 250, chains.MARGIN / 2)
    _, look = twin.judged(chains.RULES, SHADOW, {"loss": sums}, carried=np.full(40, 0.001))
    after = chains.spent(np.full(40, 0.001), sums, look)
    for i in np.flatnonzero(look != twin.NEVER):
        state = State(1, 0.0, sums.S[i, look[i]], sums.V[i, look[i]], sums.W[look[i]])
        found = judge(
            chains.RULES, Stats({"loss": state}, {}, Counts(matured=1)), now=0.0, opened=0.0, place=SHADOW,
            carried=0.001,
        )  # fmt: skip
        assert found.verdict in ("promote", "abort")
        check = found.checks["loss"]
        assert after[i] == pytest.approx(carried_after(0.001, check.estimate, check.upper))


def test_a_batch_of_differences_has_the_sums_that_it_says():
    sums = chains.differences(np.random.default_rng(4), 4000, 1, 250, 0.0025)
    assert sums.estimate.mean() == pytest.approx(0.0025, abs=4 * 0.1 / math.sqrt(250 * 4000))
    assert (sums.V / sums.W).mean() == pytest.approx(0.01, rel=0.02)


def test_the_fixed_horizon_is_the_textbook_number():
    assert speed.fixed_horizon(0.1, 0.02, 0.02, even(20_000)) == pytest.approx(6046, abs=2)
    assert speed.fixed_horizon(0.1, 0.02, 0.02, speed.power_ramp(40_000)) == pytest.approx(10_700, rel=0.06)


def test_the_lines_of_the_report_run_and_tell_right_from_wrong():
    share, base = even(20_000), np.full(20_000, 0.1)
    assert aborted(World("equal", 1, share, base), 20).wrong <= 3
    assert aborted(World("worse", 1, share, base, effects=(0.1,)), 20).wrong == 20
    assert promoted(World("better", 1, share, base, effects=(-0.05,)), 20).wrong == 20
    assert cases.late_labels(1, 4, whole=2, so_far=2).wrong <= 1
    assert cases.several(1, 4, 0.0).wrong <= 1
    assert cases.sticky(1, 3, (1, 9)).wrong <= 1
    kept = chains.walk(1, 50, 10, True)
    assert kept.promoted < chains.walk(1, 50, 10, False).promoted
