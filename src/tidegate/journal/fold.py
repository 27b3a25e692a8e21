"""State from events: what the journal says of one model, at its end or at any moment before.

`fold` is the only place that knows what an event changes. It holds plain JSON values of releases and triggers, so
that reading a journal needs neither numpy nor the code that decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tidegate.journal.events import Event

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Served:
    """A version that got the champion's place, and when (event time)."""

    version: str
    digest: str
    since: float


@dataclass(frozen=True)
class Run:
    """A run of the pipeline: wanted by a decision, started with `arguments`, ended (`ok`), told to the policy."""

    name: str
    causes: tuple[str, ...]
    time: float
    by: str
    arguments: Json | None = None
    settled: bool = False
    """Its outcome is in the journal; what it still does (mirroring to MLflow) nobody waits for."""
    ok: bool | None = None
    rows: int = 0
    told: bool = False
    mode: str = ""
    """How its causes want it to be trained; see `tidegate.trigger.policy.Mode`."""


@dataclass(frozen=True)
class ModelState:
    """One model as its journal tells it. `seq` is the last event's number, for the next compare-and-swap."""

    model: str = ""
    seq: int = 0
    time: float = 0.0
    spec: Json | None = None
    champion: Served | None = None
    history: tuple[Served, ...] = ()
    versions: Mapping[str, Json] = field(default_factory=dict)
    """Every candidate ever registered, by digest: the data of its register.candidate event."""
    waiting: tuple[str, ...] = ()
    """Digests of candidates that no release has taken yet, oldest first."""
    quarantined: Mapping[str, str] = field(default_factory=dict)
    release: Json | None = None
    """The open release, or the one in its watch."""
    opened: int = 0
    carried: float = 0.0
    runs: Mapping[str, Run] = field(default_factory=dict)
    trigger: Json | None = None
    traffic: Json | None = None
    batch: Json | None = None
    """The newest scheduled batch: the data of its start, its `time`, and `ok`, null while it is at work."""
    looks: Mapping[str, Json] = field(default_factory=dict)
    """The looks at each champion's performance, by digest: the newest one, with `n` and `sum` over all of them."""
    degraded: Json | None = None
    """The newest release.degraded with `since`, its first moment; None when that champion recovered."""
    finding: Json | None = None
    """The finding of the newest assessable diagnosis, and since when it is that one."""
    failed: Json | None = None
    """The newest run that broke and when; None when a later one did not."""
    verdicts: tuple[Json, ...] = ()
    """What releases answered the model gate; see `tidegate.monitor.agreement`."""
    announced: str = ""
    """The announced event that the newest release was opened in."""
    lent: Json | None = None
    """Who served before an event's own settings promoted another; it serves again after the event."""
    alerts: Mapping[str, Json] = field(default_factory=dict)
    """Alerts by key: what is to be sent, and whether it was."""
    batch_since: float = 0.0
    """When the Model file got the schedule that it has: only later times of it count."""

    @property
    def running(self) -> tuple[Run, ...]:
        """Runs that have not ended."""
        return tuple(run for run in self.runs.values() if run.ok is None)


def fold(events: Iterable[Event], state: ModelState | None = None) -> ModelState:
    """State after `events`; go on from `state` where it is given."""
    state = state or ModelState()
    for event in events:
        state = apply(state, event)
    return state


def apply(state: ModelState, event: Event) -> ModelState:
    """State after one more event. An unknown kind changes nothing but the position."""
    state = replace(state, model=event.model, seq=event.seq, time=max(state.time, event.time))
    change = _CHANGES.get(event.kind)
    return change(state, event) if change else state


def _model(state: ModelState, event: Event) -> ModelState:
    spec = event.data["spec"]
    if spec.get("batch") != (state.spec or {}).get("batch"):
        state = replace(state, batch_since=event.time)
    return replace(state, spec=spec)


def _candidate(state: ModelState, event: Event) -> ModelState:
    digest = event.data["digest"]
    versions = {**state.versions, digest: {**event.data, "time": event.time, "seq": event.seq}}
    return _settled(replace(state, versions=versions, waiting=(*state.waiting, digest)), event)


