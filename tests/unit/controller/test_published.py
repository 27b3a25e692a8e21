"""What the cluster's objects show of a whole life, as `tests.simulated_loop` plays it."""

from __future__ import annotations

import pytest

from tests.simulated_loop import World, digest_of, quick
from tidegate.controller.published import follow, kubernetes_event, model_status, release_object, release_status
from tidegate.journal.fold import ModelState, fold
from tidegate.objects import ModelStatus, ReleaseSettings, ReleaseStatus

RETRAINS = {"volume": {"increase": "50%"}, "cooldown": "1h"}
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
OWNER = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "Model", "name": "quick", "uid": "u"}


@pytest.fixture(scope="module")
def lived(tmp_path_factory) -> World:
    """v1 serves, v2 is trained by the volume trigger and promoted, v3 answers the opposite and is aborted."""
    found = World(tmp_path_factory.mktemp("lived"), quick(triggers=RETRAINS), bad=frozenset({"v3"}))
    found.start()
    found.hand_in("v1")
    found.looks(46)
    return found


def statuses(world: World) -> dict:
    events = world.journal.read("quick")
    told = follow({}, events)
    return {name: release_status(one, world.state, {}, NOW) for name, one in told.items()}


def test_a_model_says_who_serves_and_what_was_aborted(lived: World) -> None:
    status = model_status(lived.model, lived.state, 3, {}, NOW)
    assert (status["champion"]["version"], status["traffic"]["summary"]) == ("v2", "v2 100%")
    assert status["traffic"]["split"] == [{"version": "v2", "share": "100%"}]
    assert status["quarantined"] == [{"version": "v3", "digest": digest_of("v3"), "reason": "proved_worse"}]
    assert {one["type"]: one["status"] for one in status["conditions"]} == {
        "Accepted": "True", "Ready": "True", "Progressing": "False", "Degraded": "False",
    }  # fmt: skip
    assert status["lastTrigger"]["causes"] == ["volume"]


def test_all_of_it_is_what_the_definitions_take(lived: World) -> None:
    events = lived.journal.read("quick")
    for end in range(1, len(events), 3):
        state, told = fold(events[:end]), follow({}, events[:end])
        ModelStatus.model_validate(model_status(lived.model, state, 1, {}, NOW))
        for one in told.values():
            ReleaseSettings.model_validate(release_object("tidegate", OWNER, one["release"])["spec"])
            ReleaseStatus.model_validate(release_status(one, state, {}, NOW))


def test_nothing_is_said_anew_while_nothing_happens(lived: World) -> None:
    first = model_status(lived.model, lived.state, 3, {}, NOW)
    assert model_status(lived.model, lived.state, 3, first, LATER) == first
    told = follow({}, lived.journal.read("quick"))
    for one in told.values():
        before = release_status(one, lived.state, {}, NOW)
        assert release_status(one, lived.state, before, LATER) == before


def test_a_release_says_how_it_ended_and_on_what(lived: World) -> None:
    found = statuses(lived)
    promoted, aborted = found["quick-r1"], found["quick-r2"]
    assert (promoted["stage"], promoted["verdict"], promoted["weight"]) == ("promoted", "promote", "100%")
    assert (aborted["stage"], aborted["verdict"], aborted["weight"]) == ("aborted", "abort", "0%")
    assert aborted["reason"] == "proved_worse"
    checks = {one["name"]: one for one in aborted["checks"]}
    assert checks["loss"]["lower"] > 0
    assert checks["loss"]["rows"] > 100
    assert aborted["evidence"]["requests"] > 100
    holds = {one["type"]: one["status"] for one in aborted["conditions"]}
    assert holds == {"Progressing": "False", "Promoted": "False", "Healthy": "False"}
    assert "ended" in aborted


def test_a_release_object_is_the_same_at_any_time_of_its_life(lived: World) -> None:
    events = lived.journal.read("quick")
    first = next(event for event in events if event.kind == "release.opened")
    early = release_object("tidegate", OWNER, follow({}, [first])["quick-r1"]["release"])
    assert early == release_object("tidegate", OWNER, follow({}, events)["quick-r1"]["release"])
    assert early["spec"]["challengers"] == [{"version": "v2", "digest": digest_of("v2")}]
    assert early["metadata"]["ownerReferences"][0]["name"] == "quick"


def test_following_in_parts_is_following_at_once(lived: World) -> None:
    events = lived.journal.read("quick")
    parts: dict = {}
    for start in range(0, len(events), 7):
        parts = follow(parts, events[start : start + 7])
    assert parts == follow({}, events)


def test_an_event_is_named_by_its_place_and_looks_are_none(lived: World) -> None:
    involved = {**OWNER, "namespace": "tidegate"}
    found = [told for event in lived.journal.read("quick") if (told := kubernetes_event(event, involved))]
    names = [one["metadata"]["name"] for one in found]
    assert len(set(names)) == len(names)
    by_reason = {one["reason"]: one for one in found}
    assert by_reason["ReleasePromoted"]["type"] == "Normal"
    assert by_reason["ReleaseAborted"]["type"] == "Warning"
    assert "ReleaseLooked" not in by_reason
    assert len(found) < len(lived.journal.read("quick")) / 2


def test_settings_that_cannot_be_carried_out_and_trouble_are_told() -> None:
    state = ModelState(model="quick")
    status = model_status(None, state, 1, {}, NOW, "spec.workload: got 'x', takes y", "PlatformError: no gateway")
    told = {one["type"]: (one["status"], one["message"]) for one in status["conditions"]}
    assert told["Accepted"] == ("False", "spec.workload: got 'x', takes y")
    assert told["Degraded"] == ("True", "PlatformError: no gateway")
    assert told["Ready"] == ("False", "no version serves yet")


def test_an_open_release_shows_its_shares(lived: World) -> None:
    events = lived.journal.read("quick")
    canary = [event for event in events if event.kind == "serve.traffic" and event.data["release"]]
    last = next(event for event in canary if len(event.data["split"]) > 1)
    until = [event for event in events if event.seq <= last.seq]
    state, told = fold(until), follow({}, until)
    status = release_status(told["quick-r1"], state, {}, NOW)
    assert status["stage"] == "canary"
    assert status["weights"] == [{"version": "v2", "share": status["weight"]}]
    assert model_status(lived.model, state, 1, {}, NOW)["release"] == "quick-r1"
