"""What people and machines read from a journal: the state, what served at a past moment, the events as lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from tidegate.errors import UserError
from tidegate.journal.events import Event
from tidegate.journal.fold import Json, ModelState, fold
from tidegate.journal.store import open_journal, verify
from tidegate.monitor.agreement import agreement
from tidegate.reasons import GATE_REASONS, REASONS
from tidegate.register import cost


def iso(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str, where: str) -> float:
    """ISO 8601 (UTC where no zone is given) as seconds since the epoch; UserError names `where`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(where, text, "a time in ISO 8601, for example 2013-07-01T04:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def status(state: Path, at: str | None = None) -> dict[str, Any]:
    """Each model's state as JSON; with `at`, as the journal told it at that event time."""
    journal = open_journal(state)
    until = seconds(at, "--at") if at else None
    models = []
    for name in journal.models():
        events = journal.read(name)
        verify(events)
        # clocks of two writers differ by seconds: what was written after the first later event is later, too
        told = list(takewhile(lambda e: until is None or e.time <= until, events))
        models.append({**describe(fold(told)), "cost": cost.table(told, recorded(state, told))})
    return {"at": at, "models": models}


def recorded(state: Path, events: Iterable[Event]) -> dict[str, cost.Costs]:
    """What the state folder still has of the costs of the runs that `events` start, by run and step."""
    from tidegate.steps import read_records

    runs = {event.data["run"] for event in events if event.kind == "trigger.started"}
    return {run: cost.costs_of(read_records(state, run)) for run in runs}


def describe(state: ModelState) -> dict[str, Any]:
    """One model's state as a JSON document."""
    champion, release = state.champion, state.release
    return {
        "model": state.model,
        "time": iso(state.time),
        "champion": champion and {"version": champion.version, "digest": champion.digest, "since": iso(champion.since)},
        "release": release and release_summary(release),
        "traffic": state.traffic,
        "waiting": [state.versions[digest]["version"] for digest in state.waiting],
        "quarantined": {d: state.quarantined[d] for d in sorted(state.quarantined)},
        "batch": state.batch and _batch(state.batch),
        "degraded": state.degraded and {**state.degraded, "since": iso(state.degraded["since"])},
        "agreement": agreement(state.verdicts).to_json(),
        "running": [{"run": run.name, "causes": list(run.causes)} for run in state.running],
        "versions": [{"version": data["version"], "digest": digest} for digest, data in state.versions.items()],
    }


def _batch(batch: Json) -> dict[str, Any]:
    return {"run": batch["run"], "version": batch["version"], "at": iso(batch["time"]), "ok": batch["ok"]}


def release_summary(release: dict[str, Any] | Any) -> dict[str, Any]:
    """The parts of a release that people ask for first."""
    return {
        "name": release["name"],
        "state": release["state"],
        "stage": release["stage"],
        "weight": release["weight"],
        "champion": release["champion"]["name"],
        "challengers": [challenger["name"] for challenger in release["challengers"]],
        "opened": iso(release["opened"]),
        "reason": release["reason"],
    }


def status_text(document: dict[str, Any]) -> str:
    """`status` for the terminal: one paragraph a model."""
    return "\n".join(_paragraph(model) for model in document["models"]) or "no models yet"


def _paragraph(model: dict[str, Any]) -> str:
    champion, release = model["champion"], model["release"]
    serving = f"serves {champion['version']} since {champion['since']}" if champion else "has no champion yet"
    lines = [f"{model['model']} at {model['time']}: {serving}"]
    if release:
        challengers = ", ".join(release["challengers"])
        lines.append(f"  release {release['name']}: {challengers} against {release['champion']}, {release['state']}")
    if model["waiting"]:
        lines.append(f"  waiting: {', '.join(model['waiting'])}")
    if model.get("degraded"):
        lines.append(f"  {model['degraded']['version']}: {REASONS[model['degraded']['reason']]}")
    answers = model.get("agreement", {})
    if answers.get("agreed") or answers.get("disagreed"):
        lines.append(f"  gate: {answers['sentence']}")
    lines += [f"  run {run['run']}: {', '.join(run['causes'])}" for run in model["running"]]
    if spent := model.get("cost", {}).get("runs"):
        lines.append(f"  cost: {len(spent)} run{'s'[: len(spent) > 1]}, {cost.line(model['cost']['total'])}")
    return "\n".join(lines)


_QUIET = ("release.looked",)


def log(state: Path, kind: str | None, everything: bool) -> Iterator[tuple[dict[str, Any], str]]:
    """Each event as its whole document and as one line; looks and waits that changed nothing only on request."""
    journal = open_journal(state)
    for name in journal.models():
        for event in journal.read(name):
            if (kind is None or event.kind.startswith(kind)) and (everything or not is_quiet(event)):
                yield {**event.__dict__, "time": iso(event.time), "wall": iso(event.wall)}, line(event)


def is_quiet(event: Event) -> bool:
    """Whether the event records a look or an evaluation that changed nothing."""
    if event.kind == "trigger.evaluated":
        return bool(event.data["decision"]["decision"] == "wait")
    return event.kind in _QUIET


def line(event: Event) -> str:
    """One event as a line for people."""
    return f"{event.seq:5d}  {iso(event.time)}  {event.model}  {event.kind:20s} {tell(event)}".rstrip()


def tell(event: Event) -> str:
    """What an event says, in one line."""
    data = event.data
    if event.kind == "trigger.evaluated":
        return f"{data['decision']['decision']}: {data['decision']['reason']}"
    if event.kind in ("trigger.started", "trigger.finished"):
        ended = "" if event.kind == "trigger.started" else (" ok" if data["ok"] else f" failed: {data['error']}")
        return f"{data['run']}{ended} {', '.join(data.get('causes', ()))}"
    if event.kind == "serve.batch_started":
        return f"{data['run']} by {data['version']}, due {data['cause']['due']}"
    if event.kind == "serve.batch_finished":
        told = f"ok, {data['result']['rows']} rows" if data["ok"] else f"failed: {data['error']}"
        return f"{data['run']} {told}"
    if event.kind == "serve.traffic":
        return traffic(data)
    if event.kind.startswith("monitor.alert"):
        return data["alert"]["annotations"]["summary"] if "alert" in data else f"sent: {', '.join(data['keys'])}"
    if "judgement" in data:
        return f"{data['release']['name']} {data['release']['state']}: {data['judgement']['sentence']}"
    if event.kind == "release.opened":
        release = data["release"]
        challengers = ", ".join(challenger["name"] for challenger in release["challengers"])
        return f"{release['name']}: {challengers} against {release['champion']['name']}"
    if event.kind == "release.command":
        order = data["command"]
        by = f"{order['command']} by {order['by']}" if order.get("by") else str(order["command"])
        return f"{by}: {order['reason']}" if order.get("reason") else by
    reason = data["gate"]["reason"] if "gate" in data else data.get("reason", "")
    known = GATE_REASONS if event.kind.startswith(("register", "evaluate", "validate")) else REASONS
    return ": ".join(part for part in (data.get("version", ""), known.get(reason, reason)) if part)


def traffic(data: Json) -> str:
    """How traffic goes: the split, those of regions, and what else goes on."""
    regions = (data.get("regions") or {"splits": ()})["splits"]
    parts = [_shares(data["split"]), *(f"{region}: {_shares(split)}" for region, split in regions)]
    told = "; ".join(parts) + (", by cookie" if data.get("sticky") else "")
    told += f", /rank merged of {', '.join(data['merge'])}" if data.get("merge") else ""
    return told + (f", mirrored to {', '.join(data['mirrors'])}" if data["mirrors"] else "")


def _shares(split: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{version} {share * 100:g}%" for version, share in split)
