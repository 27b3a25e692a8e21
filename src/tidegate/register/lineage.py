"""Where a model version comes from and what came of it, from the journal's events alone. Pure.

Forward: a run with its causes, code, parameters, data version and features, and the parents before it. Back: the
versions trained on from it or on the same data, the times it was champion, its releases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tidegate.errors import UserError
from tidegate.journal.events import Event
from tidegate.journal.fold import ModelState, fold

Json = dict[str, Any]


def find_version(histories: Mapping[str, Sequence[Event]], asked: str) -> tuple[str, str] | None:
    """(model, digest) of a version, named ``v2``, ``MODEL@v2`` or by the beginning of its digest; None: no such one.

    UserError when several models have it.
    """
    model, _, name = asked.rpartition("@")
    found = [
        (known, digest)
        for known, events in histories.items()
        for digest, data in fold(events).versions.items()
        if (not model or known == model) and (name == data["version"] or _begins(digest, name))
    ]
    if len(found) > 1:
        takes = " or ".join(f"{known}@{name}" for known, _ in found)
        raise UserError("version", asked, f"one of several: {takes}")
    return found[0] if found else None


def _begins(digest: str, text: str) -> bool:
    """Whether `text` are at least eight hex digits that `digest` begins with; a request id seldom looks so."""
    return len(text.removeprefix("sha256:")) >= 8 and digest.removeprefix("sha256:").startswith(
        text.removeprefix("sha256:")
    )


def lineage(events: Sequence[Event], digest: str) -> Json:
    """The document of one version; `events` are its model's."""
    state = fold(events)
    data = state.versions[digest]
    names = ("version", "mode", "mode_reason", "params", "seeds", "rows", "train_rows", "data_version")
    digests = ("digest", "feature_schema_digest", "architecture_digest")
    return {
        "model": state.model,
        **{name: data.get(name) for name in (*names, *digests, "feature_service", "metrics", "cost")},
        "code": data.get("code") or None,
        "retained": data.get("retained", True),
        "registered": data["time"],
        "run": _run(events, data),
        "gate": {"verdict": data["gate"]["verdict"], "reason": data["gate"]["reason"]},
        "parents": list(_parents(state, data)),
        "children": [one["version"] for one in state.versions.values() if one.get("parent") == data["version"]],
        "same_data": [
            one["version"]
            for other, one in state.versions.items()
            if other != digest and one.get("data_version") == data.get("data_version")
        ],
        "champion": list(_served(state, digest)),
        "releases": list(_releases(events, digest)),
        "quarantined": state.quarantined.get(digest),
    }


def _run(events: Sequence[Event], data: Mapping[str, Any]) -> Json:
    started = next((e for e in events if e.kind == "trigger.started" and e.data["run"] == data["run"]), None)
    return {
        "run": data["run"],
        "cause": data.get("cause"),
        "by": started and started.data["by"],
        "until": started and started.data["arguments"].get("until"),
        "workload": started and started.data["arguments"].get("workload"),
    }


def _parents(state: ModelState, data: Mapping[str, Any]) -> Iterator[Json]:
    """The version that it was trained on from, then that one's, up to a major; names are unique in a model."""
    named = {one["version"]: (digest, one) for digest, one in state.versions.items()}
    while (parent := data.get("parent")) in named:
        digest, data = named[parent]
        yield {"version": parent, "digest": digest, "run": data["run"], "data_version": data.get("data_version")}


def _served(state: ModelState, digest: str) -> Iterator[Json]:
    """When it was champion, in seconds; `until` None: it is."""
    ends = [served.since for served in state.history[1:]]
    for served, until in zip(state.history, [*ends, None], strict=False):
        if served.digest == digest:
            yield {"since": served.since, "until": until}


def _releases(events: Sequence[Event], digest: str) -> Iterator[Json]:
    """Its releases in order, each as the journal last tells it."""
    last: dict[str, Mapping[str, Any]] = {}
    for event in events:
        if isinstance(release := event.data.get("release"), Mapping):
            last[release["name"]] = release
    for name, release in last.items():
        if digest in [challenger["digest"] for challenger in release["challengers"]]:
            told = {key: release[key] for key in ("state", "reason", "opened")}
            yield {"release": name, "against": release["champion"]["name"], **told}
