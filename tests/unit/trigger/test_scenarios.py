"""Written stories of the trigger policy, with the answers expected."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tidegate.errors import UserError
from tidegate.reasons import TRIGGER_REASONS
from tidegate.spec import TriggersSpec, load_model
from tidegate.trigger.events import read_events
from tidegate.trigger.policy import check_triggers
from tidegate.trigger.replay import replay

TRAINED = {"time": "2013-07-01T00:00:00Z", "kind": "run_finished", "run": "first", "ok": True, "rows": 1000}


def spec(**parts: Any) -> TriggersSpec:
    return TriggersSpec.model_validate({"cooldown": "1h", **parts})


def at(day: str, clock: str, kind: str, **rest: Any) -> dict[str, Any]:
    return {"time": f"2013-{day}T{clock}Z", "kind": kind, **rest}


def answers(triggers: TriggersSpec, *events: dict[str, Any]) -> list[tuple[str, list[str], str]]:
    return [(one["decision"], one["causes"], one["key"]) for one in replay(events, triggers)]


def bad(day: str, clock: str, upper: float = 0.66, labels: int = 5000) -> dict[str, Any]:
    return at(day, clock, "metric", name="roc_auc", value=0.64, lower=0.62, upper=upper, labels=labels)


PERFORMANCE = {"metric": "roc_auc", "below": 0.68, "window": "7d", "minLabels": 2000}


def test_before_the_first_run_volume_asks_for_nothing() -> None:
    found = answers(spec(volume={"increase": "5%"}), at("07-01", "00:00:00", "rows", count=10**6))
    assert found == [("wait", [], "no_cause")]


def test_volume_starts_a_run_at_exactly_its_share() -> None:
    found = answers(
        spec(volume={"increase": "5%"}),
        TRAINED,
        at("07-02", "00:00:00", "rows", count=49),
        at("07-02", "01:00:00", "rows", count=1),
    )
    assert [one[0] for one in found] == ["wait", "wait", "retrain"]


def test_causes_of_one_window_are_one_run() -> None:
    triggers = spec(volume={"increase": "5%"}, performance=PERFORMANCE, drift={"window": "7d"})
    found = answers(
        triggers,
        TRAINED,
        at("07-02", "00:00:00", "release", open=True),
        at("07-03", "00:00:00", "rows", count=50),
        at("07-04", "00:00:00", "drift", finding="concept_drift"),
        bad("07-05", "00:00:00"),
        at("07-09", "00:00:00", "release", open=False),
    )
    assert [one[2] for one in found[1:5]] == ["no_cause", "release_open", "release_open", "release_open"]
    assert found[5] == ("retrain", ["drift", "performance", "volume"], "started")


def test_fifty_causes_at_once_start_one_run() -> None:
    triggers = spec(schedule={"cron": "0 4 * * *"}, performance=PERFORMANCE, drift={"window": "7d"})
    many = [
        at("07-02", "04:00:00", "tick"),
        bad("07-02", "04:00:00"),
        at("07-02", "04:00:00", "drift", finding="data_drift"),
    ]
    found = answers(triggers, *(many * 17)[:50])
    assert [one[0] for one in found].count("retrain") == 1


def test_the_cooldown_ends_at_its_last_second() -> None:
    triggers = spec(schedule={"cron": "*/5 * * * *"})
    found = answers(
        triggers,
        at("07-02", "04:00:00", "tick"),
        at("07-02", "04:10:00", "run_finished", run="a", ok=True, rows=1000),
        at("07-02", "05:09:59", "tick"),
        at("07-02", "05:10:00", "tick"),
    )
    assert [one[2] for one in found] == ["started", "no_cause", "cooldown", "started"]


def test_one_run_at_a_time_also_for_a_person() -> None:
    found = answers(
        spec(),
        at("07-02", "04:00:00", "request", cause="manual"),
        at("07-02", "04:01:00", "request", cause="code"),
        at("07-02", "04:10:00", "run_finished", run="a", ok=True, rows=1000),
    )
    assert found == [
        ("retrain", ["manual"], "started"),
        ("wait", ["code"], "in_flight"),
        ("retrain", ["code"], "started"),
    ]


def test_a_person_waits_neither_for_a_release_nor_for_the_cooldown_nor_for_the_budget() -> None:
    triggers = spec(budget={"runsPerDay": 1}, cooldown="10h", schedule={"cron": "0 4 * * *"})
    found = answers(
        triggers,
        at("07-02", "04:00:00", "tick"),
        at("07-02", "04:10:00", "run_finished", run="a", ok=True, rows=1000),
        at("07-02", "04:20:00", "release", open=True),
        at("07-02", "04:30:00", "request", cause="manual"),
    )
    assert found[-1] == ("retrain", ["manual"], "started")


STORM = {"name": "storm", "from": "2013-07-02T06:00:00Z", "to": "2013-07-02T12:00:00Z", "cron": "0 * * * *"}


@pytest.mark.parametrize(
    ("clock", "key"),
    [("05:59:00", "no_cause"), ("06:00:00", "started"), ("11:30:00", "no_cause"), ("12:00:00", "no_cause")],
)
def test_a_calendar_event_counts_from_its_start_to_before_its_end(clock: str, key: str) -> None:
    triggers = spec(schedule={"cron": "0 4 1 * *", "events": [STORM]})
    before = (
        f"{int(clock[:2]):02}:{max(int(clock[3:5]) - 1, 0):02}:00"
        if clock[3:5] != "00"
        else f"{int(clock[:2]) - 1:02}:59:00"
    )
    found = answers(triggers, at("07-02", before, "tick"), at("07-02", clock, "tick"))
    assert found[-1][2] == key


def test_an_event_given_by_dates_lasts_through_its_last_day() -> None:
    storm = {"name": "storm", "from": "2013-07-02", "to": "2013-07-03", "cron": "0 23 * * *"}
    triggers = spec(schedule={"cron": "0 4 1 * *", "events": [storm]})
    assert answers(triggers, at("07-03", "23:00:00", "tick"))[0][1] == ["schedule"]
    assert answers(triggers, at("07-04", "23:00:00", "tick"))[0][1] == []


def test_daylight_saving_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        triggers = spec(schedule={"cron": "30 2 10 3 *"})  # 02:30 of this night is not on New York's clocks
        found = answers(triggers, at("03-10", "02:29:00", "tick"), at("03-10", "02:30:00", "tick"))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert os.environ.get("TZ") != "America/New_York"
    assert [one[2] for one in found] == ["no_cause", "started"]


def test_a_cron_time_that_was_slept_through_causes_once() -> None:
    found = answers(
        spec(schedule={"cron": "0 * * * *"}), at("07-02", "00:30:00", "tick"), at("07-05", "00:30:00", "tick")
    )
    assert [one[2] for one in found] == ["no_cause", "started"]


def test_a_spent_budget_waits_for_the_next_day() -> None:
    triggers = spec(schedule={"cron": "0 * * * *"}, cooldown="0s", budget={"runsPerDay": 1})
    found = answers(
        triggers,
        at("07-02", "04:00:00", "tick"),
        at("07-02", "04:10:00", "run_finished", run="a", ok=True, rows=1000),
        at("07-02", "05:00:00", "tick"),
        at("07-02", "23:59:59", "tick"),
        at("07-03", "00:00:00", "tick"),
    )
    assert [one[2] for one in found] == ["started", "no_cause", "budget", "budget", "started"]


def test_a_failed_run_leaves_its_rows_to_the_next() -> None:
    found = answers(
        spec(volume={"increase": "5%"}),
        TRAINED,
        at("07-02", "00:00:00", "rows", count=60),
        at("07-02", "01:00:00", "run_finished", run="a", ok=False, rows=None),
        at("07-02", "02:00:00", "tick"),
        at("07-02", "03:00:00", "run_finished", run="b", ok=True, rows=1060),
        at("07-02", "09:00:00", "rows", count=52),
        at("07-02", "09:00:00", "rows", count=1),
    )
    assert [one[2] for one in found] == [
        "no_cause",
        "started",
        "cooldown",
        "started",
        "no_cause",
        "no_cause",
        "started",
    ]


def test_skew_blocks_all_but_a_person_until_a_look_finds_none() -> None:
    triggers = spec(schedule={"cron": "0 4 * * *"}, drift={"window": "7d"})
    found = answers(
        triggers,
        at("07-01", "05:00:00", "tick"),
        at("07-02", "00:00:00", "drift", finding="skew"),
        at("07-02", "04:00:00", "tick"),
        at("07-02", "05:00:00", "request", cause="manual"),
        at("07-02", "06:00:00", "run_finished", run="a", ok=True, rows=1000),
        at("07-03", "00:00:00", "drift", finding="not_assessable"),
        at("07-04", "00:00:00", "drift", finding="none"),
    )
    assert [one[2] for one in found] == ["no_cause", "skew", "skew", "started", "skew", "skew", "started"]
    assert found[3][1] == ["manual"]
    assert found[6][1] == ["schedule"]


def test_domain_shift_waits_for_labels() -> None:
    assert answers(spec(drift={"window": "7d"}), at("07-02", "00:00:00", "drift", finding="domain_shift")) == [
        ("wait", [], "domain_shift")
    ]


@pytest.mark.parametrize(("finding", "mode"), [("data_drift", "stateful"), ("concept_drift", "recent")])
def test_the_finding_decides_how_the_run_is_trained(finding: str, mode: str) -> None:
    (found,) = replay([at("07-02", "00:00:00", "drift", finding=finding)], spec(drift={"window": "7d"}))
    assert (found["decision"], found["causes"], found["mode"]) == ("retrain", ["drift"], mode)


def test_the_gravest_finding_that_was_held_decides_and_a_person_before_it() -> None:
    triggers = spec(drift={"window": "7d"})
    opened, closed = at("07-01", "00:00:00", "release", open=True), at("07-09", "00:00:00", "release", open=False)
    held = [at("07-02", "00:00:00", "drift", finding=one) for one in ("data_drift", "concept_drift", "data_drift")]
    assert list(replay([opened, *held, closed], triggers))[-1]["mode"] == "recent"
    asked = list(replay([opened, *held, at("07-03", "00:00:00", "request", cause="manual")], triggers))[-1]
    assert (asked["causes"], asked["mode"]) == (["manual", "drift"], "auto")


def test_after_a_domain_shift_a_run_starts_when_enough_of_its_rows_are_labelled() -> None:
    looks = [at(f"07-{day:02}", "00:00:00", "drift", finding="domain_shift", labels=400) for day in (2, 9, 16, 23)]
    found = list(replay(looks, spec(drift={"window": "7d", "minLabels": 1000})))
    # the fourth look comes while the run is in flight: its cause fired already and is not held again
    assert [one["key"] for one in found] == ["domain_shift", "domain_shift", "started", "domain_shift"]
    assert found[1]["reason"].endswith("labelled rows of it: 800 of 1000")
    assert (found[2]["causes"], found[2]["mode"]) == (["drift"], "auto")


def test_rows_of_a_region_that_is_gone_count_no_more() -> None:
    looks = [
        at("07-02", "00:00:00", "drift", finding="domain_shift", labels=900),
        at("07-09", "00:00:00", "drift", finding="none"),
        at("07-16", "00:00:00", "drift", finding="domain_shift", labels=900),
    ]
    found = answers(spec(drift={"window": "7d", "minLabels": 1000}), *looks)
    assert [one[2] for one in found] == ["domain_shift", "no_cause", "domain_shift"]


def test_two_hundred_looks_at_one_bad_week_are_one_run() -> None:
    looks = [bad("07-02", "04:00:00")] * 200
    found = answers(spec(performance=PERFORMANCE, cooldown="0s"), *looks)
    assert [one[0] for one in found].count("retrain") == 1


@pytest.mark.parametrize(
    ("upper", "labels", "key"), [(0.69, 5000, "no_cause"), (0.66, 1999, "no_cause"), (0.66, 2000, "started")]
)
def test_performance_asks_only_when_it_is_proved(upper: float, labels: int, key: str) -> None:
    assert answers(spec(performance=PERFORMANCE), bad("07-02", "04:00:00", upper, labels))[0][2] == key


def test_a_metric_without_limits_proves_nothing() -> None:
    look = at("07-02", "04:00:00", "metric", name="roc_auc", value=0.5, lower=None, upper=None, labels=9000)
    assert answers(spec(performance=PERFORMANCE), look)[0][2] == "no_cause"


def test_a_promotion_drops_what_was_said_about_the_old_champion() -> None:
    triggers = spec(performance=PERFORMANCE, schedule={"cron": "0 4 * * *"})
    found = answers(
        triggers,
        at("07-01", "05:00:00", "tick"),
        at("07-01", "06:00:00", "release", open=True),
        bad("07-02", "00:00:00"),
        at("07-02", "04:00:00", "tick"),
        at("07-03", "00:00:00", "release", open=False, promoted=True),
    )
    assert found[3][1] == ["performance", "schedule"]
    assert found[4] == ("retrain", ["schedule"], "started")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"time": "2013-07-01T00:00:00Z", "kind": "tock"}', "events.jsonl line 2: kind: got 'tock'"),
        ('{"time": "yesterday", "kind": "tick"}', "events.jsonl line 2: time: got 'yesterday'"),
        ('{"time": "2013-07-01T00:00:00", "kind": "tick"}', "events.jsonl line 2: time"),
        ('{"kind": "tick"}', "events.jsonl line 2: time: got None"),
        ('{"time": 1e9, "kind": "rows", "count": "5"}', "events.jsonl line 2: count: got '5'"),
        ('{"time": 1e10, "kind": "rows", "count": -5}', "events.jsonl line 2: count: got -5"),
        ('{"time": 1e10, "kind": "rows"}', "events.jsonl line 2"),
        ('{"time": 1e10, "kind": "run_finished", "ok": true}', "events.jsonl line 2: rows: got None"),
        ('{"time": 1e10, "kind": "drift", "finding": "rain"}', "events.jsonl line 2: finding: got 'rain'"),
        ('{"time": "1999-07-01T00:00:00Z", "kind": "tick"}', "before that of the line above"),
        ("{", "events.jsonl line 2: got '{'"),
        ("[]", "events.jsonl line 2"),
        ("\n{}", "events.jsonl line 2"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str) -> None:
    lines = ['{"time": "2013-06-30T00:00:00Z", "kind": "tick"}', *line.split("\n")]
    with pytest.raises(UserError) as caught:
        list(replay(read_events(lines, "events.jsonl"), spec(), "events.jsonl"))
    assert message.split(": got")[0] in str(caught.value)
    assert message in str(caught.value) or "above" in message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        ({"cron": "whenever"}, "triggers.schedule.cron"),
        ({"cron": "0 0 31 2 *"}, "triggers.schedule.cron"),
        ({"cron": "0 0 0 1 1 *"}, "triggers.schedule.cron"),
        ({"cron": "0 0 1 * *", "events": [{**STORM, "cron": "x"}]}, "triggers.schedule.events[0].cron"),
        ({"cron": "0 0 1 * *", "events": [{**STORM, "from": "soon"}]}, "triggers.schedule.events[0].from"),
        ({"cron": "0 0 1 * *", "events": [{**STORM, "to": STORM["from"]}]}, "triggers.schedule.events[0].to"),
    ],
)
def test_a_schedule_that_does_not_parse_is_refused_by_its_field(schedule: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=field.replace("[", r"\[")):
        check_triggers(spec(schedule=schedule))


def test_the_committed_model_file_has_triggers_that_parse() -> None:
    check_triggers(load_model(Path(__file__).parents[3] / "k8s/models/flight-delay.yaml").spec.triggers)


def test_answers_are_plain_json_and_every_reason_has_its_sentence() -> None:
    found = list(replay([TRAINED, at("07-02", "00:00:00", "rows", count=50)], spec(volume={"increase": "5%"})))
    assert json.loads(json.dumps(found)) == found
    assert found[-1]["reason"] == "a run starts for volume (50 rows matured, the last run used 1000)"
    assert {one["key"] for one in found} <= TRIGGER_REASONS.keys()


def test_two_months_of_minutes_are_replayed() -> None:
    start = 1_356_998_400
    ticks = ({"time": start + 60 * minute, "kind": "tick"} for minute in range(60 * 24 * 60))
    found = [one for one in replay(ticks, spec(schedule={"cron": "0 4 1 * *"})) if one["decision"] == "retrain"]
    assert [one["time"] for one in found] == [start + 4 * 3600]
