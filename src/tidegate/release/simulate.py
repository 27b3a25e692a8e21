"""A release before it is started: how many requests and days its stages take, and what they can tell.

One formula: a metric is proved about when the bound fits between its effect and its margin, u(W var) = W (margin -
effect), where W is what a request weighs (pi (1 - pi) on a split, 1 for pairs and sessions). That W is reached with
chance one half at one look; since every look counts, more than half of all releases are earlier. With z = 0.84 more
standard deviations it is four in five. Nothing is drawn; every number follows from the Model file and what is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tidegate.errors import UserError
from tidegate.release.confidence import u
from tidegate.release.judge import BLOCKS_TO_PROMOTE, rho_of
from tidegate.release.policy import INTERLEAVE, PLACE_OF_STAGE, SHADOW, SPLIT, JudgePolicy, Metric, policy_of
from tidegate.release.stages import requests_wanted, steps_of, weights_of
from tidegate.spec import ReleaseSpec, Stage, format_span

DAY = 86400.0
FOUR_IN_FIVE = 0.8416
"""Standard deviations below which four in five of a normal distribution lie."""


@dataclass(frozen=True)
class Assumed:
    """What the traffic is taken to be like.

    per_day: requests (with sticky arms: clients) a day. effects: true difference to the champion by metric, lower is
    better; 0 where it is not named. rates: how often a request fails, takes over the objective. loss_sd, pair_sd,
    credit_sd: standard deviations of the loss, of two models' difference on one request, of a session's credit. A
    business metric is taken to vary as much as one of its range can.
    """

    per_day: float
    effects: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=lambda: {"errors": 0.002, "latency": 0.01})
    loss_sd: float = 0.22
    pair_sd: float = 0.1
    credit_sd: float = 0.57

    def variance(self, metric: Metric, place: str) -> float:
        """Of one observation of a metric at a place, in units of its bound."""
        if metric.name == "credit":
            return self.credit_sd**2
        if metric.name == "loss":
            return (self.pair_sd if place == SHADOW else self.loss_sd) ** 2
        if metric.business:
            return 0.25
        rate = self.rates[metric.name]
        return rate * (1 - rate) * (2 if place == SHADOW else 1)

    def effect(self, metric: Metric) -> float:
        """The true difference that is assumed, in units of the metric's bound."""
        return self.effects.get(metric.name, 0.0) / metric.bound


@dataclass(frozen=True)
class Proof:
    """One metric at the stage where it must be proved.

    requests, requests_80: after which it is proved with chance one half and four in five; None: never. power: the
    chance that it is proved by the deadline, if the release stays at this stage until then. aborts_after: requests
    after which the assumed effect is proved worse; None: it is not worse. detects: the smallest worsening that is
    proved by the deadline.
    """

    metric: str
    margin: float
    effect: float
    requests: int | None
    requests_80: int | None
    power: float
    aborts_after: int | None
    detects: float


@dataclass(frozen=True)
class Passage:
    """One stage: from day `starts` on, so many requests and days; None: it is never left."""

    stage: str
    starts: float
    requests: int | None
    days: float | None
    proofs: tuple[Proof, ...] = ()


@dataclass(frozen=True)
class Forecast:
    """The whole release. days: until the promotion; None where some stage does not decide."""

    per_day: float
    deadline_days: float
    stages: tuple[Passage, ...]
    requests: int | None
    days: float | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `decides` says whether all of it fits before the deadline."""
        return {**asdict(self), "decides": not self.warnings}


def simulate(spec: ReleaseSpec, assumed: Assumed) -> Forecast:
    """The way of a challenger with the assumed effects. UserError for a metric that it does not have."""
    policy = policy_of(spec)
    known = [metric.name for metric in policy.metrics]
    if unknown := sorted(set(assumed.effects) - set(known)):
        raise UserError("--effect", unknown, f"metrics of this release: {', '.join(known)}")
    if not assumed.per_day > 0:
        raise UserError("--per-day", assumed.per_day, "requests a day, more than 0")
    day: float | None = 0.0
    passages, weighed = [], {SHADOW: 0.0, SPLIT: 0.0, INTERLEAVE: 0.0}
    for stage in spec.stages:
        if day is None:
            break
        found = _passage(spec, policy, assumed, stage, day, weighed)
        passages.append(found)
        day = None if found.days is None else day + found.days
    days = None if day is None else max(day, spec.min_duration.total_seconds() / DAY)
    total = None if day is None else sum(found.requests or 0 for found in passages)
    deadline = spec.deadline.total_seconds() / DAY
    return Forecast(assumed.per_day, deadline, tuple(passages), total, days, _warnings(spec, passages, days, deadline))


def _passage(
    spec: ReleaseSpec, policy: JudgePolicy, assumed: Assumed, stage: Stage, day: float, weighed: dict[str, float]
) -> Passage:
    if stage.approval:
        return Passage("approval", day, 0, 0.0)
    place, least = PLACE_OF_STAGE[stage.kind], requests_wanted(stage)
    each = [_weight(stage, step) for step in range(steps_of(stage))]
    metrics = [metric for metric in policy.metrics if metric.proved_at == place]
    before = weighed[place] + least * sum(each)
    left = max(0.0, spec.deadline.total_seconds() / DAY - day - _lag(spec, metrics)) * assumed.per_day
    proofs = tuple(
        _proof(policy, assumed, metric, place, each[-1], weighed[place] + left * each[-1]) for metric in metrics
    )
    needed = [_needed(policy, assumed, metric, place) for metric in metrics]
    if any(math.isinf(one) for one in needed):
        return Passage(stage.kind, day, None, None, proofs)
    more = max(0.0, max(needed, default=0.0) - before)
    weighed[place] = before + more
    requests = math.ceil(least * len(each) + more / each[-1])
    return Passage(stage.kind, day, requests, _days(spec, assumed, stage, metrics, requests), proofs)


def _weight(stage: Stage, step: int) -> float:
    """What one request adds to W at a stage: 1 for pairs and sessions, else pi (1 - pi) of the smallest comparison."""
    if stage.canary:
        share = stage.canary.weights[step % len(stage.canary.weights)]
        return share * (1 - share)
    if stage.ab is None:
        return 1.0
    champion = stage.ab.arms["champion"]
    # of the requests that go to one of two arms, those shares are compared
    return min(share * champion / (share + champion) for share in weights_of(stage))


def _lag(spec: ReleaseSpec, metrics: list[Metric]) -> float:
    """Days that labels take, where one of the metrics needs them."""
    return spec.label_deadline.total_seconds() / DAY if any(metric.quality for metric in metrics) else 0.0


def _days(spec: ReleaseSpec, assumed: Assumed, stage: Stage, metrics: list[Metric], requests: int) -> float:
    """By the traffic, the blocks that a quality proof needs, and the stage's own least duration."""
    days = requests / assumed.per_day
    if spec.block and any(metric.quality for metric in metrics):
        days = max(days, BLOCKS_TO_PROMOTE * spec.block.total_seconds() / DAY)
    least = stage.shadow.min_duration.total_seconds() / DAY if stage.shadow and stage.shadow.min_duration else 0.0
    return max(days + _lag(spec, metrics), least)


