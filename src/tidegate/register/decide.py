"""What a finished run means for the journal. Pure: events and facts in, at most one new event out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.journal.events import Draft, Event
from tidegate.journal.fold import fold
from tidegate.train.lineage import next_version

ENDS = ("register.candidate", "register.unchanged", "register.refused", "evaluate.refused", "validate.refused")
"""Kinds by which a run's last step says what came of it; a run leaves at most one."""


@dataclass(frozen=True)
class Facts:
    """A run that has ended. `gate` is gate.json, `training` training.json; both empty when the data gate refused.

    `cost`: by step. `code`: the commit that ran. `feature_service`: in the Feast repo; None where nothing recorded it.
    `retained`: whether the rows outlive the run.
    """

    run: str
    cause: str
    time: float
    data_version: str
    report: Mapping[str, Any]
    gate: Mapping[str, Any]
    training: Mapping[str, Any]
    cost: Mapping[str, Any]
    code: Mapping[str, Any] = field(default_factory=dict)
    feature_service: str | None = None
    retained: bool = True


@dataclass(frozen=True)
class Outcome:
    """The event's kind and data; `draft` is None when the journal has the event already."""

    kind: str
    data: Mapping[str, Any]
    draft: Draft | None = None


def decide(events: Sequence[Event], facts: Facts) -> Outcome:
    """The outcome of a run; without a draft when the journal tells it already (a retried step)."""
    for event in events:
        if event.kind in ENDS and event.data["run"] == facts.run:
            return Outcome(event.kind, event.data)
    state = fold(events)
    if not facts.report["ok"]:
        return _drafted("validate.refused", facts, {"reason": "data_refused", "report": facts.report})
    digest = facts.training["digest"]
    tried = {
        "digest": digest,
        "rows": facts.training["rows"],
        "data_version": facts.data_version,
        "gate": facts.gate,
        "training": facts.training,
    }
    if facts.gate["verdict"] != "passed":
        return _drafted("evaluate.refused", facts, {"reason": facts.gate["reason"], **tried})
    if digest in state.quarantined:
        return _drafted("register.refused", facts, {"reason": "quarantined", **tried})
    if digest in state.versions:
        same = {"version": state.versions[digest]["version"], "digest": digest, "rows": facts.training["rows"]}
        return _drafted("register.unchanged", facts, {"reason": "unchanged", **same})
    taken = [version["version"] for version in state.versions.values()]
    return _drafted("register.candidate", facts, _candidate(facts, next_version(taken, facts.training["parent"])))


def _drafted(kind: str, facts: Facts, data: Mapping[str, Any]) -> Outcome:
    full = {"run": facts.run, "cause": facts.cause, "cost": facts.cost, "code": facts.code, **data}
    return Outcome(kind, full, Draft(kind, facts.time, full))


def _candidate(facts: Facts, version: str) -> dict[str, Any]:
    training = facts.training
    same = ("digest", "parent", "mode", "rows", "train_rows", "train_from", "train_until", "metrics", "params", "seeds")
    digests = ("feature_schema_digest", "architecture_digest")
    return {
        "version": version,
        **{name: training[name] for name in (*same, *digests)},
        "reason": facts.gate["reason"],
        "mode_reason": training["reason"],
        "lineage": training["lineage"],
        "search": training["search"],
        "choice": training.get("choice"),
        "data_version": facts.data_version,
        "feature_service": facts.feature_service,
        "retained": facts.retained,
        **({} if facts.retained else {"kept": training["kept"]}),
        "gate": facts.gate,
    }