def _settled(state: ModelState, event: Event) -> ModelState:
    run = state.runs.get(event.data["run"])
    if run is None:
        return state
    run = replace(run, settled=True, rows=event.data.get("rows", 0))
    return replace(state, runs={**state.runs, run.name: run})


def _superseded(state: ModelState, event: Event) -> ModelState:
    return replace(state, waiting=tuple(d for d in state.waiting if d != event.data["digest"]))


def _first(state: ModelState, event: Event) -> ModelState:
    return _crown(_superseded(state, event), event.data["version"], event.data["digest"], event.time)


def _opened(state: ModelState, event: Event) -> ModelState:
    taken = {challenger["digest"] for challenger in event.data["release"]["challengers"]}
    waiting = tuple(d for d in state.waiting if d not in taken)
    state = replace(state, release=event.data["release"], waiting=waiting, opened=state.opened + 1)
    return replace(state, announced=event.data.get("event", ""))


def _stepped(state: ModelState, event: Event) -> ModelState:
    state = replace(state, release=event.data["release"])
    for action in event.data["actions"]:
        state = _act(state, action, event)
    return state


def _act(state: ModelState, action: Json, event: Event) -> ModelState:
    kind, release = action["action"], event.data["release"]
    state = _answered(state, action, event)
    if kind == "Promote":
        state = replace(state, lent=_lent(state, release), carried=action["carried"])
        return _crown(state, action["version"], action["digest"], event.time)
    if kind == "Rollback":
        old = release["champion"]
        state = _crown(state, old["name"], old["digest"], event.time)
    if kind in ("Rollback", "Abort", "Drop"):
        return replace(state, quarantined={**state.quarantined, action["digest"]: action["reason"]})
    return state


def _lent(state: ModelState, release: Json) -> Json | None:
    """Who gets the place back after the event that the release was opened in."""
    if not state.announced:
        return None
    old = release["champion"]
    before = {"version": old["name"], "digest": old["digest"], "carried": state.carried, "event": state.announced}
    return state.lent or before


def _answered(state: ModelState, action: Json, event: Event) -> ModelState:
    """What a challenger's end says of the gate that passed it; a rollback takes its promotion's answer back."""
    release, kind = event.data["release"]["name"], action["action"]
    answer = {"Promote": "agreed", "End": "undecided"}.get(kind) or _worse(kind, action, event.data)
    if answer is None or (kind == "End" and action["state"] != "expired"):
        return state
    version = action.get("version") or event.data["release"]["challengers"][0]["name"]
    told = {"release": release, "version": version, "answer": answer, "time": event.time}
    others = tuple(v for v in state.verdicts if (v["release"], v["version"]) != (release, version))
    return replace(state, verdicts=(*others, told))


def _worse(kind: str, action: Json, data: Json) -> str | None:
    """`disagreed` where the loss was proved worse; errors, latency or a person's word say nothing of the gate."""
    if kind not in ("Abort", "Drop", "Rollback"):
        return None
    checks = (data.get("judgement") or {}).get("checks", {})
    worse = any(name.startswith("loss") and check["lower"] > 0 for name, check in checks.items())
    proved = action["reason"] in ("proved_worse", "regression", "one_worse")
    return "disagreed" if proved and worse else "undecided"


def _crown(state: ModelState, version: str, digest: str, time: float) -> ModelState:
    served = Served(version, digest, time)
    return replace(state, champion=served, history=(*state.history, served))


def _unquarantined(state: ModelState, event: Event) -> ModelState:
    return replace(state, quarantined={d: r for d, r in state.quarantined.items() if d != event.data["digest"]})


def _requested(state: ModelState, event: Event) -> ModelState:
    return replace(state, waiting=(*state.waiting, event.data["digest"]))


def _evaluated(state: ModelState, event: Event) -> ModelState:
    told = event.data["event"]
    state = _looked(replace(state, trigger=event.data["state"]), told)
    if told["kind"] == "run_finished":
        state = replace(state, runs={**state.runs, told["run"]: replace(state.runs[told["run"]], told=True)})
    if event.data["decision"]["decision"] != "retrain":
        return state
    name = run_name(event)
    decision = event.data["decision"]
    run = Run(name, tuple(decision["causes"]), event.time, "trigger", mode=decision.get("mode", "auto"))
    return replace(state, runs={**state.runs, name: run})


