"""The Model file: the only settings of the platform.

One file, ``k8s/models/<name>.yaml``, is the argument of ``tidegate up`` on a laptop and a custom resource on
Kubernetes. It is validated here in both places. Every field has one type: a share is a string with ``%``, a time
span a string with its unit (``50ms``, ``30s``, ``10m``, ``24h``, ``7d``), everything else a plain number or string.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from tidegate.errors import UserError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


# read alike by Python's `re` with re.ASCII and by the API server's RE2
SHARE_PATTERN = r"^\s*(-?\d+(?:\.\d+)?)\s*%\s*$"
SPAN_PATTERN = r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*$"


def parse_share(value: object) -> object:
    """``"0.5%"`` -> 0.005, a fraction of 1; raises ValueError on anything else."""
    if isinstance(value, str) and (found := re.fullmatch(SHARE_PATTERN, value, re.ASCII)):
        return float(found.group(1)) / 100
    if isinstance(value, Fraction):
        return float(value)
    raise ValueError("a share with %, for example 0.5%")


def parse_span(value: object) -> object:
    """``"24h"`` -> timedelta; raises ValueError on anything else."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and (found := re.fullmatch(SPAN_PATTERN, value, re.ASCII)):
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


Share = Annotated[
    float,
    BeforeValidator(parse_share),
    PlainSerializer(format_share),
    WithJsonSchema({"type": "string", "pattern": SHARE_PATTERN}),
]
Span = Annotated[
    timedelta,
    BeforeValidator(parse_span),
    PlainSerializer(format_span),
    WithJsonSchema({"type": "string", "pattern": SPAN_PATTERN}),
]


def rule(cel: str, message: str) -> dict[str, Any]:
    """A validator across fields, said once more for the API server: in CEL, with the same message."""
    return {"x-kubernetes-validations": [{"rule": cel, "message": message}]}


class Strict(BaseModel):
    """A frozen part of the Model file; unknown fields are refused by name."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )


class PipelineSpec(Strict):
    """What a run executes, and where."""

    package: str = "pipelines/continuous_training.yaml"
    """Compiled KFP package: a path in the repository and, the same file, in the component image."""
    orchestrator: Literal["auto", "local", "job", "kubeflow"] = "auto"
    """auto: local on a laptop, job on a cluster."""
    image: str | None = None
    """Component image of runs by digest, set by deploy; none: TIDEGATE_IMAGE, or on Kubeflow the package's own."""


class TrainingSpec(Strict):
    """How a model version is trained."""

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
    """As in `release`."""
    block: Span | None = None
    """As in `release`."""
    watch: Span | None = None
    """As in `release`."""
    stages: Annotated[tuple[Stage, ...], Field(max_length=16)] | None = None
    """As in `release`."""
    label_deadline: Span | None = None
    """As in `release`."""


class CalendarEvent(Strict):
    """A rare event that is known beforehand."""

    name: str
    """What it is called in the journal."""
    from_: str = Field(alias="from")
    """When it begins: a day or a moment in ISO 8601, in UTC."""
    to: str
    """When it is over, spelled alike."""
    cron: str
    """When runs are asked for while it lasts; five fields, in UTC."""
    release: EventRelease | None = None
    """Settings of its own for releases that open while it lasts; what they promoted serves until it ends."""
    gate_window: Span | None = None
    """Beside `release`: runs that start while it lasts are trained on its rows alone, and the model gate looks at this
    newest span of them."""


class ScheduleTrigger(Strict):
    """Retrain at set times."""

    cron: str
    """Five fields, in UTC, read on the event clock."""
    events: tuple[CalendarEvent, ...] = Field((), max_length=64)
    """Rare events that bring a denser cadence while they last."""


class VolumeTrigger(Strict):
    """Retrain when enough new labelled rows are there."""

    increase: Share
    """Rows matured since the last successful run, as a share of the rows which that run used."""


class PerformanceTrigger(Strict):
    """Retrain when the champion is proved beyond a limit in production."""

    metric: Literal["roc_auc", "log_loss", "brier"]
    """What is watched."""
    below: float
    """The limit; for roc_auc lower is worse, for log_loss and brier higher is worse."""
    window: Span
    """Over the newest matured rows of this span."""
    min_labels: int = Field(2000, ge=1)
    """No verdict on fewer labelled rows."""