def _needed(policy: JudgePolicy, assumed: Assumed, metric: Metric, place: str, z: float = 0.0) -> float:
    """W at which the metric is proved; infinite when the effect is not within the margin."""
    gap = metric.margin / metric.bound - assumed.effect(metric)
    return weight_needed(gap, assumed.variance(metric, place), policy.a_promote, rho_of(metric, place), z)


def _proof(policy: JudgePolicy, assumed: Assumed, metric: Metric, place: str, weight: float, by_then: float) -> Proof:
    half, most = (_needed(policy, assumed, metric, place, z) for z in (0.0, FOUR_IN_FIVE))
    effect, variance, rho = assumed.effect(metric), assumed.variance(metric, place), rho_of(metric, place)
    worse = weight_needed(effect, variance, policy.a_abort, rho)
    detects = u(by_then * variance, policy.a_abort, rho) / by_then if by_then > 0 else math.inf
    return Proof(
        metric.name,
        metric.margin,
        effect * metric.bound,
        _requests(half, weight),
        _requests(most, weight),
        _power(metric.margin / metric.bound - effect, variance, policy.a_promote, rho, by_then),
        _requests(worse, weight),
        min(detects, 1.0) * metric.bound,
    )


def _requests(needed: float, weight: float) -> int | None:
    return None if math.isinf(needed) else math.ceil(needed / weight)


def weight_needed(gap: float, variance: float, level: float, rho: float, z: float = 0.0) -> float:
    """The W from which on W gap >= u(W variance) + z sqrt(W variance); infinite for a gap that is not above 0.

    gap: between the true effect and the limit. variance: of one observation with W = 1. Bisection to 0.01 %.
    """
    if gap <= 0:
        return math.inf

    def short(weight: float) -> bool:
        return weight * gap < u(weight * variance, level, rho) + z * math.sqrt(weight * variance)

    low, high = 1.0, 2.0
    while short(high):
        low, high = high, 2 * high
    while high > low * 1.0001:
        middle = (low + high) / 2
        low, high = (middle, high) if short(middle) else (low, middle)
    return high


def _power(gap: float, variance: float, level: float, rho: float, weight: float) -> float:
    """The chance that S + u < W margin at this W, by the normal distribution."""
    if weight <= 0:
        return 0.0
    spare = (weight * gap - u(weight * variance, level, rho)) / math.sqrt(weight * variance)
    return 0.5 * (1 + math.erf(spare / math.sqrt(2)))


def _warnings(spec: ReleaseSpec, passages: list[Passage], days: float | None, deadline: float) -> tuple[str, ...]:
    """One line for each stage that does not decide before the deadline."""
    found = []
    for passage in passages:
        if passage.days is None:
            outside = [proof for proof in passage.proofs if proof.requests is None]
            told = ", ".join(f"{p.metric} {p.effect:+.4g} against {p.margin:.4g}" for p in outside)
            found.append(f"{passage.stage}: never proved, the effect is not within the margin: {told}")
        elif passage.starts + passage.days > deadline:
            found.append(
                f"{passage.stage}: cannot decide before the deadline of {format_span(spec.deadline)}: it needs "
                f"{passage.requests:,} requests, until day {passage.starts + passage.days:,.0f}"
            )
    if days is not None and days > deadline and not found:
        found.append(f"minDuration is longer than the deadline of {format_span(spec.deadline)}")
    return tuple(found)


def with_spread(assumed: Assumed, spreads: Mapping[str, float]) -> Assumed:
    """Other standard deviations (`loss`, `pairs`, `credit`) or rates (`errors`, `latency`) than those assumed."""
    takes = {"loss": "loss_sd", "pairs": "pair_sd", "credit": "credit_sd"}
    if unknown := sorted(set(spreads) - {*takes, *assumed.rates}):
        raise UserError("--base", unknown, f"one of {', '.join([*takes, *assumed.rates])}")
    rates = {name: spreads.get(name, rate) for name, rate in assumed.rates.items()}
    given: dict[str, Any] = {takes[name]: value for name, value in spreads.items() if name in takes}
    if wrong := [name for name, value in spreads.items() if not 0 < value <= 1]:
        raise UserError(f"--base {wrong[0]}", spreads[wrong[0]], "a number in (0, 1]")
    return replace(assumed, rates=rates, **given)
