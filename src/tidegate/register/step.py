"""The register step: a model that passed its gate becomes a candidate; a run that was refused is journaled.

Order: files stored and signed, the profile of their data beside them, then the journal's event by compare-and-swap,
then MLflow. The event is what makes the candidate; everything before it is harmless without it, everything after it is
made up for by the next try.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.errors import Conflict
from tidegate.journal.store import Journal, open_journal
from tidegate.register import registry
from tidegate.register.cards import store_card
from tidegate.register.commit import code_version
from tidegate.register.cost import costs_of
from tidegate.register.decide import Facts, Outcome, decide
from tidegate.register.models import store_model, store_profile
from tidegate.scratch import report_without_rows, scratch_of
from tidegate.train.model_file import canonical_json
from tidegate.train.settings import parse_until

logger = logging.getLogger(__name__)

ATTEMPTS = 200


@dataclass(frozen=True)
class Registered:
    """What became of the run: `outcome` is candidate, unchanged or refused; `version` is empty when refused."""

    outcome: str
    version: str
    digest: str
    reason: str


def register(
    inputs: Mapping[str, Path], out: Path, state: Path, name: str, until: str, run: str, cause: str
) -> Registered:
    """Journal how run `run` of model `name` ended, and write candidate.json to `out`.

    `inputs`: valid, data_version, model, gate (markers where a gate refused before). Idempotent: by run, and a digest
    that is a candidate already is not registered again. Raises PlatformError when a model file is not right.
    """
    facts = _facts(inputs, state, parse_until(until), run, cause)
    passed = bool(facts.report["ok"]) and facts.gate.get("verdict") == "passed"
    folder = store_model(inputs["model"], facts.training["digest"], state) if passed else None
    if passed and facts.retained:
        store_profile(inputs["valid"] / "profile.json", facts.training["digest"], state)
    journal = open_journal(state, create=True)
    try:
        outcome = _settle(journal, name, facts)
    finally:
        journal.close()
    if outcome.kind == "register.unchanged":  # nothing new to tell: nothing heavy is imported
        return _write(out, outcome, None)
    kept = folder if outcome.kind == "register.candidate" else None
    shown = store_card(name, facts.gate, facts.training, state) if facts.report["ok"] else None
    return _write(out, outcome, _mirrored(state, name, outcome, kept, shown))


def _mirrored(state: Path, name: str, outcome: Outcome, folder: Path | None, card: Path | None) -> str | None:
    """The MLflow run that tells of it; None, and why in the run's log, where MLflow failed: it never stops the loop."""
    try:
        return registry.mirror(state, name, outcome.kind, outcome.data, folder, card)
    except Exception:
        logger.exception("MLflow was not told of run %s; the journal has it", outcome.data["run"])
        return None


def _settle(journal: Journal, name: str, facts: Facts) -> Outcome:
    """Decide on the newest events and append; decide again when another writer came first."""
    for _ in range(ATTEMPTS):
        events = journal.read(name)
        outcome = decide(events, facts)
        if outcome.draft is None:
            return outcome
        try:
            journal.append(name, [outcome.draft], events[-1].seq if events else 0)
        except Conflict:
            continue
        return outcome
    raise Conflict(f"journal of {name}: lost {ATTEMPTS} times in a row")


def _facts(inputs: Mapping[str, Path], state: Path, time: float, run: str, cause: str) -> Facts:
    from tidegate.steps import read_records

    report, retained = _json(inputs["valid"] / "report.json"), scratch_of(state, run) is None
    data_version = _json(inputs["data_version"]).get("version", "") if report["ok"] else ""
    training = _json(inputs["model"] / "training.json") if report["ok"] else {}
    records = read_records(state, run)
    service = next((record.result.get("feature_service") for record in records if record.step == "features"), None)
    gate, code = _json(inputs["gate"]), code_version(Path.cwd())
    report = report if retained else report_without_rows(report)
    return Facts(run, cause, time, data_version, report, gate, training, costs_of(records), code, service, retained)


def _write(out: Path, outcome: Outcome, mlflow_run: str | None) -> Registered:
    word = {"register.candidate": "candidate", "register.unchanged": "unchanged"}.get(outcome.kind, "refused")
    data = outcome.data
    same = ("version", "digest", "parent", "mode", "mode_reason", "data_version", "run", "cause", "reason", "gate")
    record = {"outcome": word, **{key: data.get(key) for key in same}, "mlflow_run_id": mlflow_run}
    out.write_text(canonical_json(record), encoding="utf-8")
    return Registered(word, data.get("version") or "", data.get("digest") or "", data["reason"])


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
