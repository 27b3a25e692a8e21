"""What the judge is asked to prove: the release's settings as plain numbers.

Every metric has one place where it must be proved. In a release with a shadow stage the loss is proved there and
only guarded on the split; errors and latency are proved on the split, where users feel them, and guarded in shadow.
With one place only, everything is proved there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

from tidegate.errors import UserError
from tidegate.spec import ReleaseSpec, Stage

SHADOW, SPLIT, WATCH, INTERLEAVE = "shadow", "split", "watch", "interleave"
PLACE_OF_STAGE = {"shadow": SHADOW, "ab": SPLIT, "canary": SPLIT, "interleave": INTERLEAVE}
CREDIT_MARGIN = 0.01
"""How much less than a tie the challenger's credit may be, a session."""


@dataclass(frozen=True)
class Metric:
    """One thing to judge: lower is better.

    margin: how much worse the challenger may be. proved_at: its place of proof. quality: it needs labels and is
    checked by block. Errors and latency are not: they need no label and abort at once. bound: values lie in
    [0, bound]; margin and limits are in the same unit.
    """

    name: str
    margin: float
    proved_at: str
    quality: bool
    bound: float = 1.0

    @property
    def business(self) -> bool:
        """A value of its own that comes with a label under its name."""
        return self.quality and self.name not in ("loss", "credit")


@dataclass(frozen=True)
class JudgePolicy:
    """The judge's settings, times in seconds.

    places: where a metric can abort; the abort level is alpha / (metrics and slices x challengers x places).
    block, min_duration: None is not checked. slo_ms: latency objective, None when latency is not judged. slices: the
    loss is guarded in each value of these: it can abort, and need not be proved.
    """

    alpha: float
    metrics: tuple[Metric, ...]
    places: tuple[str, ...]
    label_deadline: float
    challengers: int = 1
    block: float | None = None
    min_duration: float | None = None
    slo_ms: float | None = None
    slices: tuple[str, ...] = ()

    @property
    def a_abort(self) -> float:
        """The level of one abort bound, so that all of them together keep alpha; a slice has one for all its values."""
        return self.alpha / ((len(self.metrics) + len(self.slices)) * self.challengers * len(self.places))

    @property
    def business(self) -> tuple[Metric, ...]:
        """The business metrics."""
        return tuple(metric for metric in self.metrics if metric.business)

    @property
    def a_promote(self) -> float:
        """The level of one promotion bound; all metrics must pass, so their number does not divide it."""
        return self.alpha / self.challengers

    @property
    def digest(self) -> str:
        """Names the policy in the record of a proof."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def for_watch(self) -> JudgePolicy:
        """The same metrics for the reverse shadow after a promotion: one place, everything judged there."""
        metrics = tuple(replace(metric, proved_at=WATCH) for metric in self.metrics)
        return replace(self, metrics=metrics, places=(WATCH,), min_duration=None)


def places_of(stages: tuple[Stage, ...]) -> tuple[str, ...]:
    """The places that the stages judge at, in their order, each once."""
    return tuple(dict.fromkeys(PLACE_OF_STAGE[stage.kind] for stage in stages if stage.kind in PLACE_OF_STAGE))


def policy_of(spec: ReleaseSpec) -> JudgePolicy:
    """The policy of a Model file's `release` block.

    Raises UserError when it asks for what is not judged yet or has no stage that gives evidence.
    """
    places = places_of(spec.stages)
    if not places:
        raise UserError("release.stages", [stage.kind for stage in spec.stages], "a stage that gives evidence")
    metrics = _metrics(spec, places)
    if not metrics:
        raise UserError("release.judge", "no metric", "at least one of loss, errors, latency, metrics")
    _check_names(spec, places)
    latency = spec.judge.latency
    return JudgePolicy(
        alpha=spec.judge.alpha,
        metrics=metrics,
        places=places,
        label_deadline=spec.label_deadline.total_seconds(),
        challengers=challengers_of(spec.stages),
        block=_seconds(spec.block),
        min_duration=_seconds(spec.min_duration),
        slo_ms=latency.slo.total_seconds() * 1000 if latency else None,
        slices=spec.judge.loss.slices if spec.judge.loss else (),
    )


def challengers_of(stages: tuple[Stage, ...]) -> int:
    """How many challengers are compared at once: the most arms of a stage beside the champion."""
    return max([1, *(len(stage.ab.arms) - 1 for stage in stages if stage.ab)])


def _check_names(spec: ReleaseSpec, places: tuple[str, ...]) -> None:
    names = [metric.name for metric in spec.judge.metrics]
    if taken := sorted({*names} & {"loss", "errors", "latency", "credit"}) or len({*names}) != len(names):
        raise UserError("release.judge.metrics", taken if taken is not True else names, "names of their own, each once")
    if names and SPLIT not in places:
        raise UserError("release.judge.metrics", names, "a canary or ab stage: only a split shows what users do")


def _metrics(spec: ReleaseSpec, places: tuple[str, ...]) -> tuple[Metric, ...]:
    told = [place for place in places if place != INTERLEAVE]
    if not told:
        takes = "a shadow, ab or canary stage too: credits prove no other metric"
        raise UserError("release.stages", ["interleave"], takes)
    quality_at = SHADOW if SHADOW in places else told[0]
    service_at = SPLIT if SPLIT in places else told[0]
    judge = spec.judge
    found = []
    if judge.loss:
        found.append(Metric("loss", judge.loss.margin, quality_at, quality=True))
    if judge.errors:
        found.append(Metric("errors", judge.errors.margin, service_at, quality=False))
    if judge.latency:
        found.append(Metric("latency", judge.latency.margin, service_at, quality=False))
    if INTERLEAVE in places:
        found.append(Metric("credit", CREDIT_MARGIN, INTERLEAVE, quality=True))
    return (*found, *(Metric(one.name, one.margin, SPLIT, True, one.bound) for one in judge.metrics))


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()
