"""The one policy that decides whether a model is trained again. Its rules are the table in docs/trigger.md.

`decide(spec, state, event) -> (state, decision)` is pure: a decision is recomputed from these three, which is what
the journal stores. An event is first absorbed (it may set a cause), then the causes that are held either start one
run together or wait, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tidegate.monitor.times import iso
from tidegate.reasons import TRIGGER_REASONS
from tidegate.spec import TriggersSpec
from tidegate.trigger.calendar import check_schedule, due
from tidegate.trigger.events import Drift, Metric, Release, Request, Rows, RunFinished, Tick, TriggerEvent

Cause = Literal["manual", "code", "drift", "performance", "volume", "schedule"]
CAUSES: tuple[Cause, ...] = ("manual", "code", "drift", "performance", "volume", "schedule")
"""In order of priority: the first one decides how a run is trained."""
URGENT: frozenset[str] = frozenset({"manual", "code"})
DAY = 86400.0
GRAVITY = ("domain_shift", "data_drift", "concept_drift")
"""Findings that a run can answer, the gravest last: it decides how a run for `drift` is trained."""
Mode = Literal["", "auto", "stateful", "recent"]
"""How a run is trained: as the Model file says; on from the champion; on the recent window only. Empty: no run."""
_MODES: Mapping[str, Mode] = {"data_drift": "stateful", "concept_drift": "recent"}


@dataclass(frozen=True)
class TriggerState:
    """What the policy remembers. Plain JSON by `to_json`; times in seconds since the epoch.

    last_tick: time of the newest tick. held: (cause, detail) pairs that wait for a run, volume excepted, which is a
    level. in_flight: a run started here has not finished. ended: when the last such run finished. used: rows of the
    last successful run; None before the first. matured: rows matured since. skew: the last assessable look found it.
    release_open: causes wait. region: labelled rows of a new region since a domain shift was found. disarmed: causes
    that fired and may not fire again yet. day, runs: the UTC day of the last start and the starts in it.
    """

    last_tick: float | None = None
    held: tuple[tuple[str, str], ...] = ()
    in_flight: bool = False
    ended: float | None = None
    used: int | None = None
    matured: int = 0
    skew: bool = False
    release_open: bool = False
    region: int = 0
    disarmed: tuple[str, ...] = ()
    day: int | None = None
    runs: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"held": [list(pair) for pair in self.held], "disarmed": list(self.disarmed)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TriggerState:
        """The inverse of `to_json`."""
        held = tuple((str(cause), str(detail)) for cause, detail in data["held"])
        return cls(**{**data, "held": held, "disarmed": tuple(data["disarmed"])})


@dataclass(frozen=True)
class Decision:
    """One evaluation: `causes` are those of the run that starts, or those that are held while it says wait."""

    decision: Literal["retrain", "wait"]
    causes: tuple[str, ...]
    key: str
    """A key of `TRIGGER_REASONS`."""
    reason: str
    """The key's sentence with its figures."""
    details: tuple[tuple[str, str], ...] = ()
    """(cause, what set it) in words."""
    mode: Mode = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "decision": self.decision,
            "causes": list(self.causes),
            "key": self.key,
            "reason": self.reason,
            "details": dict(self.details),
            **({"mode": self.mode} if self.mode else {}),
        }


def check_triggers(spec: TriggersSpec) -> None:
    """UserError naming the field, where a cron or a calendar event of the Model file does not parse."""
    if spec.schedule:
        check_schedule(spec.schedule)


def decide(spec: TriggersSpec, state: TriggerState, event: TriggerEvent) -> tuple[TriggerState, Decision]:
    """One step of the policy: the state after an event, and whether a run starts."""
    state = _ABSORB[type(event)](spec, state, event)
    causes = _causes(spec, state)
    key = _held_by(spec, state, event.time, causes)
    if key is not None:
        if not causes and isinstance(event, Drift) and event.finding in ("skew", "domain_shift"):
            key = event.finding
        return state, _decision("wait", causes, key, _figures(spec, state))
    taken = [pair for pair in causes if not state.skew or pair[0] in URGENT]
    started = _decision("retrain", taken, "started", {})
    return _start(state, event.time, taken), replace(started, mode=mode_of(taken))


def volume_holds(spec: TriggersSpec, state: TriggerState) -> bool:
    """Whether the rows matured since the last successful run reach the share of those it used."""
    if spec.volume is None or state.used is None or state.matured == 0:
        return False
    return state.matured >= spec.volume.increase * state.used - 1e-9


def performance_is_bad(spec: TriggersSpec, look: Metric) -> bool | None:
    """True: proved beyond the limit; False: on the good side of it; None: neither, or too few labels to say."""
    rule = spec.performance
    if rule is None or look.name != rule.metric or look.labels < rule.min_labels:
        return None
    sign = 1.0 if rule.metric == "roc_auc" else -1.0
    near = look.upper if sign > 0 else look.lower
    if near is not None and sign * near < sign * rule.below:
        return True
    return False if look.value is not None and sign * look.value >= sign * rule.below else None


def _tick(spec: TriggersSpec, state: TriggerState, event: Tick) -> TriggerState:
    passed = due(spec.schedule, state.last_tick, event.time) if spec.schedule else None
    state = replace(state, last_tick=event.time)
    return _hold(state, "schedule", passed) if passed else state


def _rows(spec: TriggersSpec, state: TriggerState, event: Rows) -> TriggerState:
    return replace(state, matured=state.matured + event.count)


