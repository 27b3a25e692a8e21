"""What a person orders from outside the loop: commands on a release, written to the journal like any decision.

The controller reads them at its next turn; whether one runs does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tidegate.controller.reconcile import Ledger, command
from tidegate.errors import Conflict, Refused, UserError
from tidegate.journal import views
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.store import Journal, open_journal
from tidegate.release.stages import ENDED

Json = Mapping[str, Any]


def releases(folder: Path) -> list[dict[str, Any]]:
    """Every release of every model, oldest first, as it stands or ended."""
    journal, found = open_journal(folder), {}
    for model in journal.models():
        for event in journal.read(model):
            if "release" in event.data and isinstance(event.data["release"], dict):
                found[event.data["release"]["name"]] = views.release_summary(event.data["release"])
    return list(found.values())


def show(folder: Path, name: str) -> dict[str, Any]:
    """One release with its last judgement; UserError when there is none of that name."""
    journal = open_journal(folder)
    found: dict[str, Any] = {}
    for model in journal.models():
        for event in journal.read(model):
            release = event.data.get("release")
            if isinstance(release, dict) and release["name"] == name:
                found = {**found, "release": release}
                if "judgement" in event.data:
                    found["judgement"] = event.data["judgement"]
    if not found:
        raise UserError("release", name, "the name of a release; see `tidegate release list`")
    return found


def order(folder: Path, name: str, words: Json, model: str = "") -> dict[str, Any]:
    """Carry out a command on the open release `name`; Refused when its state does not take it.

    model: whose release it is, where the journal has several; empty: the only one.
    """

    def write(ledger: Ledger, now: float) -> None:
        release = ledger.state.release
        if release is None or release["name"] != name:
            raise UserError("release", name, f"the open release, {release['name'] if release else 'none'}")
        command(ledger, words, now)
        for action in ledger.drafts[-1].data["actions"]:
            if action["action"] == "Refuse":
                raise Refused(action["why"])

    return _append(folder, write, model)


def start(folder: Path, version: str, by: str, reason: str) -> dict[str, Any]:
    """Let a registered version wait for a release (again); Refused when its digest is in quarantine."""

    def write(ledger: Ledger, now: float) -> None:
        digest = _digest(ledger.state, version)
        if digest in ledger.state.quarantined:
            raise Refused(f"{version} is in quarantine ({ledger.state.quarantined[digest]}); unquarantine it first")
        if serving := _place_of(ledger.state, digest):
            raise Refused(f"{version} {serving}")
        if digest not in ledger.state.waiting:
            ledger.write("release.requested", now, {"digest": digest, "version": version, "by": by, "reason": reason})

    return _append(folder, write)


def unquarantine(folder: Path, digest: str, by: str, reason: str) -> dict[str, Any]:
    """Let an aborted digest be released again; UserError when it is not in quarantine."""

    def write(ledger: Ledger, now: float) -> None:
        if digest not in ledger.state.quarantined:
            known = ", ".join(sorted(ledger.state.quarantined)) or "none"
            raise UserError("digest", digest, f"one in quarantine: {known}")
        ledger.write("release.unquarantined", now, {"digest": digest, "by": by, "reason": reason})

    return _append(folder, write)


def _digest(state: ModelState, version: str) -> str:
    for digest, data in state.versions.items():
        if version in (data["version"], digest):
            return digest
    raise UserError("version", version, f"one of {', '.join(d['version'] for d in state.versions.values()) or 'none'}")


def _place_of(state: ModelState, digest: str) -> str:
    """Where a version is already that asks to be released; empty when it may be."""
    release = state.release
    if state.champion is not None and state.champion.digest == digest:
        return "is the champion already"
    if release and release["state"] not in ENDED and digest in [c["digest"] for c in release["challengers"]]:
        return f"is in release {release['name']} already"
    return ""


def _append(folder: Path, write: Callable[[Ledger, float], None], model: str = "") -> dict[str, Any]:
    journal = open_journal(folder)
    model = model or _only_model(journal)
    while True:
        state = fold(journal.read(model), ModelState(model=model))
        ledger = Ledger(state, model)
        write(ledger, state.time)
        try:
            journal.append(model, ledger.drafts, state.seq)
        except Conflict:
            continue
        return views.describe(ledger.state)


def _only_model(journal: Journal) -> str:
    models = journal.models()
    if len(models) != 1:
        raise UserError("--state", f"{len(models)} models in it", "a state folder with one model")
    return models[0]
