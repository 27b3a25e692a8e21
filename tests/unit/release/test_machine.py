"""The table, stage by stage, and whole releases through a simulated world."""

import json
from dataclasses import replace

import pytest

from tests.simulated_release import DAY, NEW, OLD, World
from tidegate.errors import UserError
from tidegate.reasons import REASONS
from tidegate.release import actions, commands
from tidegate.release.confidence import State
from tidegate.release.evidence import Counts, Evidence, Stats
from tidegate.release.judge import carried_after
from tidegate.release.machine import TABLE, TRANSITIONS, command, open_release, step, step_from_json
from tidegate.release.stages import ENDED, STAGES, STATES, Release
from tidegate.release.traffic import wanted
from tidegate.spec import ReleaseSpec, load_model

FLIGHTS = "k8s/models/flight-delay.yaml"


def spec(*stages, **more):
    return ReleaseSpec.model_validate({"stages": list(stages), "block": None, **more})


SHADOW, CANARY, APPROVAL = {"shadow": {"requests": 10}}, {"canary": {"weights": ["5%", "50%"], "requests": 10}}, {
    "approval": {}
}  # fmt: skip


def opened(*stages, **more):
    return open_release("r", "m", OLD, (NEW,), spec(*stages, **more), 0.0)


def mean(value, n=1_000_000):
    return State(n, 0.0, value * n / 4, 0.01 * n / 4, n / 4)


def evidence(place, requests=100, loss=0.0, errors=0.0, weights=None, **states):
    found = {"loss": mean(loss), "errors": mean(errors), **states}
    counts = Counts(requests=requests, matured=requests, by_weight=weights or {})
    return Evidence(1.0, {place: Stats(found, {}, counts)})


def test_every_state_of_the_table_is_known_and_every_ending_is_reached():
    assert {state for state, _ in TRANSITIONS} <= set(STATES)
    assert set(ENDED) | {"watch", "next", "same"} == {to for _, _, to in TABLE}


def test_only_a_proof_or_a_named_person_leads_to_a_promotion():
    assert {event for (_, event), to in TRANSITIONS.items() if to == "watch"} == {"proved", "approve"}
    before = {(state, event) for (state, event), to in TRANSITIONS.items() if to == "promoted"}
    assert {state for state, _ in before} == {"watch"}


def test_shadow_is_left_with_its_requests_and_the_proof_of_the_loss():
    release = opened(SHADOW, CANARY)
    assert step(release, evidence("shadow", requests=9), 1.0)[1] == ()
    unproved = evidence("shadow", **{"loss": 0.0049}, errors=0.0)
    assert step(release, unproved, 1.0)[0].state == "aborted"
    after, done, judgement = step(release, evidence("shadow"), 1.0)
    assert done == (actions.EnterStage("canary", 1, 0.05),)
    assert (judgement.verdict, judgement.reason) == ("hold", "proved_here")
    assert after.proofs["loss"]["place"] == "shadow"
    assert after.proofs["loss"]["digest"] == NEW.digest


def test_a_shadow_may_ask_for_time():
    release = opened({"shadow": {"requests": 10, "minDuration": "2d"}}, CANARY)
    assert step(release, evidence("shadow"), 1.9 * DAY)[0].state == "shadow"
    assert step(release, evidence("shadow"), 2 * DAY)[0].state == "canary"


def test_a_weight_is_left_by_its_requests_and_the_last_one_by_the_proof():
    release, _, _ = step(opened(SHADOW, CANARY), evidence("shadow"), 1.0)
    early = evidence("split", weights={"0.05": 9})
    assert step(release, early, 9 * DAY)[1] == ()
    seen = evidence("split", weights={"0.05": 10}, errors=0.0)
    release, done, judgement = step(release, seen, 9 * DAY)
    assert done == (actions.EnterStage("canary", 1, 0.5),)
    assert judgement.verdict == "hold", "proved already, but not at the last weight"
    all_seen = evidence("split", weights={"0.05": 10, "0.5": 10})
    assert step(release, all_seen, 6 * DAY)[2].reason == "min_duration"
    release, done, judgement = step(release, all_seen, 9 * DAY)
    assert (release.state, judgement.verdict) == ("watch", "promote")
    spent = carried_after(0.0, 0.0, release.proofs["loss"]["upper"])
    assert done == (actions.Promote("v2", "sha256:b", "proved_not_worse", spent),)