class DriftTrigger(Strict):
    """Retrain when monitoring finds drift that retraining can cure."""

    window: Span
    """Whole days; days are clusters, so a single day is not assessable."""
    recent: Span = timedelta(days=28)
    """After concept drift: a run is trained from scratch, on the rows of this newest span only."""
    min_labels: int = Field(1000, ge=1)
    """After a domain shift: a run starts when so many rows of the new region have their labels."""


class TriggerBudget(Strict):
    """What all causes together may ask for."""

    runs_per_day: int = Field(24, ge=1)
    """Runs of one day of event time (UTC); a person's wish and new code do not wait for it."""


class TriggersSpec(Strict):
    """Causes to retrain; those that are set feed one policy."""

    schedule: ScheduleTrigger | None = None
    """At set times; none: never by the clock."""
    volume: VolumeTrigger | None = None
    """By new labelled rows; none: never by volume."""
    performance: PerformanceTrigger | None = None
    """By the champion's metric in production; none: never by performance."""
    drift: DriftTrigger | None = None
    """By what monitoring finds; none: never by drift."""
    cooldown: Span = timedelta(hours=1)
    """Least time from the end of a run to the next one's start; causes that come meanwhile are one run after it."""
    budget: TriggerBudget = TriggerBudget()
    """What all causes together may ask for."""


class FairnessSpec(Strict):
    """No gap between groups may be proved wider than the champion's and than this."""

    protected: str
    """The workload's slice whose values are the groups."""
    max_gap: float = Field(gt=0)
    """Widest gap between two groups in false-positive, false-negative or selection rate, as a fraction of 1."""


class ForgettingSpec(Strict):
    """What the champion knew of the past must not be lost."""

    max_loss: float = Field(gt=0)
    """How much worse than the champion on a frozen slice of the past, in log loss (brier where that is the metric)."""


class Objective(Strict):
    """One more metric that the gate keeps."""

    metric: Literal["log_loss", "brier", "roc_auc", "calibration", "decision_cost", "latency", "size", "training_cost"]
    """calibration: expected calibration error; decision_cost: mean cost of a row; latency: milliseconds to score one
    row; size: bytes of the served file; training_cost: CPU-seconds of the train step."""
    margin: float = Field(ge=0)
    """The candidate may be worse than the champion by no more than this, in the metric's unit."""
    false_positive: float | None = Field(None, gt=0)
    """decision_cost only: what a row costs that is selected in vain."""
    false_negative: float | None = Field(None, gt=0)
    """decision_cost only: what a row costs that is missed."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "self.metric == 'decision_cost' ? has(self.falsePositive) && has(self.falseNegative)"
            " : !has(self.falsePositive) && !has(self.falseNegative)",
            "falsePositive and falseNegative with the metric decision_cost, and with no other",
        )
    )

    @model_validator(mode="after")
    def _costs(self) -> Objective:
        given = (self.false_positive is not None, self.false_negative is not None)
        if given != ((True, True) if self.metric == "decision_cost" else (False, False)):
            raise ValueError("falsePositive and falseNegative with the metric decision_cost, and with no other")
        return self


class GateSpec(Strict):
    """The model gate: what a trained version must show before it is a candidate."""

    metric: Literal["log_loss", "brier", "roc_auc"] = "log_loss"
    """By which candidate and champion are compared, on the newest matured rows."""
    margin: float = Field(0.002, ge=0)
    """The candidate may be worse than the champion by no more than this, in the metric's unit."""
    slices: tuple[str, ...] = ()
    """The workload's slices: no value of one may be proved worse by more than the margin."""
    fairness: FairnessSpec | None = None
    """None: groups are not compared."""
    forgetting: ForgettingSpec | None = None
    """None: the past is not looked at."""
    objectives: tuple[Objective, ...] = Field((), max_length=8)
    """What else must be kept, each within its own margin; a metric is named once."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "!has(self.objectives) || self.objectives.all(a, self.objectives.exists_one(b, b.metric == a.metric))",
            "objectives that name each metric once",
        )
    )

    @model_validator(mode="after")
    def _once(self) -> GateSpec:
        names = [objective.metric for objective in self.objectives]
        if len(names) != len(set(names)):
            raise ValueError("objectives that name each metric once")
        return self


class ShadowStage(Strict):
    """Every request is mirrored; the answers are compared and dropped."""

    requests: int = Field(5000, ge=1)
    """The least that it sees, in pairs."""
    min_duration: Span | None = None
    """The least time that it takes; none: as long as the evidence takes."""


class Sticky(Strict):
    """By what a client keeps its arm."""

    cookie: str
    """Name of the cookie that the first answer sets."""


class AbStage(Strict):
    """A fixed split over two arms or more."""

    arms: dict[str, Share]
    """Shares by arm that sum to 100%: `champion` and a name for each challenger."""
    sticky: Sticky | None = None
    """A client keeps the arm of its first request; none: drawn by request."""
    requests: int = Field(5000, ge=1)
    """The least that it sees."""


class RegionOrder(Strict):
    """One region after the other goes through all weights."""

    header: str
    """The request header whose value is the region."""
    order: tuple[str, ...]
    """The regions, in the order in which they are released."""


class CanaryStage(Strict):
    """A growing share of the requests."""

    weights: tuple[Share, ...] = Field(min_length=1)
    """The challenger's shares, one after the other; 100% is what a promotion gives."""
    requests: int = Field(2500, ge=1)
    """The least that each weight sees."""
    regions: RegionOrder | None = None
    """Region by region; none: everywhere at once."""