def _looked(state: ModelState, told: Json) -> ModelState:
    """What a look told of the champion or of the rows."""
    if told["kind"] == "metric" and state.champion is not None and told["value"] is not None:
        digest = state.champion.digest
        before = state.looks.get(digest, {})
        same = before if before.get("name") == told["name"] else {}
        counted = {"n": same.get("n", 0) + 1, "sum": same.get("sum", 0.0) + told["value"]}
        return replace(state, looks={**state.looks, digest: {**told, **counted}})
    if told["kind"] == "drift" and told["finding"] not in ("not_assessable", (state.finding or {}).get("finding")):
        return replace(state, finding={"finding": told["finding"], "since": told["time"]})
    return state


def _degraded(state: ModelState, event: Event) -> ModelState:
    digest, to = event.data["digest"], event.data["to"]
    known = state.degraded is not None and state.degraded["digest"] == digest
    since = state.degraded["since"] if known and state.degraded else event.time
    state = replace(state, degraded={**event.data, "since": since})
    if to is None:
        return state
    quarantined = {**state.quarantined, digest: event.data["reason"]}
    return _crown(replace(state, quarantined=quarantined, lent=None), to["version"], to["digest"], event.time)


def _recovered(state: ModelState, event: Event) -> ModelState:
    return replace(state, degraded=None)


def _reverted(state: ModelState, event: Event) -> ModelState:
    data = event.data
    return _crown(replace(state, lent=None, carried=data["carried"]), data["version"], data["digest"], event.time)


def _alert(state: ModelState, event: Event) -> ModelState:
    return replace(state, alerts={**state.alerts, event.data["key"]: {"alert": event.data["alert"], "sent": False}})


def _alerted(state: ModelState, event: Event) -> ModelState:
    sent = {key: {**state.alerts[key], "sent": True} for key in event.data["keys"]}
    return replace(state, alerts={**state.alerts, **sent})


def run_name(event: Event) -> str:
    """The name of the run that a decision wants; the same however often the journal is read."""
    return f"{event.model}-{event.seq}"


def _started(state: ModelState, event: Event) -> ModelState:
    name = event.data["run"]
    run = state.runs.get(name) or Run(name, tuple(event.data["causes"]), event.time, event.data["by"])
    return replace(state, runs={**state.runs, name: replace(run, arguments=event.data["arguments"])})


def _finished(state: ModelState, event: Event) -> ModelState:
    run = replace(state.runs[event.data["run"]], ok=event.data["ok"], rows=event.data["rows"])
    failed = None if run.ok else {"run": run.name, "time": event.time}
    return replace(state, runs={**state.runs, run.name: run}, failed=failed)


def _traffic(state: ModelState, event: Event) -> ModelState:
    return replace(state, traffic=event.data)


def _batch_started(state: ModelState, event: Event) -> ModelState:
    return replace(state, batch={**event.data, "time": event.time, "ok": None})


def _batch_finished(state: ModelState, event: Event) -> ModelState:
    return replace(state, batch={**(state.batch or {}), "ok": event.data["ok"]})


_CHANGES = {
    "serve.model": _model,
    "serve.traffic": _traffic,
    "serve.batch_started": _batch_started,
    "serve.batch_finished": _batch_finished,
    "validate.refused": _settled,
    "evaluate.refused": _settled,
    "register.refused": _settled,
    "register.unchanged": _settled,
    "register.candidate": _candidate,
    "release.first": _first,
    "release.superseded": _superseded,
    "release.opened": _opened,
    "release.looked": _stepped,
    "release.stage": _stepped,
    "release.promoted": _stepped,
    "release.aborted": _stepped,
    "release.rolled_back": _stepped,
    "release.ended": _stepped,
    "release.command": _stepped,
    "release.requested": _requested,
    "release.unquarantined": _unquarantined,
    "release.degraded": _degraded,
    "release.recovered": _recovered,
    "release.reverted": _reverted,
    "monitor.alert": _alert,
    "monitor.alerted": _alerted,
    "trigger.evaluated": _evaluated,
    "trigger.started": _started,
    "trigger.finished": _finished,
}
