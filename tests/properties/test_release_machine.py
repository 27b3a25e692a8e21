"""From any state and any event a release goes to a known state, and never to a promotion that nobody decided."""

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulated_release import NEW, OLD, World
from tidegate.release import actions, commands
from tidegate.release.confidence import State
from tidegate.release.evidence import Counts, Evidence, Stats
from tidegate.release.machine import command, open_release, step, step_from_json
from tidegate.release.stages import ENDED, STATES, Release, Version, challengers_of
from tidegate.release.traffic import wanted
from tidegate.spec import ReleaseSpec

DAY = 86400.0
OTHER = Version("v3", "sha256:c")
STAGE = st.sampled_from(
    [
        {"shadow": {"requests": 50}},
        {"canary": {"weights": ["1%", "50%"], "requests": 50}},
        {"ab": {"arms": {"champion": "50%", "x": "50%"}, "requests": 50}},
        {"ab": {"arms": {"champion": "50%", "x": "30%", "y": "20%"}, "requests": 50, "sticky": {"cookie": "c"}}},
        {"canary": {"weights": ["1%", "50%"], "requests": 50, "regions": {"header": "r", "order": ["us", "eu"]}}},
        {"interleave": {"sessions": 50}},
        {"approval": {}},
    ]
)


@st.composite
def specs(draw):
    stages = draw(st.lists(STAGE, min_size=1, max_size=4))
    if all("approval" in stage or "interleave" in stage for stage in stages):
        stages.append({"shadow": {"requests": 50}})
    block = draw(st.sampled_from([None, "1d"]))
    return ReleaseSpec.model_validate({"stages": stages, "block": block, "minDuration": "2d", "deadline": "20d"})


@st.composite
def states_of_checks(draw):
    n = draw(st.sampled_from([0, 10, 10_000, 10_000_000]))
    effect = draw(st.sampled_from([-0.02, 0.0, 0.003, 0.05]))
    return State(n, 0.1 * n, effect * n / 4, 0.01 * n, n / 4)


@st.composite
def stats(draw):
    checks = ("loss", "errors", "credit", "sample_ratio", "sample_ratio_labels")
    found = {name: draw(states_of_checks()) for name in draw(st.sets(st.sampled_from(checks)))}
    days = draw(st.integers(0, 9))
    blocks = {"loss": {d: (10, draw(st.sampled_from([-0.1, 0.0, 0.1])), 2.5) for d in range(days)}}
    seen = draw(st.sampled_from([0, 49, 1000]))
    counts = Counts(requests=seen, matured=seen, by_weight={"0.01": seen, "0.5": seen})
    return Stats(found, blocks, counts)


PLACES = ["shadow", "split", "watch", "interleave", "split:us", "split:eu"]
PLACES += [f"{place}@{version}" for place in ("shadow", "split", "watch", "interleave") for version in ("v2", "v3")]
EVIDENCE = st.builds(lambda places: Evidence(1.0, places), st.dictionaries(st.sampled_from(PLACES), stats()))


def opened(spec):
    """With as many challengers as the spec takes."""
    return open_release("r", "m", OLD, (NEW, OTHER)[: challengers_of(spec)], spec, 0.0)


NAMES = st.sampled_from(["", "Ada"])
COMMANDS = st.one_of(
    st.builds(commands.Pause),
    st.builds(commands.Resume),
    st.builds(commands.EndWatch),
    st.builds(commands.ChallengerFailed, st.just("crashed"), st.sampled_from(["", "v2", "v3", "v9"])),
    *(st.builds(kind, NAMES, NAMES) for kind in (commands.Approve, commands.Abort, commands.Rollback)),
)
EVENTS = st.lists(st.one_of(st.tuples(EVIDENCE, st.floats(0, 3 * DAY)), COMMANDS), max_size=12)