def test_a_lower_bound_above_zero_keeps_the_weight():
    release = replace(opened(SHADOW, CANARY, block="1d"), state="canary", stage=1)
    found = evidence("split", loss=0.02, weights={"0.05": 99})
    found = Evidence(1.0, {"split": replace(found.at("split"), blocks={"loss": {0: (9, 1.0, 10.0)}})})
    after, done, _ = step(release, found, 1.0)
    assert (after.step, done) == (0, ())


def test_worse_is_aborted_with_the_digest_to_quarantine():
    after, done, judgement = step(opened(SHADOW, CANARY), evidence("shadow", errors=0.05), 1.0)
    assert (after.state, judgement.verdict) == ("aborted", "abort")
    assert done == (actions.Abort("v2", "sha256:b", "proved_worse"),)
    assert "errors" in after.sentence


@pytest.mark.parametrize("stages", [(SHADOW, CANARY), (CANARY,), (APPROVAL, CANARY)])
def test_without_evidence_the_champion_stays_at_the_deadline(stages):
    release = opened(*stages)
    assert step(release, Evidence(), 44.9 * DAY)[0] == release
    after, done, _ = step(release, Evidence(), 45 * DAY)
    assert (after.state, done) == ("expired", (actions.End("expired", "deadline"),))
    assert wanted(after).split == (("v1", 1.0),)


def test_a_broken_sample_ratio_is_latched_and_the_champion_answers_alone():
    release = replace(opened(CANARY), state="canary")
    broken = evidence("split", weights={"0.05": 99}, sample_ratio=State(10_000, 0, 900.0, 2500, 10_000))
    release, done, judgement = step(release, broken, 9 * DAY)
    assert (release.latched, done, judgement.verdict) == (True, (actions.Latch("sample_ratio"),), "hold")
    assert wanted(release).split == (("v1", 1.0),)
    assert wanted(release).release == ""
    again, done, judgement = step(release, evidence("split", weights={"0.05": 99}), 9 * DAY)
    assert (again, done, judgement.reason) == (release, (), "sample_ratio")
    assert step(release, broken, 45 * DAY)[0].state == "expired"
    person = command(release, commands.Approve("Ada", "the log was cut, not the split"), 10 * DAY)
    assert isinstance(person[1][0], actions.Promote)
    assert person[0].by == "Ada"


def test_a_paused_release_aborts_but_does_not_go_on():
    release, _ = command(opened(SHADOW, CANARY), commands.Pause("Ada"), 1.0)
    after, done, judgement = step(release, evidence("shadow"), 2.0)
    assert (after, done, judgement.reason) == (release, (), "paused")
    assert step(release, evidence("shadow", errors=0.05), 2.0)[0].state == "aborted"
    release, _ = command(release, commands.Resume("Ada"), 3.0)
    assert step(release, evidence("shadow"), 4.0)[0].state == "canary"


def test_an_approval_waits_for_a_named_person_with_a_reason():
    release, _, _ = step(opened(SHADOW, APPROVAL, CANARY), evidence("shadow"), 1.0)
    assert (release.state, wanted(release).mirrors) == ("approval", ("v2",))
    assert step(release, evidence("shadow"), 2.0)[2].reason == "approval"
    for nobody in (commands.Approve("", "why"), commands.Approve("Ada", " ")):
        same, done = command(release, nobody, 2.0)
        assert (same, type(done[0])) == (release, actions.Refuse)
    release, done = command(release, commands.Approve("Ada", "looks fine"), 2.0)
    assert done == (actions.EnterStage("canary", 2, 0.05),)


