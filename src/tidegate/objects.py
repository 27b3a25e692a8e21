"""What the cluster's objects carry beside a Model file: the status of a Model, and the Release object.

Shapes only, as pydantic models: the operator fills them, `k8s/crds` makes the schemas from them. Times are ISO 8601
in UTC, event time but for conditions, whose times are the cluster's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from tidegate.release.stages import STATES
from tidegate.spec import ReleaseSpec, Share, Strict, rule

Time = Annotated[datetime, WithJsonSchema({"type": "string", "format": "date-time"})]


class Condition(Strict):
    """One aspect of the object, as every Kubernetes object tells it."""

    type: str = Field(max_length=316, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
    """What is spoken of."""
    status: Literal["True", "False", "Unknown"]
    """Whether it is so."""
    reason: str = Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    """Why, in one word."""
    message: str = Field(max_length=32768)
    """Why, for people."""
    last_transition_time: Time
    """When `status` became what it is."""
    observed_generation: int | None = Field(None, ge=0)
    """The object's generation that this speaks of."""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


class VersionRef(Strict):
    """A model version and the digest of its files."""

    version: str
    """Its name, for example v1.1."""
    digest: str
    """SHA-256 over its files."""


class ChampionStatus(VersionRef):
    """The version that serves."""

    since: Time
    """When it got the place, in event time."""


class ArmShare(Strict):
    """One version's part of the requests."""

    version: str
    """Its name."""
    share: Share
    """Its share of the answers that users get."""


class TrafficStatus(Strict):
    """How requests go now."""

    summary: str
    """In one line, for example v1 99%, v1.1 1%."""
    split: tuple[ArmShare, ...] = ()
    """Who answers, by share; by region or cookie the summary tells more."""
    mirrors: tuple[str, ...] = ()
    """Versions that get a copy of every request and whose answers are dropped."""


class TriggerStatus(Strict):
    """The newest cause to retrain that started a run."""

    time: Time
    """When, in event time."""
    causes: tuple[str, ...]
    """schedule, volume, performance, drift, manual, code."""
    run: str = ""
    """The run that it started."""
    reason: str = ""
    """Why, in one sentence."""


class QuarantinedVersion(Strict):
    """A version that was aborted; only an explicit unquarantine brings it back."""

    version: str
    """Its name."""
    digest: str
    """SHA-256 over its files."""
    reason: str
    """Why, in one word."""


class ModelStatus(Strict):
    """What is: who serves, how requests go, what is on its way. Written by the operator alone."""

    observed_generation: int | None = Field(None, ge=0)
    """The generation of the spec that all of this speaks of."""
    champion: ChampionStatus | None = None
    """The version that serves; none before the first one."""
    traffic: TrafficStatus | None = None
    """How requests go now."""
    release: str | None = None
    """Name of the Release that is open or in its watch."""
    runs: tuple[str, ...] = ()
    """Runs of the pipeline that have not ended."""
    last_trigger: TriggerStatus | None = None
    """The newest cause to retrain that started a run."""
    next_schedule: Time | None = None
    """When `triggers.schedule` next asks for a run, in event time."""
    waiting: tuple[str, ...] = ()
    """Candidates that no release has taken yet, oldest first."""
    quarantined: tuple[QuarantinedVersion, ...] = ()
    """Versions that were aborted, newest last."""
    conditions: Conditions = ()
    """Accepted: the settings can be carried out. Ready: a champion serves. Progressing: a release or a run is on its
    way. Degraded: something is wrong, and the message says what."""


class ReleaseSettings(Strict):
    """One challenger's way to production, in A/B/C several challengers'. Made by the operator, owned by its Model, and
    never changed: a changed Model file counts from the next release on.
    """

    model: str
    """Name of the Model."""
    champion: VersionRef
    """Who serves when the release opens."""
    challengers: tuple[VersionRef, ...] = Field(min_length=1, max_length=6)
    """Who is to take its place, newest first."""
    opened: Time
    """When, in event time."""
    settings: ReleaseSpec
    """The Model's `spec.release` as it was then."""

    model_config = ConfigDict(json_schema_extra=rule("self == oldSelf", "a release is never changed"))


class CheckStatus(Strict):
    """One check of the judge; each limit is a one-sided bound, and lower is better."""

    name: str
    """loss, errors, latency, credit, sample_ratio, or a metric's own name."""
    estimate: float | None = None
    """Challenger less champion; none without evidence."""
    lower: float | None = None
    """Above 0: proved worse."""
    upper: float | None = None
    """Below the margin: proved not worse."""
    margin: float | None = None
    """None where nothing is to be proved at this place."""
    rows: int = 0
    """Observations that it rests on."""
    blocks: int | None = None
    """Days (or what `block` says) that it rests on."""


class EvidenceStatus(Strict):
    """What was seen at the place where the release gathers evidence now."""

    requests: int = 0
    """All that were folded; in shadow, pairs."""
    matured: int = 0
    """Those older than the label deadline."""
    champion: int = 0
    """Requests that the champion answered."""
    challenger: int = 0
    """Requests that challengers answered."""
    missing: int = 0
    """Mirrored requests that the copied version never answered."""
    late: int = 0
    """Rows that appeared behind the watermark."""
    watermark: Time | None = None
    """The newest event time that every writer of the log has passed."""


class ReleaseStatus(Strict):
    """How far the release is, and the judge's newest word."""

    observed_generation: int | None = Field(None, ge=0)
    """The generation of the spec that all of this speaks of."""
    stage: Literal[STATES] = "shadow"  # type: ignore[valid-type]
    """Where it is: a stage of its settings, watch, or how it ended."""
    weight: Share = 0.0
    """The challengers' share of the answers that users get."""
    weights: tuple[ArmShare, ...] = ()
    """That share by version."""
    verdict: Literal["promote", "abort", "hold"] = "hold"
    """The judge's newest word."""
    reason: str = ""
    """Why, in one word."""
    message: str = ""
    """Why, with the figures."""
    by: str = ""
    """The person who decided, where one did."""
    paused: bool = False
    """It can abort or expire, but not go on."""
    entered: Time | None = None
    """When it came to this stage, in event time."""
    ended: Time | None = None
    """When it ended, in event time."""
    evidence: EvidenceStatus | None = None
    """What the verdict rests on, as counts."""
    checks: tuple[CheckStatus, ...] = ()
    """What the verdict rests on, by check."""
    left: tuple[str, ...] = ()
    """Challengers that are out of it while others go on."""
    conditions: Conditions = ()
    """Progressing: it is open. Promoted: a challenger serves. Healthy: no check is proved worse, and the split is the
    one that was asked for."""
