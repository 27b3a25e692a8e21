"""The arguments of one continuous-training run, from the Model file and what the journal tells. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tidegate.journal.fold import ModelState
from tidegate.spec import Model
from tidegate.train.settings import ParentFacts, RunSettings, format_until


def arguments(
    model: Model,
    state: ModelState,
    until: float,
    cause: str,
    mode: Literal["auto", "stateless", "stateful"] | None = None,
) -> dict[str, str]:
    """Arguments for `Orchestrator.submit`, without ``state`` and ``run``, which the orchestrator fills in.

    `until`: event time up to which rows are seen, seconds. `mode` stands before the Model file's.
    """
    training = model.spec.training if mode is None else model.spec.training.model_copy(update={"mode": mode})
    parent = _parent(state)
    settings = RunSettings(
        training=training, gate=model.spec.gate, label_deadline=model.spec.release.label_deadline, parent=parent
    )
    return {
        "workload": model.spec.workload,
        "model": model.name,
        "until": format_until(until),
        "cause": cause,
        "settings": settings.text(),
        "champion": parent.digest if parent else "",
    }


def _parent(state: ModelState) -> ParentFacts | None:
    """The champion as a parent; None before the first version, or where its candidate event is not in the journal."""
    champion = state.champion
    known: Mapping[str, Any] | None = state.versions.get(champion.digest) if champion else None
    if champion is None or known is None:
        return None
    return ParentFacts(
        version=champion.version,
        digest=champion.digest,
        feature_schema_digest=known["feature_schema_digest"],
        architecture_digest=known["architecture_digest"],
        train_until=known["train_until"],
        healthy=champion.digest not in state.quarantined,
    )
