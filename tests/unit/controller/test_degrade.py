"""A champion that degrades: rolled back by policy to the best earlier version, told once, replayed, under any death."""

from __future__ import annotations

import logging

import pytest

from tests.alert_receiver import receiving
from tests.simulated_loop import START, Once, World, candidate, digest_of, quick
from tidegate.controller.degrade import best_earlier, check_rollback, degraded
from tidegate.controller.webhook import Webhook, check_alerts, webhook_of
from tidegate.errors import UserError
from tidegate.journal.events import Draft, canonical
from tidegate.journal.fold import ModelState, Served
from tidegate.journal.replay import replay_state
from tidegate.spec import PerformanceTrigger

LIMIT = {"metric": "brier", "below": 0.3, "window": "3d", "minLabels": 100}
ROLLBACK = {"triggers": {"performance": LIMIT, "cooldown": "1h"}, "rollback": {"onRegression": True}}
URL = "http://user:geheim@127.0.0.1:9/hook?token=geheim"  # pragma: allowlist secret


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> World:
    """v1 and v2 served well, v2 still does; from now on it answers the opposite."""
    world = World(tmp_path_factory.mktemp("base"), quick(**ROLLBACK), per_look=40)
    world.start()
    world.hand_in("v1")
    world.looks(6)
    world.hand_in("v2")
    world.until(lambda state: state.release and state.release["state"] == "promoted", 60)
    world.bad = frozenset({"v2"})
    return world


@pytest.fixture(scope="module")
def lived(base, tmp_path_factory) -> World:
    world = base.fork(tmp_path_factory.mktemp("lived") / "state")
    world.until(lambda state: state.champion.version == "v1")
    return world


def degrading(base, folder, alerts=None, **spec) -> World:
    """The base going on in a folder of its own, under a changed Model file where one is given."""
    url = {"alerts": {"webhook": URL}} if alerts else {}
    return base.fork(folder / "state", model=quick(**{**ROLLBACK, **url, **spec}), alerts=alerts)


def test_the_best_earlier_version_serves_again_and_the_journal_reproduces_itself(lived):
    state = lived.state
    assert [served.version for served in state.history] == ["v1", "v2", "v1"]
    assert state.quarantined == {digest_of("v2"): "degraded_back"}
    assert lived.target.observe().split == (("v1", 1.0),)
    report = replay_state(lived.folder)
    assert report.fault == ""
    assert report.decisions["release.degraded"] == 1


def test_the_same_look_starts_a_run_too(lived):
    (wanted,) = [run for run in lived.state.runs.values() if run.by == "trigger"][:1]
    assert wanted.causes == ("performance",)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: {**data, "to": {"version": "v9", "digest": digest_of("v9")}}, "what the look says"),
        (lambda data: {**data, "to": None}, "what the look says"),
        (lambda data: {**data, "look": {**data["look"], "value": 0.1}}, "what the look says"),
    ],
)
def test_a_forged_rollback_is_found(lived, change, reason):
    from tidegate.errors import TamperedJournal
    from tidegate.journal.replay import replay_events

    events = lived.journal.read("quick")
    forged = [
        event if event.kind != "release.degraded" else event.__class__(**{**event.__dict__, "data": change(event.data)})
        for event in events
    ]
    with pytest.raises(TamperedJournal, match=reason):
        replay_events(forged)


def test_without_the_wish_the_champion_stays_and_is_told_of_once(base, tmp_path):
    world = degrading(base, tmp_path, rollback=None)
    world.until(lambda state: state.degraded)
    world.looks(12)
    assert world.state.champion.version == "v2"
    told = [event for event in world.journal.read("quick") if event.kind == "release.degraded"]
    assert [(event.data["to"], event.data["reason"]) for event in told] == [(None, "degraded")]
    assert replay_state(world.folder).fault == ""


def test_a_champion_that_recovers_is_told_of_and_may_degrade_again(base, tmp_path):
    world = degrading(base, tmp_path, rollback=None)
    world.until(lambda state: state.degraded)
    # hold back what the run of the same cause made: this is about one version
    world._end_runs = lambda: None
    world.bad = frozenset()
    world.until(lambda state: state.degraded is None)
    world.bad = frozenset({"v2"})
    world.until(lambda state: state.degraded)
    kinds = [e.kind for e in world.journal.read("quick") if e.kind in ("release.degraded", "release.recovered")]
    assert kinds == ["release.degraded", "release.recovered", "release.degraded"]
    assert replay_state(world.folder).fault == ""


