"""The forecast against the published figures, against drawn releases, and what it says to people."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from tidegate.cli import app
from tidegate.errors import UserError
from tidegate.release.confidence import State, bounds
from tidegate.release.simulate import FOUR_IN_FIVE, Assumed, simulate, weight_needed, with_spread
from tidegate.release.sums import fold_difference
from tidegate.spec import ReleaseSpec

MODEL = "k8s/models/flight-delay.yaml"
SHADOW, CANARY = {"shadow": {"requests": 5000}}, {"canary": {"weights": ["5%", "50%"]}}


def release(*stages, **more) -> ReleaseSpec:
    return ReleaseSpec.model_validate({"stages": list(stages), **more})


@pytest.mark.parametrize(
    ("sd", "margin", "rho", "requests"),
    [
        (0.3, 0.01, 16, 34_022), (0.22, 0.002, 16, 536_000), (0.22, 0.005, 16, 73_900), (0.22, 0.01, 16, 17_400),
        (0.002**0.5, 0.001, 4, 83_000), (0.002**0.5, 0.005, 4, 6_600), (0.01**0.5, 0.01, 4, 4_900),
    ],
)  # fmt: skip
def test_requests_at_half_and_half_are_the_published_ones(sd, margin, rho, requests):
    assert 4 * weight_needed(margin, sd**2, 0.05, rho) == pytest.approx(requests, rel=0.01)


@pytest.mark.parametrize(("sd", "margin", "pairs"), [
    (0.06, 0.002, 9_500), (0.1, 0.002, 26_100), (0.2, 0.002, 124_000), (0.1, 0.005, 4_200), (0.1, 0.01, 1_240),
])  # fmt: skip
def test_shadow_pairs_are_the_published_ones(sd, margin, pairs):
    assert weight_needed(margin, sd**2, 0.05, 4) == pytest.approx(pairs, rel=0.01)


def proved_after(seed: int, rate: float, margin: float, look: int = 50, most: int = 8000) -> int:
    """Requests until a drawn challenger that is equal is proved, by the production fold and bound."""
    rng, state = np.random.default_rng(seed), State()
    for n in range(look, most + 1, look):
        y, a = (rng.random(look) < rate).astype(float), (rng.random(look) < 0.5).astype(float)
        state = fold_difference(state, y, a, np.full(look, 0.5))[0]
        if bounds(state, 0.05, 0.05, 4)[1] < margin:
            return n
    return most


def test_the_forecast_lies_between_the_median_of_drawn_releases_and_nine_in_ten():
    found = sorted(proved_after(seed, 0.02, 0.03) for seed in range(60))
    needed = 4 * weight_needed(0.03, 0.02 * 0.98, 0.05, 4)
    assert found[30] <= needed * 1.05
    assert needed <= found[54] * 1.05


def test_the_committed_model_file_fits_its_deadline_at_the_demos_traffic():
    from tidegate.spec import load_model

    found = simulate(load_model(MODEL).spec.release, Assumed(900))
    assert found.warnings == ()
    assert (found.stages[0].stage, found.stages[0].requests) == ("shadow", 5000)
    assert 15 < found.days < 25


def test_a_small_brier_margin_on_a_split_needs_half_a_million_requests_and_is_warned_of():
    spec = release({"ab": {"arms": {"champion": "50%", "a": "50%"}}}, judge={"loss": {"margin": 0.002}})
    found = simulate(spec, Assumed(5000))
    assert found.stages[0].requests == pytest.approx(536_000, rel=0.01)
    assert "cannot decide before the deadline of 45d" in found.warnings[0]
    assert simulate(release(SHADOW, CANARY, judge={"loss": {"margin": 0.002}}), Assumed(5000)).warnings == ()


def test_an_effect_beyond_the_margin_is_never_proved_and_the_abort_is_told():
    found = simulate(release(SHADOW, CANARY), Assumed(900, {"errors": 0.02}))
    (errors,) = [proof for proof in found.stages[1].proofs if proof.metric == "errors"]
    assert (errors.requests, errors.power, found.days) == (None, 0.0, None)
    assert 0 < errors.aborts_after < 10_000
    assert "never proved" in found.warnings[0]


def test_more_traffic_never_takes_longer_and_a_better_model_never_needs_more():
    days = [simulate(release(SHADOW, CANARY), Assumed(n)).days for n in (500, 1000, 10_000, 100_000)]
    assert days == sorted(days, reverse=True)
    needed = [
        simulate(release(SHADOW), Assumed(900, {"loss": x})).stages[0].proofs[0].requests for x in (-0.01, 0, 0.002)
    ]
    assert needed == sorted(needed)


def test_several_challengers_and_regions_take_more():
    two = {"ab": {"arms": {"champion": "50%", "a": "50%"}}}
    three = {"ab": {"arms": {"champion": "40%", "a": "30%", "b": "30%"}}}
    ask = Assumed(10_000)
    assert simulate(release(three), ask).requests > simulate(release(two), ask).requests
    regions = {"canary": {**CANARY["canary"], "requests": 9000, "regions": {"header": "r", "order": ["us", "eu"]}}}
    assert simulate(release(SHADOW, regions), ask).stages[1].requests == 4 * 9000


def test_credits_are_proved_in_an_interleaving_stage_and_approvals_take_no_time():
    found = simulate(release({"interleave": {"sessions": 100}}, {"approval": {}}, SHADOW), Assumed(10_000))
    assert [stage.stage for stage in found.stages] == ["interleave", "approval", "shadow"]
    assert found.stages[0].requests == pytest.approx(weight_needed(0.01, 0.57**2, 0.05, 16), abs=1)
    assert (found.stages[1].requests, found.stages[1].days) == (0, 0.0)


def test_four_in_five_needs_more_than_half():
    assert weight_needed(0.01, 0.09, 0.05, 16, FOUR_IN_FIVE) > weight_needed(0.01, 0.09, 0.05, 16)
    assert weight_needed(0.0, 0.09, 0.05, 16) == float("inf")


@pytest.mark.parametrize("wrong", [{"loss": 0.0}, {"loss": 2.0}, {"nothing": 0.1}])
def test_what_cannot_be_assumed_is_refused(wrong):
    with pytest.raises(UserError, match="--base"):
        with_spread(Assumed(1), wrong)


def test_the_command_says_it_in_words_and_in_json():
    told = CliRunner().invoke(app, ["release", "simulate", MODEL, "--per-day", "900", "--effect", "errors=2%"])
    assert told.exit_code == 0
    assert "proved worse after" in told.stdout
    assert "warning: canary: never proved" in told.stderr
    plain = CliRunner().invoke(app, ["release", "simulate", MODEL, "--per-day", "900", "--json"])
    assert '"decides":true' in plain.stdout
