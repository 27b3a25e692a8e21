"""The stretch of one release: from the decision to all traffic, every second in one phase, pauses counted as work."""

import pytest

from benchmarks.loop_table import Played, told
from benchmarks.phases import decision, is_over, story
from tidegate.journal.events import GENESIS, Draft, seal
from tidegate.traffic.replay import Tally

DAY = 86400.0
RELEASE = {"challengers": [{"name": "v2"}]}


def events(*told):
    """Events from (wall, event day, kind, data)."""
    return [
        seal(Draft(kind, day * DAY, data), "m", seq, wall, GENESIS)
        for seq, (wall, day, kind, data) in enumerate(told, 1)
    ]


def retrain():
    return {"decision": {"decision": "retrain", "causes": ["volume"], "reason": "a run starts for volume"}}


def traffic(split, mirrors=()):
    return {"split": split, "mirrors": list(mirrors)}


def stage(weight):
    return {"release": {**RELEASE, "weight": weight}}


TOLD = (
    (90.0, 0, "trigger.evaluated", {"decision": {"decision": "wait"}}),
    (100.0, 0, "trigger.evaluated", retrain()),
    (
        110.0,
        0,
        "register.candidate",
        {"version": "v2", "cost": {"ingest": {"seconds": 4.0}, "train": {"seconds": 5.0}}},
    ),
    (110.5, 0, "release.opened", {"release": RELEASE}),
    (111.0, 0, "serve.traffic", traffic([["v1", 1.0]], ["v2"])),
    (
        113.0,
        0,
        "trigger.finished",
        {"ok": True},
    ),
    (123.0, 5, "release.stage", stage(0.5)),
    (123.5, 5, "serve.traffic", traffic([["v1", 0.5], ["v2", 0.5]])),
    (130.0, 8, "release.promoted", {"release": RELEASE}),
    (131.0, 8, "serve.traffic", traffic([["v2", 1.0]], ["v1"])),
)
PAUSES = [(100.5, 113.0), (130.5, 131.5)]


def test_every_second_of_the_stretch_is_in_one_phase():
    found = story(events(*TOLD), PAUSES)
    assert [phase.name for phase in found.phases] == [
        *("pipeline", "release opens", "new version starts", "shadow", "canary 50%", "promotion"),
    ]
    assert found.seconds == 31.0
    assert sum(phase.seconds for phase in found.phases) == pytest.approx(found.seconds)


def test_our_work_is_the_time_in_which_the_replay_stood_still():
    found = story(events(*TOLD), PAUSES)
    assert found.work == pytest.approx(12.5 + 0.5)
    shadow = found.phases[3]
    assert (shadow.work, shadow.waiting, shadow.event_days) == (2.0, 10.0, 5.0)


def test_a_run_that_has_not_ended_when_the_stretch_has_is_a_story_too():
    found = story(events(*(TOLD[:5] + TOLD[6:])), [])
    assert (found.ended, found.steps) == (None, (("ingest", 4.0), ("train", 5.0)))
    assert story(events(*TOLD), []).ended == 113.0


def test_the_stretch_is_over_when_all_traffic_is_on_the_new_version():
    told_so_far = events(*TOLD)
    assert [n for n in range(len(TOLD) + 1) if is_over(told_so_far[:n])] == [len(TOLD)]


def test_a_refused_run_is_over_and_is_not_a_story():
    refused = events(*TOLD[:2], (105.0, 0, "evaluate.refused", {"reason": "gate_metric"}))
    assert is_over(refused)
    with pytest.raises(ValueError, match=r"evaluate\.refused"):
        story(refused, [])


def test_nothing_is_decided_while_the_policy_says_wait():
    assert decision(events(*TOLD[:1])) is None
    assert not is_over(events(*TOLD[:1]))


def test_the_table_adds_up_and_says_whether_budgets_are_met():
    tally = Tally(sent=3, answered=3, latencies=[0.9, 0.001, 0.002])
    tally.statuses[200] = 3
    result = told(Played(story(events(*TOLD), PAUSES), tally, 1, 3))
    rows = {row[0].strip(): row for row in result.rows}
    assert rows["in all"][1:] == ("31.00", "13.00", "18.00", "8.00")
    assert rows["register's event, kfp, processes"][1] == "1.00"
    assert [budget.met for budget in result.budgets] == [True, True, True]
    assert "p99 2.0 ms" in result.to_text()


def test_a_request_that_is_not_in_the_log_is_a_budget_not_met():
    tally = Tally(sent=3, answered=3)
    tally.statuses[200] = 3
    result = told(Played(story(events(*TOLD), PAUSES), tally, 0, 2))
    assert not result.budgets[2].met
