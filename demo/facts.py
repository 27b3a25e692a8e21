"""What the report tells, taken from the journal's events: traffic, releases, runs and causes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.evaluate.gate import GATE_REASONS
from tidegate.journal.events import Event
from tidegate.journal.fold import run_name
from tidegate.reasons import REASONS
from tidegate.release.stages import ENDED

Json = Mapping[str, Any]
OUTCOMES = ("register.candidate", "register.unchanged", "register.refused", "evaluate.refused", "validate.refused")
VERDICTS = {"watch": "promoted", "promoted": "promoted"}
"""State of a release to the word for it; other states are their own word."""


@dataclass(frozen=True)
class Moment:
    """An instant in event time and on the machine's clock, seconds since the epoch."""

    time: float
    wall: float


@dataclass(frozen=True)
class Traffic:
    """How requests are split from a moment on: shares that sum to 1, and who gets copies."""

    at: Moment
    split: Mapping[str, float]
    mirrors: tuple[str, ...]
    release: str


@dataclass(frozen=True)
class Look:
    """One look of the judge at one place (shadow, split or watch): its checks by metric."""

    at: Moment
    place: str
    checks: Json


@dataclass(frozen=True)
class Release:
    """A release from its opening to its end. `stages`: (moment, what began); `counts`: the last evidence, by place.

    verdict: promoted, rolled back, aborted, expired, or open. deciding: the checks that the deciding look saw.
    """

    name: str
    champion: str
    challenger: str
    digest: str
    spec: Json
    opened: Moment
    stages: tuple[tuple[Moment, str], ...]
    looks: tuple[Look, ...]
    decided: Moment | None
    ended: Moment | None
    verdict: str
    sentence: str
    afterwards: str
    counts: Mapping[str, Json]


