"""The controller's decisions: a pure function from what is wanted, remembered and seen to what the journal gets next.

Rules, in this order, at one moment of event time:

1. A Model file that changed is written down first.
2. Runs that ended are told to the trigger policy.
3. Where an announced event with release settings begins or is over, the open release ends, and what such settings
   promoted gives its place back.
4. Without a champion the newest candidate serves at once. Otherwise, when no release is open, the newest waiting
   candidate is released (several, where the release's ab stage has arms for them) and older ones end superseded. A
   release in its watch counts as ended.
5. The open release takes one step on its evidence.
6. A scheduled batch that ended is written down, and one that is due starts.
7. The trigger policy sees whether a release is open, its watch included (a run would be trained on from a champion
   that may still be rolled back), then every other event of the moment.
8. A champion that the moment's look proved beyond the performance limit is written down, and rolled back by policy.
9. What people are to be alerted of is written down, once.

What must then be true on the target and the orchestrator follows from the state alone (`wanted_plan`, `Run.arguments`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.controller import alerts, announced, batch_schedule, degrade
from tidegate.journal.events import GENESIS, Draft, seal
from tidegate.journal.fold import ModelState, apply
from tidegate.release import commands, machine
from tidegate.release.actions import action_to_json
from tidegate.release.plan import Backend, Plan
from tidegate.release.stages import ENDED, Release, Version, challengers_of
from tidegate.release.traffic import wanted
from tidegate.spec import Model, ModelSpec
from tidegate.trigger import policy
from tidegate.trigger.events import event_of

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """A run that ended: `ok` false when it broke, `rows` it was trained on, 0 where it did not get that far."""

    run: str
    ok: bool
    rows: int
    steps: tuple[tuple[str, float, bool], ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Seen:
    """What was seen at one moment. `evidence` belongs to the open release; None: nothing new to look at."""

    now: float
    evidence: Json | None = None
    events: Sequence[Json] = ()
    ended: Sequence[Ended] = field(default=())
    batch: Json | None = None
    """How the batch at work ended: ``{"result"}`` or ``{"error"}``; None: it goes on, or there is none."""


class Ledger:
    """Drafts in the making, and the state as it will be when they are written."""

    def __init__(self, state: ModelState, model: str) -> None:
        self.state, self.model = state, model
        self.drafts: list[Draft] = []

    def write(self, kind: str, now: float, data: Json) -> None:
        """Add a draft and let the state follow."""
        draft = Draft(kind, now, data)
        self.drafts.append(draft)
        self.state = apply(self.state, seal(draft, self.model, self.state.seq + 1, 0.0, GENESIS))


def reconcile(model: Model, state: ModelState, seen: Seen) -> list[Draft]:
    """The events to append after `state`; empty when nothing changed."""
    ledger = Ledger(state, model.name)
    _note_model(ledger, model, seen.now)
    for ended in seen.ended:
        finish_run(ledger, ended, seen.now)
    _tell_of_runs(ledger, model.spec, seen.now)
    _calendar(ledger, model.spec, seen.now)
    looked_at = _release_name(ledger.state)
    _place_candidates(ledger, model, seen.now)
    # a release that was opened just now has no evidence yet: what was seen is that of the one before
    if seen.evidence is not None and _is_open(ledger.state) and _release_name(ledger.state) == looked_at:
        _step_release(ledger, seen.evidence, seen.now)
        _place_candidates(ledger, model, seen.now)
    _batch(ledger, model, seen)
    _tell_policy(ledger, model.spec, seen)
    if found := degrade.degraded(model.spec, ledger.state, seen.now):
        ledger.write(found[0], seen.now, found[1])
    for alert in list(alerts.due(ledger.state)) if model.spec.alerts else ():
        ledger.write("monitor.alert", seen.now, alert)
    return ledger.drafts


def _calendar(ledger: Ledger, spec: ModelSpec, now: float) -> None:
    if ends := announced.ends_release(spec, ledger.state, now):
        command(ledger, ends, now)
    if data := announced.given_back(spec, ledger.state, now):
        ledger.write("release.reverted", now, data)


def _batch(ledger: Ledger, model: Model, seen: Seen) -> None:
    at_work = ledger.state.batch
    if seen.batch is not None and at_work is not None and at_work["ok"] is None:
        ended = {"run": at_work["run"], "ok": "result" in seen.batch, **seen.batch}
        ledger.write("serve.batch_finished", seen.now, ended)
    if started := batch_schedule.due(model, ledger.state, seen.now):
        ledger.write("serve.batch_started", seen.now, started)


def _note_model(ledger: Ledger, model: Model, now: float) -> None:
    spec = model.spec.model_dump(mode="json", by_alias=True)
    if ledger.state.spec != spec:
        ledger.write("serve.model", now, {"spec": spec})


def finish_run(ledger: Ledger, ended: Ended, now: float) -> None:
    """Write down that a run ended; nothing when that was done before."""
    run = ledger.state.runs.get(ended.run)
    if run is None or run.ok is not None:
        return
    data = {"run": ended.run, "ok": ended.ok, "rows": ended.rows, "steps": ended.steps, "error": ended.error}
    ledger.write("trigger.finished", now, data)


def _tell_of_runs(ledger: Ledger, spec: ModelSpec, now: float) -> None:
    """Runs whose outcome is known and that the policy was not told of, whoever started and finished them."""
    for run in ledger.state.runs.values():
        if (run.settled or run.ok is not None) and not run.told:
            ok = run.settled or bool(run.ok)
            event = {"kind": "run_finished", "time": now, "run": run.name, "ok": ok, "rows": run.rows}
            decide(ledger, spec, event)


def weigh(spec: ModelSpec, before: Json | None, event: Json) -> tuple[Json, Json]:
    """The trigger policy over plain JSON: (state after, decision); the same code decides and replays."""
    known = policy.TriggerState.from_json(before) if before else policy.TriggerState()
    after, decision = policy.decide(spec.triggers, known, event_of(event))
    return after.to_json(), decision.to_json()


def decide(ledger: Ledger, spec: ModelSpec, event: Json) -> None:
    """Put one event before the trigger policy and write down what it says."""
    state, decision = weigh(spec, ledger.state.trigger, event)
    ledger.write("trigger.evaluated", event["time"], {"event": event, "state": state, "decision": decision})


def _is_open(state: ModelState) -> bool:
    return state.release is not None and state.release["state"] not in ENDED


def _release_name(state: ModelState) -> str:
    return str(state.release["name"]) if state.release else ""


def _gathers(state: ModelState) -> bool:
    """Whether a release is open and not in its watch: no other can start now."""
    return _is_open(state) and state.release is not None and state.release["state"] != "watch"


def _serves(state: ModelState, digest: str) -> bool:
    return state.champion is not None and state.champion.digest == digest


def _place_candidates(ledger: Ledger, model: Model, now: float) -> None:
    """Release the newest waiting candidate where there is room; older ones end superseded."""
    for digest in dict.fromkeys(ledger.state.waiting):
        if digest in ledger.state.quarantined:
            ledger.write("release.superseded", now, {"digest": digest, "reason": "quarantined"})
        elif _serves(ledger.state, digest):
            ledger.write("release.superseded", now, {"digest": digest, "reason": "serves"})
    if not ledger.state.waiting or _gathers(ledger.state):
        return
    newest = ledger.state.waiting[-1]
    taken = _taken(ledger.state, model, now)
    for digest in dict.fromkeys(d for d in ledger.state.waiting if d not in taken):
        ledger.write("release.superseded", now, {"digest": digest, "reason": "superseded", "by": newest})
    version = ledger.state.versions[newest]["version"]
    if ledger.state.champion is None:
        ledger.write("release.first", now, {"version": version, "digest": newest, "reason": "first_version"})
        return
    if _is_open(ledger.state):
        command(ledger, {"command": "end_watch"}, now)
    ledger.write("release.opened", now, opening(ledger.state, model, taken, now))


def _taken(state: ModelState, model: Model, now: float) -> list[str]:
    """Waiting candidates that the next release takes, newest first: as many as it has arms for."""
    settings = announced.settings_of(model.spec, announced.in_force(model.spec, now))
    several = challengers_of(settings) if state.champion is not None else 1
    return list(dict.fromkeys(reversed(state.waiting)))[:several]


def placed(model: Model, state: ModelState, now: float) -> Draft | None:
    """The next thing to write about the candidates that wait; None when nothing is to be. For replay."""
    ledger = Ledger(state, model.name)
    _place_candidates(ledger, model, now)
    return ledger.drafts[0] if ledger.drafts else None


def opening(state: ModelState, model: Model, digests: Sequence[str], now: float) -> Json:
    """The data of a release.opened event: the release as it starts, and what it was made from."""
    assert state.champion is not None  # noqa: S101 - the caller looked
    champion = Version(state.champion.version, state.champion.digest)
    challengers = tuple(Version(state.versions[digest]["version"], digest) for digest in digests)
    name = f"{model.name}-r{state.opened + 1}"
    event = announced.in_force(model.spec, now)
    release = machine.open_release(
        name=name,
        model=model.name,
        champion=champion,
        challengers=challengers,
        spec=announced.settings_of(model.spec, event),
        now=now,
        carried=state.carried,
    )
    return {"release": release.to_json(), **({"event": event} if event else {})}


def _step_release(ledger: Ledger, evidence: Json, now: float) -> None:
    before = ledger.state.release or {}
    after, actions, judgement = machine.step_from_json(before, evidence, now)
    data = {"now": now, "evidence": evidence, "release": after, "actions": actions, "judgement": judgement}
    ledger.write(kind_of(actions), now, data)


_KINDS = {
    "Promote": "release.promoted",
    "Abort": "release.aborted",
    "Rollback": "release.rolled_back",
    "End": "release.ended",
    "EnterStage": "release.stage",
    "Drop": "release.stage",
    "Latch": "release.stage",
}


def kind_of(actions: Sequence[Json]) -> str:
    """The journal kind of a step: that of its gravest action."""
    names = {action["action"] for action in actions}
    return next((kind for name, kind in _KINDS.items() if name in names), "release.looked")


_COMMANDS: Mapping[str, Callable[..., commands.Command]] = {
    "pause": commands.Pause,
    "resume": commands.Resume,
    "approve": commands.Approve,
    "abort": commands.Abort,
    "rollback": commands.Rollback,
    "challenger_failed": commands.ChallengerFailed,
    "end_watch": commands.EndWatch,
    "event": commands.EventEnds,
}


def obey(release: Json, order: Json, now: float) -> tuple[Json, list[Json]]:
    """A release after a command, and its actions, all as JSON; the same code decides and replays."""
    words = {key: value for key, value in order.items() if key != "command"}
    after, actions = machine.command(Release.from_json(release), _COMMANDS[order["command"]](**words), now)
    return after.to_json(), [action_to_json(action) for action in actions]


def command(ledger: Ledger, order: Json, now: float) -> None:
    """Carry out a person's or the controller's command on the open release and write it down."""
    release = ledger.state.release
    assert release is not None  # noqa: S101 - the caller looked
    after, actions = obey(release, order, now)
    data = {"now": now, "command": order, "release": after, "actions": actions}
    ledger.write("release.command", now, data)


def _tell_policy(ledger: Ledger, spec: ModelSpec, seen: Seen) -> None:
    is_open = _is_open(ledger.state)
    if bool((ledger.state.trigger or {}).get("release_open", False)) != is_open:
        told = {"kind": "release", "time": seen.now, "open": is_open, "promoted": _promoted(ledger.state)}
        decide(ledger, spec, told)
    for event in seen.events:
        decide(ledger, spec, event)


def _promoted(state: ModelState) -> bool:
    """Whether the newest release has ended, and the champion is another one than when causes were first gathered."""
    if _is_open(state) or state.release is None or state.champion is None:
        return False
    return bool(state.champion.since >= state.release["opened"])


def wanted_plan(model: Model, state: ModelState) -> Plan | None:
    """The traffic that the state asks for; None before there is a champion."""
    if state.champion is None:
        return None
    replicas = model.spec.serving.replicas.min
    if _is_open(state):
        return wanted(Release.from_json(state.release or {}), replicas)
    champion = state.champion
    return Plan(model.name, (Backend(champion.version, champion.digest, replicas),), ((champion.version, 1.0),))
