"""The Model file: the only settings of the platform.

One file, ``k8s/models/<name>.yaml``, is the argument of ``tidegate up`` on a laptop and a custom resource on
Kubernetes. It is validated here in both places. Every field has one type: a share is a string with ``%``, a time
span a string with its unit (``50ms``, ``30s``, ``10m``, ``24h``, ``7d``), everything else a plain number or string.
"""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from tidegate.errors import UserError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_share(value: object) -> object:
    """``"0.5%"`` -> 0.005, a fraction of 1; raises ValueError on anything else."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*%\s*", value)):
        return float(found.group(1)) / 100
    if isinstance(value, Fraction):
        return float(value)
    raise ValueError("a share with %, for example 0.5%")


def parse_span(value: object) -> object:
    """``"24h"`` -> timedelta; raises ValueError on anything else."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", value)):
        return timedelta(seconds=float(found.group(1)) * _UNITS[found.group(2)])
    raise ValueError("a time span with its unit (ms, s, m, h, d), for example 24h")


def format_share(share: float) -> str:
    """0.005 -> ``"0.5%"``; the inverse of `parse_share`."""
    return f"{share * 100:.10g}%"


def format_span(span: timedelta) -> str:
    """Timedelta -> the shortest whole spelling; the inverse of `parse_span`."""
    seconds = span.total_seconds()
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds * 1000:.10g}ms"


Share = Annotated[float, BeforeValidator(parse_share), PlainSerializer(format_share)]
Span = Annotated[timedelta, BeforeValidator(parse_span), PlainSerializer(format_span)]


class Strict(BaseModel):
    """A frozen part of the Model file; unknown fields are refused by name."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )


class PipelineSpec(Strict):
    package: str = "pipelines/continuous_training.yaml"
    """Compiled KFP package: a path in the repository and, the same file, in the component image."""
    orchestrator: Literal["auto", "local", "job", "kubeflow"] = "auto"
    """auto: local on a laptop, job on a cluster."""
    image: str | None = None
    """Component image of runs by digest, set by deploy; none: TIDEGATE_IMAGE, or on Kubeflow the package's own."""


class TrainingSpec(Strict):
    mode: Literal["auto", "stateless", "stateful"] = "auto"
    """auto: stateful where the version rules allow it and it pays, else stateless, with the reason journaled."""
    engine: Literal["local", "dask"] = "local"
    """dask: LightGBM is fitted from scratch on the cluster whose scheduler DASK_SCHEDULER_ADDRESS names."""
    search_trials: int = Field(0, ge=0)
    """Trials of a stateless run, shared out among its families, and of a stateful one; 0 compares defaults only."""
    families: tuple[str, ...] = ()
    """lightgbm, hist_gradient_boosting, logistic_regression, the best one wins; empty takes the workload's own list."""
    retain: bool = True
    """False: rows live for one run only and are then deleted; `replay` must be 0."""
    replay: float = Field(0.2, ge=0, le=1)
    """Share of earlier rows mixed into a stateful run, against forgetting."""
    max_depth: int = Field(10, ge=1)
    """Longest lineage of minors; past it a stateless retraining is forced."""


class EventRelease(Strict):
    """What differs from `release` while the event lasts; none: the same as there."""

    min_duration: Span | None = None
    block: Span | None = None
    watch: Span | None = None
    stages: tuple[Stage, ...] | None = None
    label_deadline: Span | None = None


class CalendarEvent(Strict):
    name: str
    from_: str = Field(alias="from")
    to: str
    cron: str
    release: EventRelease | None = None
    """Settings of its own for releases that open while it lasts; what they promoted serves until it ends."""
    gate_window: Span | None = None
    """Beside `release`: runs that start while it lasts are trained on its rows alone, and the model gate looks at this
    newest span of them."""


class ScheduleTrigger(Strict):
    cron: str
    """Five fields, in UTC, read on the event clock."""
    events: tuple[CalendarEvent, ...] = ()
    """Rare events that bring a denser cadence while they last."""


class VolumeTrigger(Strict):
    increase: Share
    """Rows matured since the last successful run, as a share of the rows which that run used."""


class PerformanceTrigger(Strict):
    metric: Literal["roc_auc", "log_loss", "brier"]
    below: float
    """The limit; for roc_auc lower is worse, for log_loss and brier higher is worse."""
    window: Span
    min_labels: int = Field(2000, ge=1)


class DriftTrigger(Strict):
    window: Span
    """Whole days; days are clusters, so a single day is not assessable."""
    recent: Span = timedelta(days=28)
    """After concept drift: a run is trained from scratch, on the rows of this newest span only."""
    min_labels: int = Field(1000, ge=1)
    """After a domain shift: a run starts when so many rows of the new region have their labels."""