@dataclass(frozen=True)
class Run:
    """A run of the pipeline. `sentence` says what came of it; `gate` is gate.json, empty where it did not get there."""

    name: str
    causes: tuple[str, ...]
    by: str
    at: Moment
    details: Mapping[str, str] = field(default_factory=dict)
    outcome: str = "unfinished"
    sentence: str = ""
    version: str = ""
    rows: int = 0
    mode: str = ""
    mode_reason: str = ""
    gate: Json = field(default_factory=dict)
    steps: tuple[tuple[str, float, bool], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it gave a candidate."""
        return self.outcome == "register.candidate"


@dataclass(frozen=True)
class Held:
    """A cause that waited: from, to, and why it could not start a run at once."""

    cause: str
    since: float
    until: float
    detail: str
    why: str


def moment(event: Event) -> Moment:
    """When an event happened, in both times."""
    return Moment(event.time, event.wall)


def traffic(events: Iterable[Event]) -> list[Traffic]:
    """Every change of the traffic, in order."""
    return [
        Traffic(moment(e), dict(e.data["split"]), tuple(e.data["mirrors"]), e.data["release"])
        for e in events
        if e.kind == "serve.traffic"
    ]


def versions_in_traffic(changes: Iterable[Traffic]) -> list[str]:
    """Versions that answered or got copies, in order of their first appearance."""
    return list(dict.fromkeys(name for change in changes for name in (*change.split, *change.mirrors)))


def releases(events: Sequence[Event]) -> list[Release]:
    """The releases in order of their opening."""
    by_name: dict[str, list[Event]] = {}
    for event in events:
        if "release" in event.data and event.kind.startswith("release."):
            by_name.setdefault(event.data["release"]["name"], []).append(event)
    return [_release(found) for found in by_name.values()]


def _release(events: Sequence[Event]) -> Release:
    first, last = events[0].data["release"], events[-1].data["release"]
    decided = next((e for e in events if e.data["release"]["state"] in ("watch", *ENDED)), None)
    ended = next((e for e in events if e.data["release"]["state"] in ENDED), None)
    told = decided.data["release"] if decided else last
    evidence: Json = next((e.data["evidence"] for e in reversed(events) if e.data.get("evidence")), {"places": {}})
    judged = [e for e in events if "judgement" in e.data and e.data["judgement"]["checks"]]
    return Release(
        name=first["name"],
        champion=first["champion"]["name"],
        challenger=first["challengers"][0]["name"],
        digest=first["challengers"][0]["digest"],
        spec=first["spec"],
        opened=moment(events[0]),
        stages=tuple(_stages(events)),
        looks=tuple(Look(moment(e), e.data["judgement"]["place"], e.data["judgement"]["checks"]) for e in judged),
        decided=moment(decided) if decided else None,
        ended=moment(ended) if ended else None,
        verdict=_verdict(last, decided),
        sentence=told["sentence"] or REASONS.get(told["reason"], told["reason"]),
        afterwards=_afterwards(last, decided, ended),
        counts={place: stats["counts"] for place, stats in evidence["places"].items()},
    )


def _verdict(last: Json, decided: Event | None) -> str:
    if decided is None:
        return "open"
    return VERDICTS.get(last["state"], str(last["state"]).replace("_", " "))


def _afterwards(last: Json, decided: Event | None, ended: Event | None) -> str:
    """What came after a promotion: its watch."""
    if decided is None or decided is ended:
        return ""
    if ended is None:
        return "still watched at the end"
    return str(ended.data["release"]["sentence"] or REASONS.get(last["reason"], last["reason"]))


def _stages(events: Sequence[Event]) -> Iterator[tuple[Moment, str]]:
    """Each (moment, label) at which the stage or the challenger's share changed."""
    before = None
    for event in events:
        release = event.data["release"]
        now = release["state"], release["weight"] if release["state"] in ("canary", "ab") else None
        if now != before and release["state"] not in ENDED:
            yield moment(event), release["state"] if now[1] is None else f"{now[1] * 100:g} %"
        before = now


def runs(events: Sequence[Event]) -> list[Run]:
    """The pipeline's runs in order of their start."""
    details = {run_name(e): e.data["decision"]["details"] for e in events if _starts_run(e)}
    outcomes = {e.data["run"]: e for e in events if e.kind in OUTCOMES}
    finished = {e.data["run"]: e for e in events if e.kind == "trigger.finished"}
    return [
        _run(e, details.get(e.data["run"], {}), outcomes.get(e.data["run"]), finished.get(e.data["run"]))
        for e in events
        if e.kind == "trigger.started"
    ]


def _starts_run(event: Event) -> bool:
    return event.kind == "trigger.evaluated" and event.data["decision"]["decision"] == "retrain"


def _run(started: Event, details: Json, outcome: Event | None, finished: Event | None) -> Run:
    data = outcome.data if outcome else {}
    training = data.get("training", {})
    failed = str(finished.data["error"]) if finished and finished.data["error"] else ""
    return Run(
        name=started.data["run"],
        causes=tuple(started.data["causes"]),
        by=started.data["by"],
        at=moment(started),
        details=details,
        outcome=outcome.kind if outcome else ("failed" if failed else "unfinished"),
        sentence=_why(data) or failed,
        version=data.get("version", ""),
        rows=data.get("rows", 0),
        mode=data.get("mode") or training.get("mode", ""),
        mode_reason=data.get("mode_reason") or training.get("reason", ""),
        gate=data.get("gate", {}),
        steps=tuple((name, spent, cached) for name, spent, cached in finished.data["steps"]) if finished else (),
    )


def _why(data: Json) -> str:
    """A run's reason in words, with the figures it rests on."""
    reason = data.get("reason", "")
    sentence = str(GATE_REASONS.get(reason) or REASONS.get(reason, reason))
    figures = gate_figures(data.get("gate", {}), reason)
    return f"{sentence} ({figures})" if figures else sentence


def gate_figures(gate: Json, reason: str) -> str:
    """The gate's checks that decided, in words; empty where there are none."""
    checks = gate.get("checks", {})
    metric = gate.get("policy", {}).get("metric", "")
    names = [metric] if metric in checks else []
    if reason == "gate_slice":
        names = [n for n, c in checks.items() if "=" in n and c["lower"] is not None and c["lower"] > c["margin"]]
    return "; ".join(_figure(name, checks[name]) for name in names)


def _figure(name: str, check: Json) -> str:
    if check["estimate"] is None:
        return f"{name} not measured"
    limits = "" if check["upper"] is None else f", between {check['lower']:+.4f} and {check['upper']:+.4f}"
    return f"{name} {check['estimate']:+.4f}{limits}, margin {check['margin']:g}"


def held(events: Iterable[Event]) -> list[Held]:
    """Causes that had to wait, from the evaluation that held them first to the one that let them go."""
    waiting: dict[str, Held] = {}
    found: list[Held] = []
    for event in (e for e in events if e.kind == "trigger.evaluated"):
        decision = event.data["decision"]
        now = decision["causes"] if decision["decision"] == "wait" else ()
        found += [_until(waiting.pop(cause), event.time) for cause in list(waiting) if cause not in now]
        for cause in now:
            new = Held(cause, event.time, event.time, decision["details"].get(cause, ""), decision["key"])
            waiting[cause] = _until(waiting.get(cause, new), event.time)
    return [*found, *waiting.values()]


def _until(one: Held, time: float) -> Held:
    return Held(one.cause, one.since, time, one.detail, one.why)
