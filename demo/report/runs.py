"""What the report tells of runs and their causes, taken from the journal's events. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from demo.report.facts import Json, Moment, moment
from tidegate.journal.events import Event
from tidegate.journal.fold import run_name
from tidegate.reasons import GATE_REASONS, REASONS
from tidegate.register.decide import ENDS


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


def runs(events: Sequence[Event]) -> list[Run]:
    """The pipeline's runs in order of their start."""
    details = {run_name(e): e.data["decision"]["details"] for e in events if _starts_run(e)}
    outcomes = {e.data["run"]: e for e in events if e.kind in ENDS}
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
