"""One model in a line: what the first page says of it, from its folded state. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tidegate.journal.fold import ModelState
from tidegate.reasons import ALERTS, REASONS
from tidegate.release.stages import ENDED

Health = Literal["wrong", "warned", "moving", "well", "new", "unread"]
HEALTHS: dict[Health, str] = {
    "wrong": "degraded",
    "warned": "look at it",
    "moving": "in release",
    "well": "well",
    "new": "no version yet",
    "unread": "being read",
}
"""What a state of health is called, those that need a person first."""


RUNS = 4
"""Newest runs that are kept of a model."""


@dataclass(frozen=True)
class Summary:
    """A model at a glance; times are event seconds.

    split: who answers with which share. why: what its health rests on, in a sentence. next_run: when the schedule is
    due, None without one. label, weight: of the release that is open.
    """

    model: str
    seq: int
    time: float
    version: str
    digest: str
    since: float | None
    split: Sequence[tuple[str, float]]
    mirrors: Sequence[str]
    release: str
    challenger: str
    stage: str
    weight: float
    health: Health
    why: str
    causes: Sequence[str]
    triggered: float | None
    next_run: float | None
    waiting: int
    running: Sequence[str]


def summarize(state: ModelState) -> Summary:
    """The line of one model."""
    champion, release, traffic = state.champion, state.release, state.traffic or {}
    open_ = release if is_open(state) else None
    health, why = _health(state)
    started = [run for run in state.runs.values() if run.arguments is not None]
    newest = max(started, key=lambda run: run.time, default=None)
    return Summary(
        model=state.model,
        seq=state.seq,
        time=state.time,
        version=champion.version if champion else "",
        digest=champion.digest if champion else "",
        since=champion.since if champion else None,
        split=[(version, share) for version, share in traffic.get("split", ())],
        mirrors=traffic.get("mirrors", ()),
        release=open_["name"] if open_ else "",
        challenger=_challenger(open_) if open_ else "",
        stage=open_["state"] if open_ else "",
        weight=open_["weight"] if open_ else 0.0,
        health=health,
        why=why,
        causes=newest.causes if newest else (),
        triggered=newest.time if newest else None,
        next_run=next_run(state),
        waiting=len(state.waiting),
        running=[run.name for run in state.running if not run.settled],
    )


def is_open(state: ModelState) -> bool:
    """Whether a release, its watch included, has not ended."""
    return state.release is not None and state.release["state"] not in ENDED


def unread(model: str) -> Summary:
    """The line of a model whose journal was not read yet."""
    return replace(summarize(ModelState(model=model)), health="unread", why="its journal is being read")


def slim(state: ModelState) -> ModelState:
    """What a line needs of a state, to go on from: without versions, what runs were, and who served before.

    Folding on may miss a run that was left out: KeyError, and all of the journal tells.
    """
    newest = [run for run in state.runs.values() if run.arguments is not None][-RUNS:]
    runs = {run.name: run for run in (*newest, *state.running)}
    return replace(state, versions={}, looks={}, alerts={}, verdicts=(), history=state.history[-1:], runs=runs)


def _challenger(release: Any) -> str:
    left = release.get("left", ())
    names = [one["name"] for one in release["challengers"] if one["name"] not in left]
    return ", ".join(names or [one["name"] for one in release["challengers"]])


def _health(state: ModelState) -> tuple[Health, str]:
    """What needs a person comes first; `why` says what it is."""
    champion = state.champion
    if champion is None:
        return "new", "nothing serves yet"
    if state.degraded:
        return "wrong", f"{state.degraded['version']}: {REASONS[state.degraded['reason']]}"
    if state.release and state.release["latched"] and state.release["state"] not in ENDED:
        return "warned", f"{state.release['name']}: {REASONS['sample_ratio']}"
    if state.failed:
        return "warned", f"run {state.failed['run']} failed"
    if (state.trigger or {}).get("skew"):
        return "warned", ALERTS["skew"][1]
    if is_open(state) and state.release:
        return "moving", f"{state.release['name']}: {state.release['state']}"
    return "well", f"{champion.version} serves"


def next_run(state: ModelState) -> float | None:
    """When the schedule asks for a run the next time, seconds; None without a schedule or before its first look."""
    schedule, tick = ((state.spec or {}).get("triggers") or {}).get("schedule"), (state.trigger or {}).get("last_tick")
    if not schedule or not schedule.get("cron") or tick is None:
        return None
    from tidegate.trigger.calendar import first_after

    return first_after(schedule["cron"], float(tick), "triggers.schedule.cron")


def in_order(found: Iterable[Summary]) -> list[Summary]:
    """Those that need a person first, then by name."""
    order = list(HEALTHS)
    return sorted(found, key=lambda one: (order.index(one.health), one.model))


def matches(one: Summary, words: str, health: str) -> bool:
    """Whether every word is in its name, version, release or health, and the health is the one asked for."""
    text = f"{one.model} {one.version} {one.release} {one.stage} {HEALTHS[one.health]}".lower()
    return (not health or one.health == health) and all(word in text for word in words.lower().split())
