"""A canary region by region, and an interleaving stage, through the table."""

from __future__ import annotations

from dataclasses import replace

from tidegate.release import actions
from tidegate.release.confidence import State
from tidegate.release.evidence import Counts, Evidence, Stats
from tidegate.release.machine import open_release, step
from tidegate.release.plan import Regions
from tidegate.release.policy import policy_of
from tidegate.release.stages import Release, Version, policy_for
from tidegate.release.traffic import wanted
from tidegate.spec import ReleaseSpec

DAY = 86400.0
OLD, NEW = Version("v1", "sha256:a"), Version("v2", "sha256:b")
CANARY = {
    "canary": {"weights": ["5%", "50%"], "requests": 10, "regions": {"header": "x-region", "order": ["us", "eu"]}}
}


def opened(*stages) -> Release:
    spec = ReleaseSpec.model_validate({"stages": list(stages), "block": None})
    return open_release("r", "m", OLD, (NEW,), spec, 0.0)


def mean(value: float, n: int = 1_000_000) -> State:
    return State(n, 0.0, value * n / 4, 0.01 * n / 4, n / 4)


def stats(errors: float = 0.0, **by_weight: int) -> Stats:
    weights = {name.replace("w", "0."): n for name, n in by_weight.items()}
    return Stats({"loss": mean(0.0), "errors": mean(errors)}, {}, Counts(100, 100, by_weight=weights))


def seen(**of: Stats) -> Evidence:
    return Evidence(1.0, {"split": stats(), **{f"split:{region}": found for region, found in of.items()}})


def splits(release: Release) -> dict[str, dict[str, float]]:
    regions = wanted(release).regions
    assert isinstance(regions, Regions)
    return {region: dict(split) for region, split in regions.splits}


def test_us_has_its_last_weight_before_eu_gets_its_first():
    release = opened(CANARY)
    assert wanted(release).split == (("v1", 1.0),), "who is in no region stays with the champion"
    assert splits(release) == {"us": {"v1": 0.95, "v2": 0.05}}
    release, done, _ = step(release, seen(us=stats(w05=10)), 9 * DAY)
    assert done == (actions.EnterStage("canary", 0, 0.5),)
    assert splits(release) == {"us": {"v1": 0.5, "v2": 0.5}}
    release, done, _ = step(release, seen(us=stats(w05=10, w5=9)), 9 * DAY)
    assert done == ()
    release, done, _ = step(release, seen(us=stats(w05=10, w5=10)), 9 * DAY)
    assert done == (actions.EnterStage("canary", 0, 0.05),)
    assert splits(release) == {"us": {"v1": 0.5, "v2": 0.5}, "eu": {"v1": 0.95, "v2": 0.05}}
    release, _, _ = step(release, seen(us=stats(w05=10, w5=99), eu=stats(w05=10)), 9 * DAY)
    assert splits(release) == {"us": {"v1": 0.5, "v2": 0.5}, "eu": {"v1": 0.5, "v2": 0.5}}
    at_last = seen(us=stats(w05=10, w5=99), eu=stats(w05=10, w5=10))
    release, done, _ = step(release, at_last, 9 * DAY)
    assert (release.state, type(done[0])) == ("watch", actions.Promote)


def in_eu() -> Release:
    return replace(opened(CANARY), step=2)


def test_one_that_fails_in_eu_only_is_aborted_and_leaves_both():
    after, done, judgement = step(in_eu(), seen(us=stats(w5=99), eu=stats(errors=0.05, w05=3)), DAY)
    assert (after.state, done) == ("aborted", (actions.Abort("v2", "sha256:b", "proved_worse"),))
    assert judgement.sentence.startswith("in eu: ")
    assert judgement.checks["errors:eu"].lower > 0 >= judgement.checks["errors"].lower
    assert (wanted(after).split, wanted(after).regions) == ((("v1", 1.0),), None)


def test_a_region_that_was_passed_is_still_guarded():
    after, _, judgement = step(in_eu(), seen(us=stats(errors=0.05, w5=99), eu=stats(w05=3)), DAY)
    assert (after.state, judgement.sentence[:7]) == ("aborted", "in us: ")


def test_a_split_that_is_broken_in_one_region_latches_the_release():
    broken = replace(stats(w05=9), states={"sample_ratio": State(10_000, 0, 900.0, 2500, 10_000)})
    after, done, _ = step(in_eu(), seen(us=stats(w5=99), eu=broken), DAY)
    assert (after.latched, done) == (True, (actions.Latch("sample_ratio"),))


def test_every_region_is_a_place_that_can_abort():
    release = opened(CANARY)
    assert policy_for(release).a_abort == policy_of(release.spec).a_abort / 3
    assert policy_for(release).a_promote == policy_of(release.spec).a_promote


def test_an_approval_after_it_keeps_every_region_at_its_last_weight():
    release = replace(opened(CANARY, {"approval": {}}), step=3)
    release, _, _ = step(release, seen(us=stats(w5=99), eu=stats(w5=99)), 9 * DAY)
    assert (release.state, splits(release)) == ("approval", {r: {"v1": 0.5, "v2": 0.5} for r in ("us", "eu")})


INTERLEAVE, SHADOW = {"interleave": {"sessions": 10}}, {"shadow": {"requests": 10}}


def sessions(n: int, credit: float) -> Evidence:
    size = 100_000
    state = State(size, 0.0, credit * size, 0.01 * size, size)
    return Evidence(1.0, {"interleave": Stats({"credit": state}, {}, Counts(n, n))})


def test_interleaving_sends_rank_to_the_merge_service_and_the_rest_to_the_champion():
    plan = wanted(opened(INTERLEAVE, SHADOW))
    assert (plan.split, plan.merge, plan.mirrors, plan.release) == ((("v1", 1.0),), ("v1", "v2"), (), "r")
    assert [backend.version for backend in plan.backends] == ["v1", "v2"]


def test_interleaving_is_left_with_its_sessions_and_the_proof_of_the_credit():
    release = opened(INTERLEAVE, SHADOW)
    assert step(release, sessions(9, 0.0), DAY)[1] == ()
    assert step(release, sessions(10, 0.0099), DAY)[0].state == "aborted"
    after, done, _ = step(release, sessions(10, 0.0), DAY)
    assert done == (actions.EnterStage("shadow", 1, 0.0),)
    assert after.proofs["credit"]["place"] == "interleave"
