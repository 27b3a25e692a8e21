"""What a journal says of a model, as the cluster's objects show it: status of the Model, its Releases, its Events.

Pure. Nothing here changes while nothing happens, so that an idle model costs no write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from tidegate.controller.loop import challenges
from tidegate.journal.events import Event
from tidegate.journal.fold import ModelState
from tidegate.journal.views import is_quiet, tell, traffic
from tidegate.monitor.times import iso
from tidegate.reasons import REASONS
from tidegate.release.stages import ENDED
from tidegate.spec import Model, format_share

Json = dict[str, Any]
Told = Mapping[str, Json]
"""By release: ``release``, and where they were told ``judgement``, ``evidence`` and ``ended``."""

GROUP = "tidegate.dev/v1alpha1"


def follow(told: Told, events: Iterable[Event]) -> dict[str, Json]:
    """What is known of each release after these events."""
    found = dict(told)
    for event in events:
        release = event.data.get("release")
        if not isinstance(release, dict):
            continue
        before = found.get(release["name"], {})
        more = {key: event.data[key] for key in ("judgement", "evidence") if key in event.data}
        ended = {"ended": event.time} if release["state"] in ENDED and "ended" not in before else {}
        found[release["name"]] = {**before, "release": release, **more, **ended}
    return found


def model_status(
    model: Model | None, state: ModelState, generation: int, before: Json, now: str, fault: str = "", trouble: str = ""
) -> Json:
    """The status of a Model object; `before` is the one that it has.

    fault: why its settings cannot be carried out. trouble: what keeps the controller from its work.
    """
    champion, open_ = state.champion, _open_release(state)
    runs = [run.name for run in state.running if not run.settled]
    found = {
        "observedGeneration": generation,
        "champion": champion and {**_reference(champion), "since": iso(champion.since)},
        "traffic": state.traffic and _traffic(state.traffic),
        "release": open_,
        "runs": runs,
        "lastTrigger": _last_trigger(state),
        "nextSchedule": _next_schedule(model, state),
        "waiting": [state.versions[digest]["version"] for digest in state.waiting],
        "quarantined": [
            {"version": state.versions[digest]["version"], "digest": digest, "reason": reason}
            for digest, reason in state.quarantined.items()
            if digest in state.versions
        ],
        "conditions": conditions(_of_model(state, runs, open_, fault, trouble), generation, before, now),
    }
    return {key: value for key, value in found.items() if value is not None}


def release_object(namespace: str, owner: Json, release: Json) -> Json:
    """The Release object of a release; it is never changed."""
    model = release["model"]
    labels = {"tidegate.dev/model": model, "app.kubernetes.io/managed-by": "tidegate"}
    spec = {
        "model": model,
        "champion": {"version": release["champion"]["name"], "digest": release["champion"]["digest"]},
        "challengers": [{"version": one["name"], "digest": one["digest"]} for one in release["challengers"]],
        "opened": iso(release["opened"]),
        "settings": _without_none(release["spec"]),
    }
    metadata = {
        "name": release["name"],
        "namespace": namespace,
        "labels": {**labels, "tidegate.dev/release": release["name"]},
        "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
    }
    return {"apiVersion": GROUP, "kind": "Release", "metadata": metadata, "spec": spec}


def release_status(told: Json, state: ModelState, before: Json, now: str) -> Json:
    """The status of a Release object; `before` is the one that it has."""
    release, judgement = told["release"], told.get("judgement") or {}
    found = {
        "observedGeneration": 1,
        "stage": release["state"],
        "weight": format_share(release["weight"]),
        "weights": _weights(release, state),
        "verdict": _verdict(release, judgement),
        "reason": release["reason"],
        "message": release["sentence"] or REASONS.get(release["reason"], ""),
        "by": release["by"],
        "paused": release["paused"],
        "entered": iso(release["entered"]),
        "ended": iso(told["ended"]) if "ended" in told else None,
        "evidence": _evidence(told.get("evidence"), judgement.get("place", "")),
        "checks": [_check(name, check) for name, check in judgement.get("checks", {}).items()],
        "left": list(release.get("left", ())),
        "conditions": conditions(_of_release(release, judgement), 1, before, now),
    }
    return {key: value for key, value in found.items() if value is not None}


def kubernetes_event(event: Event, involved: Json) -> Json | None:
    """A journal's event on the Model object; None for one that only looked. Its name is its place in the journal."""
    if is_quiet(event):
        return None
    at = datetime.fromtimestamp(event.wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    wrong = event.kind in ("release.aborted", "release.rolled_back", "release.degraded", "monitor.alert")
    failed = event.kind == "trigger.finished" and not event.data["ok"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{event.model}.{event.seq:08d}", "namespace": involved["namespace"]},
        "involvedObject": involved,
        "reason": "".join(word.capitalize() for word in event.kind.replace("_", ".").split(".")),
        "message": tell(event)[:1024],
        "type": "Warning" if wrong or failed else "Normal",
        "source": {"component": "tidegate-operator"},
        "reportingComponent": "tidegate.dev/operator",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


def conditions(wanted: Mapping[str, tuple[bool, str, str]], generation: int, before: Json, now: str) -> list[Json]:
    """Conditions by type from (whether, reason, message); a time stays while whether it is so stays."""
    known = {one["type"]: one for one in before.get("conditions", ())}
    found = []
    for kind, (holds, reason, message) in wanted.items():
        status = "True" if holds else "False"
        same = known.get(kind, {}).get("status") == status
        since = known[kind]["lastTransitionTime"] if same else now
        told = {"type": kind, "status": status, "reason": reason, "message": message}
        found.append({**told, "lastTransitionTime": since, "observedGeneration": generation})
    return found


def _of_model(
    state: ModelState, runs: list[str], open_: str | None, fault: str, trouble: str
) -> dict[str, tuple[bool, str, str]]:
    champion, busy = state.champion, [*([open_] if open_ else []), *runs]
    degraded = REASONS[state.degraded["reason"]] if state.degraded else ""
    return {
        "Accepted": (not fault, "Accepted" if not fault else "Refused", fault or "the settings can be carried out"),
        "Ready": (
            champion is not None,
            "Serves" if champion else "NoVersion",
            f"{champion.version} serves" if champion else "no version serves yet",
        ),
        "Progressing": (bool(busy), "AtWork" if busy else "Idle", ", ".join(busy) or "no release and no run"),
        "Degraded": (
            bool(trouble or degraded),
            "Trouble" if trouble else "Worse" if degraded else "AsWanted",
            trouble[:1000] or degraded or "nothing is known to be wrong",
        ),
    }


def _of_release(release: Json, judgement: Json) -> dict[str, tuple[bool, str, str]]:
    open_, promoted = release["state"] not in ENDED, release["state"] in ("watch", "promoted")
    worse = [name for name, check in judgement.get("checks", {}).items() if check["lower"] > (check["margin"] or 0.0)]
    healthy = not release["latched"] and not worse and release["state"] not in ("aborted", "rolled_back")
    wrong = "the split is not the one that was asked for" if release["latched"] else ", ".join(worse) or "proved worse"
    why = release["sentence"] or REASONS.get(release["reason"], "")
    word = "".join(part.capitalize() for part in (release["reason"] or release["state"]).split("_"))
    return {
        "Progressing": (open_, word, why),
        "Promoted": (promoted, word, why),
        "Healthy": (healthy, "NotWorse" if healthy else "Worse", "no check is proved worse" if healthy else wrong),
    }


def _open_release(state: ModelState) -> str | None:
    release = state.release
    return release["name"] if release and release["state"] not in ENDED else None


def _reference(version: Any) -> Json:
    return {"version": version.version, "digest": version.digest}


def _traffic(data: Any) -> Json:
    split = [{"version": version, "share": format_share(share)} for version, share in data["split"]]
    return {"summary": traffic(data), "split": split, "mirrors": list(data["mirrors"])}


def _last_trigger(state: ModelState) -> Json | None:
    started = [run for run in state.runs.values() if run.arguments is not None]
    if not started:
        return None
    run = max(started, key=lambda one: one.time)
    return {"time": iso(run.time), "causes": list(run.causes), "run": run.name}


def _next_schedule(model: Model | None, state: ModelState) -> str | None:
    from tidegate.trigger.calendar import first_after

    schedule, tick = model.spec.triggers.schedule if model else None, (state.trigger or {}).get("last_tick")
    if schedule is None or tick is None:
        return None
    return iso(first_after(schedule.cron, float(tick), "triggers.schedule.cron"))


def _weights(release: Json, state: ModelState) -> list[Json]:
    """The challengers' shares of the answers, as traffic goes."""
    names = [one["name"] for one in release["challengers"]]
    split = (state.traffic or {}).get("split", ()) if any(challenges(state, name) for name in names) else ()
    return [{"version": version, "share": format_share(share)} for version, share in split if version in names]


def _verdict(release: Json, judgement: Json) -> str:
    if release["state"] in ("watch", "promoted"):
        return "promote"
    if release["state"] in ("aborted", "rolled_back"):
        return "abort"
    return str(judgement.get("verdict", "hold"))


def _evidence(evidence: Json | None, place: str) -> Json | None:
    if not evidence:
        return None
    counts = [of["counts"] for name, of in evidence["places"].items() if name.partition("@")[0] == place]
    if not counts:
        return None
    names = ("requests", "matured", "champion", "challenger", "missing", "late")
    found: Json = {name: sum(one[name] for one in counts) for name in names}
    mark = evidence["watermark"]
    return {**found, "watermark": iso(mark)} if mark is not None else found


def _check(name: str, check: Json) -> Json:
    found = {"name": name, "rows": check["n"], **{key: check[key] for key in ("estimate", "lower", "upper", "margin")}}
    found["blocks"] = check.get("blocks")
    return {key: value for key, value in found.items() if value is not None}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return [_without_none(one) for one in value] if isinstance(value, list) else value
