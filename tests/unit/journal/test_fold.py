"""The state that a journal tells, at its end and at every moment before."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.simulated_loop import START, digest_of
from tidegate.journal.events import GENESIS, Draft, seal
from tidegate.journal.fold import ModelState, apply, fold
from tidegate.journal.views import status


def state_of(*drafts: Draft) -> ModelState:
    return fold(seal(draft, "m", seq, 0.0, GENESIS) for seq, draft in enumerate(drafts, 1))


def test_a_state_can_be_gone_on_from_anywhere(lived):
    events = lived.journal.read("quick")
    whole = fold(events)
    for cut in range(0, len(events), 7):
        assert fold(events[cut:], fold(events[:cut])) == whole


def test_an_unknown_kind_changes_nothing_but_the_position(lived):
    state = lived.state
    event = seal(Draft("edge.synced", state.time + 5, {"what": "ever"}), "quick", state.seq + 1, 0.0, GENESIS)
    after = apply(state, event)
    assert (after.seq, after.time) == (state.seq + 1, state.time + 5)
    assert {**after.__dict__, "seq": state.seq, "time": state.time} == state.__dict__


def test_time_never_goes_back():
    state = state_of(Draft("x", 20.0, {}), Draft("x", 10.0, {}))
    assert (state.seq, state.time) == (2, 20.0)


def test_what_served_at_a_past_moment(lived):
    first, second = lived.state.history
    assert (first.version, second.version) == ("v1", "v2")
    for moment, version in ((first.since, "v1"), (second.since - 1, "v1"), (second.since, "v2"), (9e9, "v2")):
        (model,) = status(lived.folder, at=iso(moment))["models"]
        assert model["champion"]["version"] == version
    (before,) = status(lived.folder, at=iso(START - 1))["models"]
    assert (before["champion"], before["versions"]) == (None, [])


def test_what_was_released_at_a_past_moment_is_told_as_it_was_then(lived):
    opened = next(e for e in lived.journal.read("quick") if e.kind == "release.opened")
    (model,) = status(lived.folder, at=iso(opened.time))["models"]
    assert (model["release"]["state"], model["release"]["challengers"], model["quarantined"]) == ("shadow", ["v2"], {})
    (now,) = status(lived.folder)["models"]
    assert now["quarantined"] == {digest_of("v3"): "proved_worse"}


def test_a_run_that_an_unseen_decision_started_is_known_by_its_start():
    started = {"run": "m-1", "causes": ["manual"], "by": "person", "arguments": {"until": "t"}}
    finished = {"run": "m-1", "ok": True, "rows": 7}
    (run,) = state_of(Draft("trigger.started", 1.0, started)).running
    assert (run.causes, run.by, run.arguments) == (("manual",), "person", {"until": "t"})
    state = state_of(Draft("trigger.started", 1.0, started), Draft("trigger.finished", 2.0, finished))
    assert (state.running, state.runs["m-1"].rows, state.runs["m-1"].told) == ((), 7, False)


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
