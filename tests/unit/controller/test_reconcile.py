"""What the controller decides, on states and events made by hand."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulated_loop import START, candidate, digest_of, quick
from tidegate.controller.reconcile import Ended, Ledger, Seen, command, finish_run, reconcile, wanted_plan
from tidegate.errors import UserError
from tidegate.journal.events import GENESIS, Draft, canonical, seal
from tidegate.journal.fold import ModelState, apply
from tidegate.release.stages import ENDED

MODEL = quick(triggers={"schedule": {"cron": "0 4 * * *"}, "volume": {"increase": "50%"}, "cooldown": "1h"})
HOUR = 3600.0


class Life:
    """A state that grows by what reconcile says, through JSON as the journal does it."""

    def __init__(self) -> None:
        self.state, self.now, self.drafts = ModelState(model="quick"), START, []

    def append(self, drafts: list[Draft]) -> list[Draft]:
        for draft in drafts:
            plain = Draft(draft.kind, draft.time, json.loads(canonical(draft.data)))
            self.state = apply(self.state, seal(plain, "quick", self.state.seq + 1, 0.0, GENESIS))
        self.drafts += drafts
        return drafts

    def reconcile(self, **seen) -> list[Draft]:
        return self.append(reconcile(MODEL, self.state, Seen(self.now, **seen)))

    def candidate(self, version: str) -> None:
        self.append([Draft("register.candidate", self.now, candidate(version))])

    def order(self, **words) -> list[Draft]:
        ledger = Ledger(self.state, "quick")
        command(ledger, words, self.now)
        return self.append(ledger.drafts)

    def look(self, evidence: str = "", hours: float = 4.0, events=()) -> list[Draft]:
        self.now += hours * HOUR
        tick = {"kind": "tick", "time": self.now}
        return self.reconcile(evidence=proof(evidence, self.now), events=[*events, tick])


def proof(kind: str, watermark: float) -> dict:
    """Evidence that proves the challenger not worse (good), worse (bad), or says nothing."""
    effect = {"good": 0.0, "bad": 0.5}.get(kind)
    if effect is None:
        return {"watermark": watermark, "places": {}, "late_labels": 0}
    n = 20_000
    state = {"n": n, "sum_y": effect * n, "S": effect * n, "V": effect * n, "W": float(n)}
    still = {**state, "sum_y": 0.0, "S": 0.0, "V": 0.0}
    counts = {"requests": n, "matured": n, "by_weight": {"0.2": int(watermark), "0.5": int(watermark)}}
    place = {"states": {"loss": state, "errors": still, "latency": still}, "blocks": {}, "counts": counts}
    return {"watermark": watermark, "places": {name: place for name in ("shadow", "split", "watch")}, "late_labels": 0}


def kinds(drafts: list[Draft]) -> list[str]:
    return [draft.kind for draft in drafts if draft.kind != "trigger.evaluated"]


@pytest.fixture
def life() -> Life:
    """v1 serves."""
    found = Life()
    found.candidate("v1")
    assert kinds(found.reconcile()) == ["serve.model", "release.first"]
    return found


def watching(life: Life) -> Life:
    """v2 has been promoted, v1 is kept as its shadow."""
    life.candidate("v2")
    life.reconcile()
    for _ in range(3):
        life.look("good")
    assert life.state.release["state"] == "watch"
    return life


def test_without_a_champion_the_newest_candidate_serves_at_once():
    life = Life()
    for version in ("v1", "v2", "v3"):
        life.candidate(version)
    drafts = life.reconcile()
    assert kinds(drafts) == ["serve.model", "release.superseded", "release.superseded", "release.first"]
    assert (life.state.champion.version, life.state.waiting, life.state.release) == ("v3", (), None)
    assert life.reconcile() == []


def test_the_newest_candidate_is_released_and_older_ones_end_superseded(life):
    for version in ("v2", "v3"):
        life.candidate(version)
    superseded, opened = life.reconcile()[:2]
    assert superseded.data == {"digest": digest_of("v2"), "reason": "superseded", "by": digest_of("v3")}
    assert opened.data["release"]["name"] == "quick-r1"
    assert [version["name"] for version in opened.data["release"]["challengers"]] == ["v3"]
    assert life.state.champion.version == "v1"


def test_a_candidate_waits_while_a_release_is_open(life):
    life.candidate("v2")
    life.reconcile()
    life.candidate("v3")
    assert kinds(life.reconcile()) == []
    life.order(command="abort", by="ann", reason="no")
    assert kinds(life.reconcile()) == ["release.opened"]
    assert life.state.release["challengers"][0]["name"] == "v3"


def test_a_digest_in_quarantine_is_never_released_again(life):
    life.candidate("v2")
    life.reconcile()
    life.order(command="abort", by="ann", reason="no")
    life.append([Draft("release.requested", life.now, {"digest": digest_of("v2"), "by": "bob", "reason": "again"})])
    (draft, *_) = life.reconcile()
    assert (draft.kind, draft.data["reason"]) == ("release.superseded", "quarantined")
    assert wanted_plan(MODEL, life.state).split == (("v1", 1.0),)
    life.append([Draft("release.unquarantined", life.now, {"digest": digest_of("v2"), "by": "bob", "reason": "bug"})])
    life.append([Draft("release.requested", life.now, {"digest": digest_of("v2"), "by": "bob", "reason": "again"})])
    assert kinds(life.reconcile()) == ["release.opened"]


def test_the_champion_is_not_released_against_itself(life):
    life.append([Draft("release.requested", life.now, {"digest": digest_of("v1"), "by": "bob", "reason": "again"})])
    assert [draft.data["reason"] for draft in life.reconcile()] == ["serves"]
    assert (life.state.release, life.state.waiting) == (None, ())


def test_a_digest_that_was_asked_for_twice_is_placed_once(life):
    life.candidate("v2")
    life.append([Draft("release.requested", life.now, {"digest": digest_of("v2"), "by": "bob", "reason": "again"})])
    assert kinds(life.reconcile()) == ["release.opened"]
    assert life.state.waiting == ()


def test_a_release_in_its_watch_is_ended_by_the_next_one(life):
    watching(life)
    carried = life.state.carried
    life.candidate("v3")
    drafts = life.reconcile()
    assert kinds(drafts) == ["release.command", "release.opened"]
    assert drafts[0].data["command"] == {"command": "end_watch"}
    assert (life.state.champion.version, life.state.release["champion"]["name"]) == ("v2", "v2")
    assert life.state.release["carried"] == carried


def test_the_watch_is_no_evidence_for_the_release_that_ends_it(life):
    watching(life)
    life.candidate("v3")
    drafts = life.look("good")
    assert kinds(drafts) == ["release.command", "release.opened"]
    assert life.state.release["state"] == "shadow"


def test_a_regression_in_the_watch_brings_the_old_champion_back(life):
    watching(life)
    assert kinds(life.look("bad")) == ["release.rolled_back"]
    assert life.state.champion.version == "v1"
    assert life.state.quarantined == {digest_of("v2"): "regression"}
    assert wanted_plan(MODEL, life.state).split == (("v1", 1.0),)


def test_causes_gathered_while_a_release_is_open_start_one_run_after(life):
    life.append([Draft("trigger.started", life.now, {"run": "hand", "causes": ["manual"], "by": "p", "arguments": {}})])
    life.reconcile(ended=[Ended("hand", True, 1000)])
    life.candidate("v2")
    life.reconcile()
    for _ in range(8):
        life.look(events=[{"kind": "rows", "time": life.now + 4 * HOUR, "count": 200}])
    held = life.state.trigger
    assert held["release_open"]
    assert [cause for cause, _ in held["held"]] == ["schedule"]
    life.order(command="abort", by="ann", reason="no")
    life.reconcile()
    (run,) = life.state.running
    assert run.causes == ("volume", "schedule")
    life.look()
    assert len(life.state.running) == 1


def test_a_run_that_finished_is_told_once(life):
    life.append([Draft("trigger.started", life.now, {"run": "hand", "causes": ["manual"], "by": "p", "arguments": {}})])
    drafts = life.reconcile(ended=[Ended("hand", True, 1000)])
    assert [draft.kind for draft in drafts] == ["trigger.finished", "trigger.evaluated"]
    assert drafts[1].data["event"] == {
        "kind": "run_finished",
        "time": life.now,
        "run": "hand",
        "ok": True,
        "rows": 1000,
    }
    assert life.reconcile(ended=[Ended("hand", True, 1000)]) == []
    assert life.state.runs["hand"].told


def test_a_run_that_somebody_else_finished_is_told_too_and_an_unknown_one_never(life):
    ledger = Ledger(life.state, "quick")
    finish_run(ledger, Ended("nobody's", True, 1), life.now)
    assert ledger.drafts == []
    life.append([Draft("trigger.started", life.now, {"run": "hand", "causes": ["manual"], "by": "p", "arguments": {}})])
    ended = {"run": "hand", "ok": False, "rows": 0, "steps": [], "error": "broke"}
    life.append([Draft("trigger.finished", life.now, ended)])
    assert [draft.data["event"]["kind"] for draft in life.reconcile()] == ["run_finished"]


def test_a_changed_model_file_is_written_down_once(life):
    changed = quick(triggers={})
    drafts = reconcile(changed, life.state, Seen(life.now))
    assert kinds(drafts) == ["serve.model"]
    life.append(drafts)
    assert reconcile(changed, life.state, Seen(life.now)) == []


def test_the_plan_follows_from_the_state(life):
    assert wanted_plan(MODEL, ModelState()) is None
    assert wanted_plan(MODEL, life.state).split == (("v1", 1.0),)
    life.candidate("v2")
    life.reconcile()
    plan = wanted_plan(MODEL, life.state)
    assert (plan.split, plan.mirrors, plan.release) == ((("v1", 1.0),), ("v2",), "quick-r1")
    life.look("good")
    assert wanted_plan(MODEL, life.state).split == (("v1", 0.8), ("v2", 0.2))
    life.look("good")
    life.look("good")
    plan = wanted_plan(MODEL, life.state)
    assert (plan.split, plan.mirrors) == ((("v2", 1.0),), ("v1",))
    life.look(hours=9)
    plan = wanted_plan(MODEL, life.state)
    assert (plan.split, [backend.version for backend in plan.backends]) == ((("v2", 1.0),), ["v2"])


def test_a_command_that_needs_a_person_is_refused_without_one(life):
    life.candidate("v2")
    life.reconcile()
    (draft,) = life.order(command="abort", by="", reason="")
    assert draft.data["actions"][0]["action"] == "Refuse"
    assert life.state.release["state"] == "shadow"


def test_a_candidate_with_a_release_block_that_cannot_be_is_a_users_error(life):
    life.candidate("v2")
    wrong = quick(release={**MODEL.spec.release.model_dump(mode="json", by_alias=True), "stages": [{"approval": {}}]})
    with pytest.raises(UserError, match="stages"):
        reconcile(wrong, life.state, Seen(life.now))


ORDERS = st.sampled_from(["pause", "resume", "approve", "abort", "rollback", "challenger_failed", "end_watch"])
LOOKS = st.tuples(st.just("look"), st.sampled_from(["good", "good", "good", "bad", "none"]))
STEPS = st.one_of(
    LOOKS,
    LOOKS,
    st.tuples(st.just("candidate"), st.integers(1, 9)),
    st.tuples(st.just("request"), st.integers(0, 9)),
    st.tuples(st.just("unquarantine"), st.integers(0, 9)),
    st.tuples(st.just("rows"), st.integers(0, 3000)),
    st.tuples(st.just("order"), ORDERS),
    st.tuples(st.just("ended"), st.booleans()),
)


def take(life: Life, step: tuple) -> None:
    """One thing that happens, from outside or seen at a look."""
    what, value = step
    if what == "candidate" and digest_of(f"v{value}") not in life.state.versions:
        life.candidate(f"v{value}")
    elif what == "request":
        digest = list(life.state.versions)[value % len(life.state.versions)]
        life.append([Draft("release.requested", life.now, {"digest": digest, "by": "p", "reason": "r"})])
    elif what == "unquarantine" and life.state.quarantined:
        digest = list(life.state.quarantined)[value % len(life.state.quarantined)]
        life.append([Draft("release.unquarantined", life.now, {"digest": digest, "by": "p", "reason": "r"})])
    elif what == "order" and life.state.release:
        words = {"approve": {"by": "p", "reason": "r"}, "challenger_failed": {"reason": "r"}, "end_watch": {}}
        more = words.get(value, {"by": "p"} if value in ("pause", "resume") else {"by": "p", "reason": "r"})
        life.order(command=value, **more)
    elif what == "ended":
        life.reconcile(ended=[Ended(run.name, value, 1000) for run in life.state.running])
    elif what == "rows":
        life.look(events=[{"kind": "rows", "time": life.now + 4 * HOUR, "count": value}])
    elif what == "look":
        life.look(value)


def check(life: Life) -> None:
    state, plan = life.state, wanted_plan(MODEL, life.state)
    if state.champion is None:
        assert plan is None
        return
    assert state.champion.digest in state.versions
    assert state.champion.digest not in state.quarantined
    assert sum(weight for _, weight in plan.split) == pytest.approx(1)
    reached = {*dict(plan.split), *plan.mirrors}
    assert not {b.digest for b in plan.backends if b.version in reached} & set(state.quarantined)
    assert len(state.history) == len([s for s in state.history if s.digest in state.versions])
    waits = [d for d in state.waiting if d in state.quarantined or d == state.champion.digest]
    assert waits == []
    if state.waiting:
        assert state.release["state"] not in (*ENDED, "watch")
    if state.release:
        assert state.release["champion"]["digest"] != state.release["challengers"][0]["digest"]


@settings(max_examples=80, deadline=None)
@given(st.lists(STEPS, min_size=20, max_size=60))
def test_whatever_happens_one_healthy_version_answers_everybody(steps):
    life = Life()
    life.candidate("v0")
    life.reconcile()
    for step in steps:
        take(life, step)
        life.reconcile()
        check(life)
        assert life.reconcile() == []


@settings(max_examples=50, deadline=None)
@given(st.lists(STEPS, min_size=10, max_size=25), STEPS)
def test_the_provisional_state_is_the_fold_of_what_is_appended(steps, last):
    life = Life()
    life.candidate("v0")
    for step in steps:
        take(life, step)
    ledger = Ledger(life.state, "quick")
    seen = Seen(life.now + 4 * HOUR, proof(str(last[1]), life.now + 4 * HOUR), [{"kind": "tick", "time": life.now + 1}])
    drafts = reconcile(MODEL, life.state, seen)
    for draft in drafts:
        ledger.write(draft.kind, draft.time, draft.data)
    life.append(drafts)
    assert canonical(asdict(ledger.state)) == canonical(asdict(life.state))