def known(release):
    """A known state, whose traffic sums to 1 and never reaches a digest that was given up."""
    assert release.state in STATES
    plan = wanted(release)  # a Plan checks its own weights
    for split in plan.splits:
        assert abs(sum(weight for _, weight in split) - 1) < 1e-9
    assert not {backend.version for backend in plan.backends} & set(release.left)
    if release.state in ("aborted", "expired", "rolled_back"):
        assert plan.split == ((OLD.name, 1.0),)
        assert [backend.digest for backend in plan.backends] == [OLD.digest]
    assert Release.from_json(json.loads(json.dumps(release.to_json()))) == release


@settings(max_examples=150, deadline=None)
@given(specs(), EVENTS)
def test_any_run_of_events_stays_in_known_states_and_promotes_only_for_cause(spec, events):
    release, now = opened(spec), 0.0
    for event in events:
        before = release
        if isinstance(event, tuple):
            now += event[1]
            release, done, judgement = step(release, event[0], now)
            assert step(before, event[0], now) == (release, done, judgement), "deterministic"
            promoted = [action for action in done if isinstance(action, actions.Promote)]
            assert len(promoted) == (before.open and release.state == "watch")
            assert not promoted or judgement.verdict == "promote"
            assert all(action.version in [version.name for version in before.active] for action in promoted)
            assert (judgement.verdict == "abort") == any(isinstance(a, actions.Abort | actions.Rollback) for a in done)
        else:
            release, done = command(release, event, now)
            if before.open and release.state == "watch":
                assert isinstance(event, commands.Approve)
                assert event.by
                assert event.reason
                assert before.state == "approval" or before.latched
            if before.ended and release != before:
                assert isinstance(event, commands.Rollback)
        known(release)


@settings(max_examples=100, deadline=None)
@given(specs(), EVIDENCE, st.sampled_from(STATES), st.integers(0, 4), st.integers(0, 3), st.floats(0, 30 * DAY))
def test_from_any_state_at_all(spec, evidence, state, stage, weight, now):
    release = opened(spec)
    release = replace(release, state=state, stage=min(stage, len(spec.stages) - 1), step=weight)
    after, done, _ = step(release, evidence, now)
    assert after.state in STATES
    if release.state in ENDED:
        assert (after, done) == (release, ())


@settings(max_examples=100, deadline=None)
@given(specs(), EVIDENCE, st.floats(0, 30 * DAY))
def test_json_decides_what_the_values_decide(spec, evidence, now):
    release = opened(spec)
    found = step_from_json(json.loads(json.dumps(release.to_json())), json.loads(json.dumps(evidence.to_json())), now)
    after, done, judgement = step(release, evidence, now)
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(
        json.dumps([after.to_json(), [actions.action_to_json(action) for action in done], judgement.to_json()])
    )


@settings(max_examples=60, deadline=None)
@given(specs(), st.floats(0, 60 * DAY))
def test_without_evidence_nothing_is_ever_promoted(spec, now):
    release, done, _ = step(opened(spec), Evidence(), now)
    assert not any(isinstance(action, actions.Promote) for action in done)
    assert (release.state == "expired") == (now >= 20 * DAY)


def small(deadline="12d"):
    stages = [{"shadow": {"requests": 500}}, {"canary": {"weights": ["10%", "50%"], "requests": 300}}]
    judge = {"loss": {"margin": 0.02}, "errors": {"margin": "5%"}}
    return ReleaseSpec.model_validate(
        {"stages": stages, "block": "1d", "minDuration": "5d", "watch": "2d", "deadline": deadline, "judge": judge}
    )


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.0, 0.8]), st.sampled_from([0.002, 0.002, 0.3]))
def test_crashes_at_any_time_do_not_change_how_a_release_ends(seed, bias, errors):
    def story(crashes):
        world = World(bias=bias, errors=(0.002, errors), per_day=200)
        release, _ = world.run(small(), seed, days=30, crashes=crashes)
        # sums may differ in their last bit, since a restart cuts the rows into other batches
        told = [(day, sent, type(action), getattr(action, "weight", None)) for day, sent, action, _ in world.events]
        return release.state, release.entered, told

    calm = story(0.0)
    assert calm[0] in ENDED
    assert story(0.3) == calm