def state_of(*served: tuple[str, float | None], **more) -> ModelState:
    """Champions in order, each with the mean of its looks; the last one serves and was just proved bad."""
    history = tuple(Served(name, digest_of(name), START + n) for n, (name, _) in enumerate(served))
    looks = {
        digest_of(name): {
            "kind": "metric", "time": START + 9, "name": "brier", "value": mean, "lower": mean - 0.01,
            "upper": mean + 0.01, "labels": 500, "n": 4, "sum": 4 * mean,
        }
        for name, mean in served
        if mean is not None
    }  # fmt: skip
    return ModelState(champion=history[-1], history=history, looks=looks, **more)


@pytest.mark.parametrize(
    ("served", "quarantined", "best"),
    [
        ([("v1", 0.2), ("v2", 0.15), ("v3", 0.5)], [], "v2"),
        ([("v1", 0.2), ("v2", 0.15), ("v3", 0.5)], ["v2"], "v1"),
        ([("v1", None), ("v2", None), ("v3", 0.5)], [], "v2"),
        ([("v1", 0.29), ("v2", None), ("v3", 0.5)], [], "v1"),
        ([("v1", 0.31), ("v2", 0.5)], [], None),
        ([("v1", 0.5)], [], None),
        ([("v1", 0.2), ("v2", 0.5), ("v1", 0.5)], [], None),
    ],
)
def test_the_best_is_the_one_that_did_best_while_it_served(served, quarantined, best):
    state = state_of(*served, quarantined={digest_of(name): "aborted" for name in quarantined})
    found = best_earlier(PerformanceTrigger.model_validate(LIMIT), state)
    assert (found and found["version"]) == best


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"waiting": (digest_of("v9"),)}, "degraded_candidate"),
        ({"release": {"state": "shadow"}}, "degraded_candidate"),
        ({"release": {"state": "watch"}}, "degraded_candidate"),
        ({"trigger": {"skew": True}}, "degraded_skew"),
        ({"release": {"state": "aborted"}}, "degraded_back"),
        ({}, "degraded_back"),
    ],
)
def test_nothing_is_rolled_back_while_a_better_answer_may_come(more, reason):
    state = state_of(("v1", 0.2), ("v2", 0.5), **more)
    kind, data = degraded(quick(**ROLLBACK).spec, state, START + 9)
    assert (kind, data["reason"], data["to"] is not None) == ("release.degraded", reason, reason == "degraded_back")


def test_a_look_of_another_moment_or_one_that_proves_nothing_says_nothing():
    spec = quick(**ROLLBACK).spec
    assert degraded(spec, state_of(("v1", 0.2), ("v2", 0.5)), START + 10) is None
    assert degraded(spec, state_of(("v1", 0.2), ("v2", 0.305)), START + 9) is None
    assert degraded(spec, state_of(("v1", 0.2), ("v2", 0.2)), START + 9) is None


def test_a_rollback_without_a_limit_is_refused():
    with pytest.raises(UserError, match=r"spec\.rollback\.onRegression"):
        check_rollback(quick(rollback={"onRegression": True}).spec)
    check_rollback(quick(rollback={"onRegression": False}).spec)


# --- alerts -----------------------------------------------------------------------------------------------------------


def test_the_webhook_gets_one_alert_for_a_rollback_in_alertmanagers_format(base, tmp_path):
    with receiving() as receiver:
        world = degrading(base, tmp_path, alerts=Webhook(receiver.url))
        world.until(lambda state: state.champion.version == "v1")
        world.looks(8)
    assert len(receiver.requests) == 1
    path, headers, _ = receiver.requests[0]
    assert (path, headers["content-type"]) == ("/api/v2/alerts", "application/json")
    (alert,) = receiver.alerts.values()
    assert alert["labels"] == {
        "alertname": "TidegateDegraded", "model": "quick", "severity": "critical", "about": "v2",
    }  # fmt: skip
    assert "v1 serves again" in alert["annotations"]["description"]
    assert alert["startsAt"] < alert["endsAt"]
    assert replay_state(world.folder).fault == ""