class InterleaveStage(Strict):
    """Rankings of both versions mixed in one list; clicks give the credit."""

    sessions: int = Field(5000, ge=1)
    """The least that it sees."""
    method: Literal["team-draft"] = "team-draft"
    """How the lists are mixed."""


class ApprovalStage(Strict):
    """Traffic stays as it is until a named person approves."""


class Stage(Strict):
    """Exactly one of the five."""

    shadow: ShadowStage | None = None
    """All requests mirrored, answers dropped."""
    ab: AbStage | None = None
    """A fixed split."""
    canary: CanaryStage | None = None
    """A growing share."""
    interleave: InterleaveStage | None = None
    """Two rankings in one list."""
    approval: ApprovalStage | None = None
    """A person's word."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "[has(self.shadow), has(self.ab), has(self.canary), has(self.interleave), has(self.approval)]"
            ".exists_one(given, given)",
            "exactly one of shadow, ab, canary, interleave, approval",
        )
    )

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
    """Quality, from labels."""

    metric: Literal["brier"] = "brier"
    """The loss of one row."""
    margin: float = Field(0.005, gt=0)
    """The challenger may be worse than the champion by less than this; a chain of promotions spends it once."""
    slices: tuple[str, ...] = ()
    """Each slice is guarded: it can abort, and counts in the number of metrics."""


class ErrorsCheck(Strict):
    """Failed answers."""

    margin: Share
    """How many more requests may fail, as a share of all."""


class LatencyCheck(Strict):
    """Slow answers."""

    slo: Span
    """A request that takes longer is slow."""
    margin: Share
    """How many more requests may be slow, as a share of all."""


class BusinessMetric(Strict):
    """A metric of one's own, lower is better; its values come by `/labels` under its name."""

    name: str
    """Its name."""
    margin: float = Field(gt=0)
    """The challenger may be worse than the champion by less than this."""
    bound: float = Field(gt=0)
    """Values lie in 0 to this; what lies outside is cut and counted."""


class JudgeSpec(Strict):
    """What the judge asks of the evidence; every check holds at every look."""

    alpha: float = Field(0.05, gt=0, lt=0.5)
    """Chance of a wrong promotion; wrong aborts have a chance of their own of the same size."""
    loss: LossCheck | None = LossCheck()
    """None: quality is not judged."""
    errors: ErrorsCheck | None = ErrorsCheck(margin=Fraction(5, 1000))
    """None: failed answers are not judged."""
    latency: LatencyCheck | None = None
    """None: slow answers are not judged."""
    metrics: tuple[BusinessMetric, ...] = ()
    """Metrics of one's own."""


class ReleaseSpec(Strict):
    """The release gate: how a candidate is proved in production before it serves."""

    min_duration: Span = timedelta(days=7)
    """Event time, a full cycle of the traffic; no promotion earlier."""
    block: Span | None = timedelta(days=1)
    """Rows of one block are alike: quality verdicts are checked by block."""
    watch: Span = timedelta(days=7)
    """How long the old champion stays as a shadow after a promotion."""
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=16)
    """One after the other; each is left when its least requests were seen and its proof is there."""
    judge: JudgeSpec = JudgeSpec()
    """What must be proved, and with what certainty."""
    label_deadline: Span = timedelta(hours=24)
    """A label that has not come this long after its prediction is missing."""
    deadline: Span = timedelta(days=45)
    """A release without a verdict by then ends, and the champion stays."""


