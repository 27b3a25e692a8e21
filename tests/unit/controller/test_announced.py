"""Release settings of an announced event: they hold from its start to its end, and what they promoted with them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.simulated_loop import LOOK, START, World, quick
from tidegate import runs
from tidegate.controller.announced import DENSE, check_events, in_force, next_look, run_settings, settings_of
from tidegate.errors import UserError
from tidegate.evaluate.step import cluster_of
from tidegate.journal.fold import ModelState
from tidegate.journal.replay import replay_state
from tidegate.spec import ModelSpec
from tidegate.train.settings import RunSettings, parse_settings
from tidegate.train.step import parts_of

OWN = {"minDuration": "30m", "watch": "2h", "stages": [{"canary": {"weights": ["50%"], "requests": 60}}]}


def clock(looks: float) -> str:
    return datetime.fromtimestamp(START + looks * LOOK, UTC).isoformat()


def spec_with(*events: tuple[str, float, float], own: dict | None = None):
    """A Model file with events (name, first look, look after the last), each with release settings of its own."""
    told = [
        {"name": name, "from": clock(start), "to": clock(end), "cron": "0 */4 * * *", "release": own or OWN}
        for name, start, end in events
    ]
    return quick(triggers={"schedule": {"cron": "0 0 1 1 *", "events": told}, "cooldown": "0s"})


def served(world: World) -> list[str]:
    return [one.version for one in world.state.history]


def test_the_settings_hold_from_the_start_to_before_the_end():
    spec: ModelSpec = spec_with(("storm", 2, 4)).spec
    held = [in_force(spec, START + looks * LOOK) for looks in (1.99, 2, 3.99, 4)]
    assert held == ["", "storm", "storm", ""]
    inside = settings_of(spec, "storm")
    assert (inside.stages[0].kind, inside.watch.total_seconds(), inside.block) == ("canary", 7200, None)
    assert inside.judge == spec.release.judge
    assert settings_of(spec, "") == spec.release


def test_looks_are_denser_while_it_lasts_and_at_its_bounds():
    spec: ModelSpec = spec_with(("storm", 2.01, 3.001)).spec
    start, end = START + 2.01 * LOOK, START + 3.001 * LOOK
    moments, now = [], START + LOOK
    while now < START + 5 * LOOK:
        now = next_look(spec, now, LOOK)
        moments.append(now)
    dense = [n * DENSE for n in range(int(START / DENSE), int(START / DENSE) + 200) if start <= n * DENSE <= end]
    looks = [START + n * LOOK for n in (2, 3, 4, 5)]
    assert moments == sorted({*looks, *dense, start, end})
    assert next_look(quick().spec, START, LOOK) == START + LOOK


def test_what_an_event_promoted_gives_its_place_back_when_the_event_is_over(tmp_path):
    world = World(tmp_path, spec_with(("storm", 10, 22), own={**OWN, "labelDeadline": "8h"}))
    world.start()
    world.hand_in("v1")
    world.looks(10)
    world.hand_in("v2")
    world.until(lambda state: state.champion.version != "v1", 11)
    release = world.state.release
    assert [stage["canary"] is not None for stage in release["spec"]["stages"]] == [True]
    world.looks(round(21 - (world.now - START) / LOOK))
    lent = world.state.champion
    assert lent.version != "v1"
    world.looks(2)
    assert world.state.champion.version == "v1"
    assert world.target.observe().split == (("v1", 1.0),)
    assert lent.digest not in world.state.quarantined
    report = replay_state(tmp_path, evidence=True)
    assert report.fault == ""
    assert report.decisions["release.reverted"] == 1


def test_a_release_of_everyday_makes_way_for_the_event_and_one_of_the_event_ends_with_it(tmp_path):
    slow = {**OWN, "stages": [{"canary": {"weights": ["50%"], "requests": 60}}], "minDuration": "9d"}
    world = World(tmp_path, spec_with(("storm", 6, 12), own=slow), per_look=40)
    world._end_runs = lambda: None  # the event's own cadence starts runs: they take longer than this life
    world.start()
    world.hand_in("v1")
    world.looks(3)
    world.hand_in("v2")
    world.looks(1)
    assert world.state.release["state"] == "shadow"
    world.looks(3)
    assert (world.state.release["state"], world.state.release["reason"]) == ("expired", "event_begins")
    world.hand_in("v3")
    world.looks(1)
    assert (world.state.release["state"], world.state.announced) == ("canary", "storm")
    world.looks(6)
    assert (world.state.release["state"], world.state.release["reason"]) == ("expired", "event_over")
    assert served(world) == ["v1"]
    assert world.state.quarantined == {}
    assert replay_state(tmp_path, evidence=True).fault == ""


def test_the_event_brings_a_denser_cadence_that_no_open_release_holds_back(tmp_path):
    world = World(tmp_path, spec_with(("storm", 6, 12)), per_look=40)
    world._end_runs = lambda: None
    world.start()
    world.hand_in("v1")
    world.looks(3)
    world.hand_in("v2")
    world.looks(5)
    assert [run.causes for run in world.state.runs.values() if run.by == "trigger"] == [("schedule",)]


def test_a_run_in_an_event_with_a_gate_window_trains_on_its_rows_alone(tmp_path):
    spec = gated("10m").spec
    assert run_settings(spec, START + 2 * LOOK - 1) == {}
    assert run_settings(spec, START + 2 * LOOK + 44 * 60) == {}
    until = START + 2 * LOOK + 50 * 60
    found = RunSettings(**run_settings(spec, until))
    parts = parts_of(until, found)
    assert found.training.mode == "stateless"
    assert (parts.train.after, parts.gate.until) == (START + 2 * LOOK, until - 300)
    assert parts.fit.until > parts.fit.after
    passed = runs.arguments(gated("10m"), ModelState(model="quick"), tmp_path, until, "r", ("schedule",), "stateful")
    assert parse_settings(passed["settings"]) == found.model_copy(update={"gate": spec.gate})
    assert run_settings(spec_with(("storm", 2, 4)).spec, until) == {}


def test_a_gate_window_of_minutes_is_asked_in_tenths_and_one_of_days_by_day():
    assert [cluster_of(span) for span in (600.0, 86400.0, 5 * 86400.0, 14 * 86400.0)] == [60, 8640, 86400, 86400]


@pytest.mark.parametrize("release", [None, OWN])
def test_a_gate_window_without_a_release_or_without_length_is_refused(release):
    with pytest.raises(UserError, match="gateWindow"):
        check_events(gated("0s" if release else "10m", release).spec)


def gated(window: str, release: dict | None = {**OWN, "labelDeadline": "5m"}):  # noqa: B006 - never changed
    told = {"name": "storm", "from": clock(2), "to": clock(4), "cron": "0 * * * *", "gateWindow": window}
    schedule = {"cron": "0 0 1 1 *", "events": [{**told, "release": release}]}
    return quick(triggers={"schedule": schedule})


def test_settings_that_are_those_of_no_release_are_refused():
    with pytest.raises(UserError, match="weight"):
        check_events(spec_with(("storm", 2, 4), own={"stages": [{"canary": {"weights": ["100%"]}}]}).spec)
    check_events(spec_with(("storm", 2, 4)).spec)
