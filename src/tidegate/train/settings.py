"""What one continuous-training run is told, as one JSON text: a parameter of the compiled pipeline."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, ValidationError

from tidegate.ingest.arrivals import parse_until as parse_time
from tidegate.spec import GateSpec, Span, Strict, TrainingSpec, describe
from tidegate.train.lineage import Parent


class ParentFacts(Strict):
    """The champion as the journal tells it; see `tidegate.train.lineage.Parent`."""

    version: str
    digest: str
    feature_schema_digest: str
    architecture_digest: str
    train_until: float
    healthy: bool = True
    train_cpu_seconds: float | None = None
    """What its training took, where it was recorded; for the gate's objective training_cost."""


class RunSettings(Strict):
    training: TrainingSpec = TrainingSpec()
    gate: GateSpec = GateSpec()
    label_deadline: Span = timedelta(hours=24)
    """How long a label may take; the gap between train, validation and gate window."""
    gate_window: Span = timedelta(days=14)
    """The newest matured rows, kept from training: the model gate compares on them."""
    seed: int = Field(7, ge=0)
    """Of every random choice in training; recorded with the model version."""
    parent: ParentFacts | None = None
    recent: Span | None = None
    """After concept drift and in an announced event: only this newest span is trained on, from scratch; none: all."""

    @property
    def lineage_parent(self) -> Parent | None:
        """The parent as the version rules take it."""
        return Parent(**self.parent.model_dump(exclude={"train_cpu_seconds"})) if self.parent else None

    def text(self) -> str:
        """The JSON text that `parse_settings` reads."""
        return self.model_dump_json(by_alias=True)


def parse_settings(text: str) -> RunSettings:
    """Settings from their JSON text; UserError names the field that is wrong."""
    try:
        return RunSettings.model_validate_json(text)
    except ValidationError as error:
        raise describe(error, "settings") from None


def parse_until(text: str) -> float:
    """ISO 8601 time -> seconds since the epoch, read as `tidegate.ingest.arrivals.parse_until` reads it."""
    return parse_time(text).timestamp()