def test_killed_at_every_effect_it_is_rolled_back_once_and_alerted_of_once(base, tmp_path):
    """After each journal append, traffic change, submission of a run and sending of an alert."""
    with receiving() as receiver:
        webhook = Webhook(receiver.url)
        world, before = degrading(base, tmp_path, webhook), base
        while not world.state.degraded:
            before = world.fork(tmp_path / f"at{world.now:.0f}")
            world.looks(1)
        receiver.requests.clear()

        def ends(name, fuse):
            life = before.fork(tmp_path / name, fuse=fuse)
            life.looks(1)
            return life

        calm_fuse = Once()
        calm = ends("calm", calm_fuse)
        (alert,) = receiver.alerts.values()
        assert calm.state.champion.version == "v1"
        assert [run.causes for run in calm.state.runs.values() if run.by == "trigger"] == [("performance",)]
        assert calm_fuse.burnt > 8
        # to die before an effect leaves the same world as to die after the one before it
        for number, late in [(0, False), *((number, True) for number in range(calm_fuse.burnt))]:
            receiver.requests.clear()
            life = ends(f"{number}{late}", fuse := Once(number=number, late=late))
            assert fuse.deaths == 1
            assert list(receiver.alerts.values()) == [alert]
            assert len({body for _, _, body in receiver.requests}) == 1
            assert life.told() == calm.told()
            assert life.orchestrator.submitted.keys() == calm.orchestrator.submitted.keys()


def test_a_receiver_that_is_down_is_asked_again_and_no_secret_is_told(base, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("tidegate.controller.webhook.AGAIN", 0.0)
    with receiving() as receiver:
        receiver.status = 503
        secret = receiver.url.replace("http://", "http://user:geheim@") + "/hook?token=geheim"
        with caplog.at_level(logging.DEBUG):
            world = degrading(base, tmp_path, alerts=Webhook(secret))
            world.until(lambda state: state.degraded)
            receiver.status = 200
            world.looks(1)
        assert "alerts not sent (status 503)" in caplog.text
        ((path, headers, _),) = receiver.requests
    assert (path, headers["authorization"]) == ("/hook?token=geheim", "Basic dXNlcjpnZWhlaW0=")
    assert "geheim" not in caplog.text
    assert not [event for event in world.journal.read("quick") if "geheim" in canonical(event.data)]
    assert "geheim" not in canonical(world.controller.status())


def test_between_two_tries_a_dead_receiver_costs_nothing(caplog):
    sender = Webhook("http://127.0.0.1:9")
    assert sender.send([{}]) is False
    told = len(caplog.records)
    assert sender.send([{}]) is False
    assert len(caplog.records) == told == 1


@pytest.mark.parametrize("url", ["ftp://geheim", "geheim", "http://", "http://a b/geheim", "http://a:99999/geheim"])
def test_a_webhook_that_is_none_is_refused_without_being_told(url):
    with pytest.raises(UserError, match=r"spec\.alerts\.webhook") as caught:
        check_alerts(quick(alerts={"webhook": url}).spec)
    assert "geheim" not in str(caught.value)


def test_a_model_file_without_alerts_sends_none():
    assert webhook_of(quick().spec) is None
    assert webhook_of(quick(alerts={"webhook": "http://127.0.0.1:9"}).spec) is not None


def test_a_finding_is_alerted_of_when_it_comes_and_again_when_it_comes_back(tmp_path):
    with receiving() as receiver:
        model = quick(alerts={"webhook": receiver.url}, triggers={"drift": {"window": "7d"}})
        world = World(tmp_path, model, alerts=Webhook(receiver.url))
        world.start()
        world.hand_in("v1")
        for finding in ("skew", "skew", "not_assessable", "skew", "none", "data_drift", "skew"):
            look = world.feed.look
            event = {"kind": "drift", "time": 0.0, "finding": finding}

            def told(now, *more, look=look, event=event):
                evidence, events = look(now, *more)
                return evidence, [{**event, "time": now}, *events]

            world.feed.look = told
            world.looks(1)
            world.feed.look = look
    assert [alert["labels"]["alertname"] for alert in receiver.alerts.values()] == ["TidegateSkew"] * 2


def test_a_run_that_broke_is_alerted_of(tmp_path):
    with receiving() as receiver:
        world = World(tmp_path, quick(alerts={"webhook": receiver.url}), alerts=Webhook(receiver.url))
        world.start()
        world._write(Draft("register.candidate", world.now, candidate("v1")))
        started = {"run": "hand", "causes": ["manual"], "by": "person", "arguments": {}}
        world._write(Draft("trigger.started", world.now, started))
        ended = {"run": "hand", "ok": False, "rows": 0, "steps": [], "error": "broke"}
        world._write(Draft("trigger.finished", world.now, ended))
        world.looks(2)
    assert [alert["labels"]["alertname"] for alert in receiver.alerts.values()] == ["TidegateRunFailed"]