class TriggerBudget(Strict):
    runs_per_day: int = Field(24, ge=1)


class TriggersSpec(Strict):
    schedule: ScheduleTrigger | None = None
    volume: VolumeTrigger | None = None
    performance: PerformanceTrigger | None = None
    drift: DriftTrigger | None = None
    cooldown: Span = timedelta(hours=1)
    budget: TriggerBudget = TriggerBudget()


class FairnessSpec(Strict):
    protected: str
    """The workload's slice whose values are the groups."""
    max_gap: float = Field(gt=0)
    """Widest gap between two groups in false-positive, false-negative or selection rate, as a fraction of 1."""


class ForgettingSpec(Strict):
    max_loss: float = Field(gt=0)
    """How much worse than the champion on a frozen slice of the past, in log loss (brier where that is the metric)."""


class Objective(Strict):
    metric: Literal["log_loss", "brier", "roc_auc", "calibration", "decision_cost", "latency", "size", "training_cost"]
    """calibration: expected calibration error; decision_cost: mean cost of a row; latency: milliseconds to score one
    row; size: bytes of the served file; training_cost: CPU-seconds of the train step."""
    margin: float = Field(ge=0)
    """The candidate may be worse than the champion by no more than this, in the metric's unit."""
    false_positive: float | None = Field(None, gt=0)
    """decision_cost only: what a row costs that is selected in vain."""
    false_negative: float | None = Field(None, gt=0)
    """decision_cost only: what a row costs that is missed."""

    @model_validator(mode="after")
    def _costs(self) -> Objective:
        given = (self.false_positive is not None, self.false_negative is not None)
        if given != ((True, True) if self.metric == "decision_cost" else (False, False)):
            raise ValueError("falsePositive and falseNegative with the metric decision_cost, and with no other")
        return self


class GateSpec(Strict):
    metric: Literal["log_loss", "brier", "roc_auc"] = "log_loss"
    margin: float = Field(0.002, ge=0)
    """The candidate may be worse than the champion by no more than this, in the metric's unit."""
    slices: tuple[str, ...] = ()
    """The workload's slices: no value of one may be proved worse by more than the margin."""
    fairness: FairnessSpec | None = None
    forgetting: ForgettingSpec | None = None
    objectives: tuple[Objective, ...] = ()
    """What else must be kept, each within its own margin; a metric is named once."""

    @model_validator(mode="after")
    def _once(self) -> GateSpec:
        names = [objective.metric for objective in self.objectives]
        if len(names) != len(set(names)):
            raise ValueError("objectives that name each metric once")
        return self


class ShadowStage(Strict):
    requests: int = Field(5000, ge=1)
    min_duration: Span | None = None


class AbStage(Strict):
    arms: dict[str, Share]
    sticky: dict[Literal["cookie"], str] | None = None
    requests: int = Field(5000, ge=1)


class RegionOrder(Strict):
    header: str
    order: tuple[str, ...]


class CanaryStage(Strict):
    weights: tuple[Share, ...] = Field(min_length=1)
    requests: int = Field(2500, ge=1)
    """The least that each weight sees."""
    regions: RegionOrder | None = None


class InterleaveStage(Strict):
    sessions: int = Field(5000, ge=1)
    method: Literal["team-draft"] = "team-draft"


class ApprovalStage(Strict):
    pass


class Stage(Strict):
    """Exactly one of the five."""

    shadow: ShadowStage | None = None
    ab: AbStage | None = None
    canary: CanaryStage | None = None
    interleave: InterleaveStage | None = None
    approval: ApprovalStage | None = None

    @model_validator(mode="after")
    def _one(self) -> Stage:
        if sum(getattr(self, kind) is not None for kind in type(self).model_fields) != 1:
            raise ValueError("exactly one of shadow, ab, canary, interleave, approval")
        return self

    @property
    def kind(self) -> str:
        """The name of the one that is set."""
        return next(kind for kind in type(self).model_fields if getattr(self, kind) is not None)


class LossCheck(Strict):
    metric: Literal["brier"] = "brier"
    margin: float = Field(0.005, gt=0)
    slices: tuple[str, ...] = ()
    """Each slice is guarded: it can abort, and counts in the number of metrics."""


class ErrorsCheck(Strict):
    margin: Share
    """How many more requests may fail, as a share of all."""


class LatencyCheck(Strict):
    slo: Span
    margin: Share


class BusinessMetric(Strict):
    name: str
    margin: float = Field(gt=0)
    bound: float = Field(gt=0)