def test_what_was_seen_before_an_approval_does_not_count_for_the_canary_behind_it():
    stages = {"ab": {"arms": {"champion": "50%", "challenger": "50%"}, "requests": 10}}, APPROVAL, {
        "canary": {"weights": ["50%"], "requests": 10}
    }  # fmt: skip
    release, _, _ = step(opened(*stages), evidence("split", weights={"0.5": 100}), 8 * DAY)
    assert (release.state, release.entered_requests) == ("approval", 100)
    release, _, _ = step(release, evidence("split", requests=300, weights={"0.5": 300}), 9 * DAY)
    release, _ = command(release, commands.Approve("Ada", "looks fine"), 9 * DAY)
    assert (release.state, release.entered_requests) == ("canary", 300)
    assert step(release, evidence("split", requests=309, weights={"0.5": 309}), 10 * DAY)[0].state == "canary"
    assert step(release, evidence("split", requests=310, weights={"0.5": 310}), 10 * DAY)[0].state == "watch"


def test_an_approval_at_the_end_promotes_what_is_proved_and_keeps_the_last_weight():
    release = replace(opened(CANARY, APPROVAL), step=1)
    seen = evidence("split", weights={"0.5": 99})
    assert step(release, seen, 6 * DAY)[1] == ()
    release, _, _ = step(release, seen, 8 * DAY)
    assert (release.state, release.weight) == ("approval", 0.5)
    assert step(release, evidence("split", errors=0.05), 9 * DAY)[0].state == "aborted"
    release, done = command(release, commands.Approve("Ada", "go"), 9 * DAY)
    spent = carried_after(0.0, 0.0, release.proofs["loss"]["upper"])
    assert done == (actions.Promote("v2", "sha256:b", "by_person", spent),)


@pytest.mark.parametrize("state", ["shadow", "canary", "watch", *ENDED])
def test_an_approval_elsewhere_is_refused(state):
    release = replace(opened(SHADOW, CANARY), state=state)
    assert isinstance(command(release, commands.Approve("Ada", "now"), 1.0)[1][0], actions.Refuse)


def test_a_challenger_that_does_not_start_is_aborted_with_the_reason():
    after, done = command(opened(SHADOW), commands.ChallengerFailed("exit status 1 after 3 starts"), 1.0)
    assert done == (actions.Abort("v2", "sha256:b", "not_ready"),)
    assert "exit status 1" in after.sentence


def watching(**more):
    return replace(opened(SHADOW, **more), state="watch", entered=0.0)


def test_after_a_promotion_the_old_champion_is_the_shadow():
    plan = wanted(watching())
    assert (plan.split, plan.mirrors, plan.release) == ((("v2", 1.0),), ("v1",), "r")


def test_a_regression_in_the_watch_rolls_back():
    after, done, _ = step(watching(), evidence("watch", errors=0.05), 1.0)
    assert (after.state, after.reason) == ("rolled_back", "regression")
    assert done == (actions.Rollback("v2", "sha256:b", "regression"),)
    assert wanted(after).split == (("v1", 1.0),)


def test_a_quiet_watch_ends_promoted_by_the_clock_or_by_the_next_release():
    assert step(watching(), evidence("watch"), 6.9 * DAY)[2].reason == "watching"
    after, done, _ = step(watching(), evidence("watch"), 7 * DAY)
    assert (after.state, done) == ("promoted", (actions.End("promoted", "watched"),))
    assert wanted(after).backends[0].version == "v2"
    assert command(watching(), commands.EndWatch(), 1.0)[0].state == "promoted"


def test_a_person_may_roll_back_after_the_watch_too():
    release = replace(watching(), state="promoted")
    after, done = command(release, commands.Rollback("Ada", "customers called"), 1.0)
    assert (after.state, type(done[0])) == ("rolled_back", actions.Rollback)


def test_plans_of_a_canary_split_by_weight():
    release = replace(opened(SHADOW, CANARY), state="canary", stage=1)
    assert wanted(release, replicas=2).split == (("v1", 0.95), ("v2", 0.05))
    assert {backend.replicas for backend in wanted(release, 2).backends} == {2}


def test_a_fixed_split_of_two_arms_is_a_stage_too():
    release = opened({"ab": {"arms": {"champion": "70%", "v2": "30%"}, "requests": 10}})
    assert wanted(release).split == (("v1", 0.7), ("v2", 0.3))
    after, _, _ = step(release, evidence("split", weights={"0.3": 10}), 8 * DAY)
    assert after.state == "watch"


