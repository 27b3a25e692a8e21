"""A/B/C: several challengers in one release, each judged by itself; and which of them goes on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tidegate.release import actions, commands
from tidegate.release.confidence import State
from tidegate.release.evidence import Counts, Evidence, Stats
from tidegate.release.machine import command, open_release, step, step_from_json
from tidegate.release.policy import policy_of
from tidegate.release.stages import Release, Version, policy_for, requests_seen
from tidegate.release.traffic import wanted
from tidegate.spec import ReleaseSpec

DAY = 86400.0
OLD, B, C = Version("v1", "sha256:a"), Version("v3", "sha256:c"), Version("v2", "sha256:b")
AB = {"ab": {"arms": {"champion": "50%", "a": "30%", "b": "20%"}, "requests": 10}}
SHADOW, CANARY = {"shadow": {"requests": 10}}, {"canary": {"weights": ["5%", "50%"], "requests": 10}}
APPROVAL = {"approval": {}}


def opened(*stages, challengers=(B, C), **more) -> Release:
    spec = ReleaseSpec.model_validate({"stages": list(stages), "block": None, **more})
    return open_release("r", "m", OLD, challengers, spec, 0.0)


def mean(value: float, n: int = 1_000_000) -> State:
    return State(n, 0.0, value * n / 4, 0.01 * n / 4, n / 4)


def stats(loss: float = 0.0, errors: float = 0.0, requests: int = 100, **states: State) -> Stats:
    found = {"loss": mean(loss), "errors": mean(errors), **states}
    return Stats(found, {}, Counts(requests, requests, champion=requests // 2, challenger=requests // 2))


def evidence(place: str = "split", **of: Stats) -> Evidence:
    return Evidence(1.0, {f"{place}@{version}": found for version, found in of.items()})


def test_each_has_its_arm_and_the_rest_is_the_champions():
    assert dict(wanted(opened(AB)).split) == {"v1": 0.5, "v3": 0.3, "v2": 0.2}
    assert dict(wanted(opened(AB, challengers=(B,))).split) == {"v1": 0.7, "v3": 0.3}
    assert wanted(opened(SHADOW, AB)).mirrors == ("v3", "v2")
    assert opened(AB).weight == 0.5


def test_a_sticky_stage_says_so_in_its_plan():
    sticky = {"ab": {**AB["ab"], "sticky": {"cookie": "tidegate-arm"}}}
    assert wanted(opened(sticky)).sticky == "tidegate-arm"
    assert wanted(opened(AB)).sticky == ""


def test_alpha_is_shared_by_those_that_take_part():
    alone, both = policy_for(opened(AB, challengers=(B,))), policy_for(opened(AB))
    assert both.a_promote == alone.a_promote / 2
    assert both.a_abort == alone.a_abort / 2
    assert policy_of(opened(AB).spec).challengers == 2


def test_requests_of_a_stage_are_the_champions_once_and_each_challengers():
    found = evidence(v3=stats(requests=100), v2=stats(requests=80))
    assert requests_seen(opened(AB), found) == 50 + 50 + 40


@pytest.mark.parametrize(("loss", "better"), [({"v3": -0.01, "v2": 0.0}, "v3"), ({"v3": 0.0, "v2": -0.01}, "v2")])
def test_of_two_good_ones_the_better_is_promoted_and_the_other_ends_superseded(loss, better):
    found = evidence(**{name: stats(loss=value) for name, value in loss.items()})
    after, done, judgement = step(opened(AB), found, 8 * DAY)
    (other,) = {"v3", "v2"} - {better}
    assert [type(action) for action in done] == [actions.Supersede, actions.Promote]
    assert (done[0].version, done[0].by, done[1].version) == (other, better, better)
    assert (after.state, after.challenger.name, judgement.verdict) == ("watch", better, "promote")
    assert wanted(after).split == ((better, 1.0),)
    assert wanted(after).mirrors == ("v1",)
    assert set(judgement.checks) == {"loss@v3", "errors@v3", "loss@v2", "errors@v2"}


def test_one_that_is_worse_leaves_with_its_digest_and_the_other_goes_on():
    found = evidence(v3=stats(errors=0.05), v2=stats())
    release, done, judgement = step(opened(AB), found, DAY)
    assert done == (actions.Drop("v3", "sha256:c", "proved_worse"),)
    assert (release.state, release.left, judgement.verdict, judgement.reason) == ("ab", ("v3",), "hold", "one_worse")
    assert "errors" in release.sentence
    assert dict(wanted(release).split) == {"v1": 0.8, "v2": 0.2}
    assert [backend.version for backend in wanted(release).backends] == ["v1", "v2"]
    again, done, _ = step(release, found, DAY)
    assert (again, done) == (release, ())
    after, done, _ = step(release, found, 8 * DAY)
    assert (after.challenger.name, [type(action) for action in done]) == ("v2", [actions.Promote])


def test_when_all_are_worse_the_release_is_aborted_with_every_digest():
    after, done, judgement = step(opened(AB), evidence(v3=stats(errors=0.05), v2=stats(errors=0.05)), DAY)
    assert (after.state, judgement.verdict) == ("aborted", "abort")
    assert [action.digest for action in done] == ["sha256:c", "sha256:b"]


def test_one_that_does_not_start_leaves_too():
    release, done = command(opened(AB), commands.ChallengerFailed("exit status 1", "v2"), 1.0)
    assert done == (actions.Drop("v2", "sha256:b", "not_ready"),)
    assert dict(wanted(release).split) == {"v1": 0.7, "v3": 0.3}
    after, done = command(release, commands.ChallengerFailed("exit status 1", "v3"), 1.0)
    assert (after.state, done) == ("aborted", (actions.Abort("v3", "sha256:c", "not_ready"),))


def test_shadow_is_left_when_all_are_proved_and_a_canary_takes_the_better_one():
    release = opened(SHADOW, AB, CANARY)
    half = evidence("shadow", v3=stats(loss=-0.01), v2=stats(loss=0.0, requests=5))
    half = Evidence(1.0, {**half.places, "shadow@v2": replace(half.at("shadow@v2"), states={"loss": State()})})
    assert step(release, half, DAY)[1] == ()
    both = evidence("shadow", v3=stats(loss=-0.01), v2=stats(loss=-0.002))
    release, done, _ = step(release, both, DAY)
    assert done == (actions.EnterStage("ab", 1, 0.5),)
    assert set(release.proofs) == {"loss@v3", "loss@v2"}
    release, done, _ = step(release, evidence(v3=stats(), v2=stats()), 2 * DAY)
    assert done == (actions.Supersede("v2", "sha256:b", "v3"), actions.EnterStage("canary", 2, 0.05))
    assert dict(wanted(release).split) == {"v1": 0.95, "v3": 0.05}


def test_the_best_of_them_waits_for_the_approval():
    release, done, _ = step(opened(AB, APPROVAL), evidence(v3=stats(loss=0.0), v2=stats(loss=-0.01)), 8 * DAY)
    assert [type(action) for action in done] == [actions.Supersede, actions.EnterStage]
    assert (release.state, [version.name for version in release.active]) == ("approval", ["v2"])
    assert dict(wanted(release).split) == {"v1": 0.8, "v2": 0.2}
    release, done = command(release, commands.Approve("Ada", "looked at both"), 9 * DAY)
    assert (done[0].version, done[0].carried) == ("v2", 0.0)


def test_while_several_are_left_a_person_cannot_promote_without_saying_which():
    release = replace(opened(AB), latched=True)
    assert isinstance(command(release, commands.Approve("Ada", "go"), 1.0)[1][0], actions.Refuse)


def test_a_broken_split_of_one_latches_the_release():
    broken = stats(sample_ratio=State(10_000, 0, 900.0, 2500, 10_000))
    release, done, judgement = step(opened(AB), evidence(v3=stats(), v2=broken), 8 * DAY)
    assert (done, judgement.reason) == ((actions.Latch("sample_ratio"),), "sample_ratio")
    assert wanted(release).split == (("v1", 1.0),)


def test_json_in_and_out_decides_the_same():
    found = evidence(v3=stats(errors=0.05), v2=stats())
    direct = step(opened(AB), found, DAY)
    through = step_from_json(*json.loads(json.dumps([opened(AB).to_json(), found.to_json()])), DAY)
    assert Release.from_json(json.loads(json.dumps(through[0]))) == direct[0]
    assert [actions.action_from_json(action) for action in through[1]] == list(direct[1])