class JudgeSpec(Strict):
    alpha: float = Field(0.05, gt=0, lt=0.5)
    loss: LossCheck | None = LossCheck()
    errors: ErrorsCheck | None = ErrorsCheck(margin=Fraction(5, 1000))
    latency: LatencyCheck | None = None
    metrics: tuple[BusinessMetric, ...] = ()


class ReleaseSpec(Strict):
    min_duration: Span = timedelta(days=7)
    """Event time, a full cycle of the traffic; no promotion earlier."""
    block: Span | None = timedelta(days=1)
    """Rows of one block are alike: quality verdicts are checked by block."""
    watch: Span = timedelta(days=7)
    """How long the old champion stays as a shadow after a promotion."""
    stages: tuple[Stage, ...] = Field(min_length=1)
    judge: JudgeSpec = JudgeSpec()
    label_deadline: Span = timedelta(hours=24)
    """A label that has not come this long after its prediction is missing."""
    deadline: Span = timedelta(days=45)
    """A release without a verdict by then ends, and the champion stays."""


class Replicas(Strict):
    min: int = Field(1, ge=1)
    max: int = Field(1, ge=1)


class ServingSpec(Strict):
    replicas: Replicas = Replicas()


class TrustSpec(Strict):
    keys: tuple[str, ...] = Field(min_length=1, max_length=2)


class EdgeSpec(Strict):
    max_age: Span = timedelta(days=7)
    head: int = Field(1000, ge=0)


class BatchSpec(Strict):
    cron: str
    """Five fields, in UTC, read on the event clock; a time that was missed starts one batch."""
    input: str
    """Parquet: a file, a folder or a glob, at any place that fsspec reaches; its files are the partitions."""
    output: str
    """A folder for Parquet files, a file NAME.csv, or a SQLAlchemy URL (SQLite, PostgreSQL) with #TABLE."""


class ExplorationSpec(Strict):
    share: Share


class RollbackSpec(Strict):
    on_regression: bool = True
    """A champion proved beyond `triggers.performance` while no candidate is on its way gives its place to the earlier
    version that did best by that metric; needs `triggers.performance`."""


class AlertsSpec(Strict):
    webhook: SecretStr
    """URL of a receiver of Alertmanager's format; without a path ``/api/v2/alerts``. It is shown and logged nowhere."""


class ModelSpec(Strict):
    workload: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """``package.module:object`` of the workload."""
    pipeline: PipelineSpec = PipelineSpec()
    training: TrainingSpec = TrainingSpec()
    triggers: TriggersSpec = TriggersSpec()
    gate: GateSpec = GateSpec()
    release: ReleaseSpec
    serving: ServingSpec = ServingSpec()
    trust: TrustSpec | None = None
    edge: EdgeSpec | None = None
    batch: BatchSpec | None = None
    exploration: ExplorationSpec | None = None
    rollback: RollbackSpec | None = None
    alerts: AlertsSpec | None = None


class Metadata(BaseModel):
    """Kubernetes object metadata: the name is ours, the rest is the cluster's."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")


class Model(Strict):
    """One model: what is wanted, from data to traffic."""

    api_version: Literal["tidegate.dev/v1alpha1"]
    kind: Literal["Model"]
    metadata: Metadata
    spec: ModelSpec

    @property
    def name(self) -> str:
        """The model's name."""
        return self.metadata.name


def describe(error: ValidationError, where: str) -> UserError:
    """The first fault of a pydantic error as our one line: field path, what it got, what it takes."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"]) or "the document"
    takes = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return UserError(f"{where}: {path}", first["input"], "no such field; see docs/reference/model.md")
    if first["type"] == "missing":
        return UserError(f"{where}: {path}", None, "a value; the field is required")
    return UserError(f"{where}: {path}", first["input"], takes)


def load_model(path: str | Path) -> Model:
    """Read and validate a Model file.

    Raises UserError when the file is missing, is not YAML or has a wrong field; the message names the field's path.
    """
    return parse_model(read_yaml(Path(path)), str(path))


def parse_model(document: object, where: str) -> Model:
    """Validate one Model document; `where` opens the error's line."""
    if not isinstance(document, dict):
        raise UserError(where, type(document).__name__, "a mapping with apiVersion, kind, metadata, spec")
    try:
        return Model.model_validate(document)
    except ValidationError as error:
        raise describe(error, where) from None


def read_yaml(path: Path) -> Any:
    """One YAML document from a file; UserError when it is missing or does not parse."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(str(path), "no file", "the path of a YAML file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(str(path), " ".join(str(error).split())[:160], "a readable YAML document") from None