@pytest.mark.parametrize(
    "stage",
    [
        {"canary": {"weights": ["5%", "100%"]}},
        {"canary": {"weights": ["0%"]}},
        {"canary": {"weights": ["5%"], "regions": {"header": "x-region", "order": []}}},
        {"canary": {"weights": ["5%"], "regions": {"header": "x-region", "order": ["us", "us"]}}},
        {"ab": {"arms": {"champion": "100%"}}},
        {"ab": {"arms": {"a": "50%", "b": "50%"}}},
        {"ab": {"arms": {"champion": "50%", "a": "25%"}}},
        {"ab": {"arms": {"champion": "50%", "a": "50%"}, "sticky": {"cookie": "a=b"}}},
        {"ab": {"arms": {"champion": "30%", **{f"a{i}": "10%" for i in range(7)}}}},
    ],
)
def test_what_a_release_cannot_do_is_refused_before_it_starts(stage):
    with pytest.raises(UserError, match=r"release\.stages"):
        opened(SHADOW, stage)


def test_credits_alone_prove_no_loss():
    with pytest.raises(UserError, match="shadow, ab or canary"):
        opened({"interleave": {}})


def test_a_proof_of_another_digest_is_void():
    release, _, _ = step(opened(SHADOW, CANARY), evidence("shadow"), 1.0)
    other = replace(release, step=1, challengers=(replace(NEW, digest="sha256:c"),))
    seen = evidence("split", weights={"0.5": 99})
    assert step(replace(release, step=1), seen, 9 * DAY)[0].state == "watch"
    assert step(other, seen, 9 * DAY)[0].state == "canary"


def test_what_is_carried_is_asked_again_and_handed_on():
    tight = replace(opened(SHADOW, CANARY), carried=0.0049)
    after, done, judgement = step(tight, evidence("shadow"), 1.0)
    assert (after.state, done, judgement.reason) == ("shadow", (), "carried")
    release, _, _ = step(replace(tight, carried=0.001), evidence("shadow", loss=0.0001), 1.0)
    release, done, _ = step(replace(release, step=1), evidence("split", weights={"0.5": 99}), 9 * DAY)
    assert done[0].carried == carried_after(0.001, 0.0001, release.proofs["loss"]["upper"])


def test_json_in_and_out_decides_the_same():
    release, found = opened(SHADOW, CANARY), evidence("shadow")
    direct = step(release, found, 1.0)
    through = step_from_json(*json.loads(json.dumps([release.to_json(), found.to_json()])), 1.0)
    assert Release.from_json(json.loads(json.dumps(through[0]))) == direct[0]
    assert [actions.action_from_json(action) for action in through[1]] == list(direct[1])
    assert through[2] == direct[2].to_json()
    json.dumps(through, allow_nan=False)


def test_every_reason_that_is_given_has_its_message():
    assert {"proved_here", "stage", "stage_done", "paused", "approval", "watching", "watched"} <= set(REASONS)
    assert set(STAGES) & set(ENDED) == set()


@pytest.fixture(scope="module")
def flights():
    return load_model(FLIGHTS).spec.release


def test_an_equal_model_is_promoted_under_the_committed_policy(flights):
    world = World()
    release, _ = world.run(flights, seed=1)
    promoted = next((day, sent) for day, sent, action, _ in world.events if isinstance(action, actions.Promote))
    assert release.state == "promoted"
    assert 15 < promoted[0] < 25
    assert promoted[1] < 25_000


def test_a_clearly_worse_model_is_aborted_in_shadow_within_a_week(flights):
    world = World(bias=0.7)
    release, _ = world.run(flights, seed=2)
    assert (release.state, release.stage) == ("aborted", 0)
    assert world.events[-1][0] < 8


def test_a_model_that_fails_is_aborted_at_once(flights):
    world = World(errors=(0.002, 0.5), hours=1.0)
    assert world.run(flights, seed=3)[0].state == "aborted"
    assert world.events[-1][0] < 0.2


def test_a_model_that_turns_bad_after_its_promotion_is_rolled_back(flights):
    world = World(bias_after_promotion=1.0)
    release, _ = world.run(flights, seed=1)
    assert (release.state, release.reason) == ("rolled_back", "regression")