def _metric(spec: TriggersSpec, state: TriggerState, event: Metric) -> TriggerState:
    bad = performance_is_bad(spec, event)
    if bad is None or spec.performance is None:
        return state
    if not bad:
        return _arm(state, "performance")
    value = "unknown" if event.value is None else f"{event.value:.4g}"
    side = "below" if event.name == "roc_auc" else "above"
    return _fire(state, "performance", f"{event.name} {value} proved {side} {spec.performance.below:g}")


def _drift(spec: TriggersSpec, state: TriggerState, event: Drift) -> TriggerState:
    if event.finding == "not_assessable":
        return state
    state = replace(state, skew=event.finding == "skew")
    if event.finding == "none":
        return replace(_arm(state, "drift"), region=0)
    if spec.drift is None or event.finding not in GRAVITY:
        return state
    if event.finding == "domain_shift":
        state = replace(state, region=state.region + event.labels)
        if state.region < spec.drift.min_labels:
            return state
    return _graver(_fire(state, "drift", event.finding), event.finding)


def _run_finished(spec: TriggersSpec, state: TriggerState, event: RunFinished) -> TriggerState:
    ended = event.time if state.in_flight else state.ended
    state = replace(state, in_flight=False, ended=ended, disarmed=())
    return replace(state, used=event.rows, matured=0, region=0) if event.ok else state


def _release(spec: TriggersSpec, state: TriggerState, event: Release) -> TriggerState:
    state = replace(state, release_open=event.open)
    if not event.promoted:
        return state
    # What was said about the champion that is gone is said again about the new one, if it holds for it.
    held = tuple(pair for pair in state.held if pair[0] not in ("performance", "drift"))
    return replace(state, held=held, disarmed=(), region=0)


def _request(spec: TriggersSpec, state: TriggerState, event: Request) -> TriggerState:
    return _hold(state, event.cause, "asked for")


_ABSORB: dict[type, Callable[[TriggersSpec, TriggerState, Any], TriggerState]] = {
    Tick: _tick,
    Rows: _rows,
    Metric: _metric,
    Drift: _drift,
    RunFinished: _run_finished,
    Release: _release,
    Request: _request,
}


def _hold(state: TriggerState, cause: Cause, detail: str) -> TriggerState:
    """Gather a cause; one that is held already stays as it is."""
    known = any(held == cause for held, _ in state.held)
    return state if known else replace(state, held=(*state.held, (cause, detail)))


def _fire(state: TriggerState, cause: Cause, detail: str) -> TriggerState:
    """Gather a cause that is looked at again and again: once, until it is armed again."""
    if cause in state.disarmed:
        return state
    return replace(_hold(state, cause, detail), disarmed=(*state.disarmed, cause))


def _graver(state: TriggerState, finding: str) -> TriggerState:
    """A held `drift` tells the gravest of the findings that were made while it waited."""
    held = dict(state.held)
    if "drift" not in held or GRAVITY.index(finding) <= GRAVITY.index(held["drift"]):
        return state
    return replace(state, held=tuple({**held, "drift": finding}.items()))


def mode_of(taken: Sequence[tuple[str, str]]) -> Mode:
    """How a run for these causes is trained: the first one decides."""
    cause, detail = taken[0]
    return _MODES.get(detail, "auto") if cause == "drift" else "auto"


def _arm(state: TriggerState, cause: Cause) -> TriggerState:
    return replace(state, disarmed=tuple(other for other in state.disarmed if other != cause))


def _causes(spec: TriggersSpec, state: TriggerState) -> list[tuple[str, str]]:
    """What asks for a run now, in order of priority, each with what set it."""
    held = dict(state.held)
    if not state.in_flight and volume_holds(spec, state):
        held["volume"] = f"{state.matured} rows matured, the last run used {state.used}"
    return [(cause, held[cause]) for cause in CAUSES if cause in held]


def _held_by(spec: TriggersSpec, state: TriggerState, now: float, causes: list[tuple[str, str]]) -> str | None:
    """The first rule that makes these causes wait; None when a run starts."""
    if not causes:
        return "no_cause"
    if state.in_flight:
        return "in_flight"
    if URGENT & {cause for cause, _ in causes}:
        return None
    if state.skew:
        return "skew"
    if state.release_open:
        return "release_open"
    if state.ended is not None and now < state.ended + spec.cooldown.total_seconds():
        return "cooldown"
    if state.day == math.floor(now / DAY) and state.runs >= spec.budget.runs_per_day:
        return "budget"
    return None


def _start(state: TriggerState, now: float, taken: list[tuple[str, str]]) -> TriggerState:
    day = math.floor(now / DAY)
    runs = state.runs + 1 if day == state.day else 1
    return replace(
        state, held=tuple(pair for pair in state.held if pair not in taken), in_flight=True, day=day, runs=runs
    )


def _figures(spec: TriggersSpec, state: TriggerState) -> dict[str, str]:
    until = iso(state.ended + spec.cooldown.total_seconds()) if state.ended is not None else ""
    wanted = spec.drift.min_labels if spec.drift else 0
    return {"until": until, "budget": str(spec.budget.runs_per_day), "region": f"{state.region} of {wanted}"}


def _decision(
    decision: Literal["retrain", "wait"], causes: list[tuple[str, str]], key: str, figures: dict[str, str]
) -> Decision:
    names = tuple(cause for cause, _ in causes)
    words = ", ".join(f"{cause} ({detail})" for cause, detail in causes) or "nothing"
    return Decision(decision, names, key, TRIGGER_REASONS[key].format(causes=words, **figures), tuple(causes))