class Replicas(Strict):
    """How many processes answer, by version."""

    min: int = Field(1, ge=1)
    """The least."""
    max: int = Field(1, ge=1)
    """The most; above `min` their number follows the requests in flight."""


class ServingSpec(Strict):
    """How a version is served."""

    replicas: Replicas = Replicas()
    """How many processes answer, by version."""


class TrustSpec(Strict):
    """Who may sign model files."""

    keys: tuple[str, ...] = Field(min_length=1, max_length=2)
    """Public Ed25519 keys, one or, while one replaces the other, two."""


class EdgeSpec(Strict):
    """Edge folders that answer without network."""

    max_age: Span = timedelta(days=7)
    """Past this age of its bundle an edge answers 503."""
    head: int = Field(1000, ge=0)
    """How many of the most frequent requests have their answers precomputed."""


class BatchSpec(Strict):
    """Predictions at set times."""

    cron: str
    """Five fields, in UTC, read on the event clock; a time that was missed starts one batch."""
    input: str
    """Parquet: a file, a folder or a glob, at any place that fsspec reaches; its files are the partitions."""
    output: str
    """A folder for Parquet files, a file NAME.csv, or a SQLAlchemy URL (SQLite, PostgreSQL) with #TABLE."""


class ExplorationSpec(Strict):
    """Some requests are answered without the model's choice, against selective labels."""

    share: Share
    """How many of all."""


class RollbackSpec(Strict):
    """What happens when the champion itself gets worse."""

    on_regression: bool = True
    """A champion proved beyond `triggers.performance` while no candidate is on its way gives its place to the earlier
    version that did best by that metric; needs `triggers.performance`."""


class AlertsSpec(Strict):
    """Who is told."""

    webhook: SecretStr
    """URL of a receiver of Alertmanager's format; without a path ``/api/v2/alerts``. It is shown and logged nowhere."""


class ModelSpec(Strict):
    """What is wanted, from data to traffic."""

    workload: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$")
    """``package.module:object`` of the workload."""
    pipeline: PipelineSpec = PipelineSpec()
    """What a run executes, and where."""
    training: TrainingSpec = TrainingSpec()
    """How a model version is trained."""
    triggers: TriggersSpec = TriggersSpec()
    """Causes to retrain; those that are set feed one policy."""
    gate: GateSpec = GateSpec()
    """The model gate: what a trained version must show before it is a candidate."""
    release: ReleaseSpec
    """The release gate: how a candidate is proved in production before it serves."""
    serving: ServingSpec = ServingSpec()
    """How a version is served."""
    trust: TrustSpec | None = None
    """Who may sign model files; none: the key of the state folder."""
    edge: EdgeSpec | None = None
    """None: no edge folders."""
    batch: BatchSpec | None = None
    """Predictions at set times; none: no batches."""
    exploration: ExplorationSpec | None = None
    """Some requests are answered without the model's choice; none: every answer is the model's."""
    rollback: RollbackSpec | None = None
    """What happens when the champion itself gets worse; none: an alert, and a person decides."""
    alerts: AlertsSpec | None = None
    """Who is told; none: nobody."""


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


def read_model(stream: IO[str]) -> Model:
    """A Model from a stream, as a file or as ``kubectl get --output json`` has it: its status is not looked at."""
    try:
        found = yaml.safe_load(stream)
    except yaml.YAMLError as error:
        raise UserError("stdin", " ".join(str(error).split())[:160], "a readable YAML document") from None
    return parse_model({k: v for k, v in found.items() if k != "status"} if isinstance(found, dict) else found, "stdin")


def parse_model(document: object, where: str) -> Model:
    """Validate one Model document; `where` opens the error's line."""
    if not isinstance(document, dict):
        raise UserError(where, type(document).__name__, "a mapping with apiVersion, kind, metadata, spec")
    try:
        # as JSON and strictly, so that "5" is no number here either: the API server reads the same file so
        written = json.dumps(document, default=str)
        return Model.model_validate_json(written, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise describe(error, where) from None
    except TypeError:
        raise UserError(where, "a name that is no text", "a mapping with apiVersion, kind, metadata, spec") from None


def read_yaml(path: Path) -> Any:
    """One YAML document from a file; UserError when it is missing or does not parse."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(str(path), "no file", "the path of a YAML file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(str(path), " ".join(str(error).split())[:160], "a readable YAML document") from None
