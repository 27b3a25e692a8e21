"""From statistics to a verdict.

At each look, in this order:
1. the sample ratio is excluded at level .01 (two-sided), over all requests or over matured labelled ones -> hold,
   latched: the split that was seen is not the one that was asked for, so nothing else can be believed.
2. a metric, or the loss in one value of a slice, is proved worse, lower > 0 at alpha / (metrics and slices x
   challengers x places) -> abort. The k-th value of a slice to be seen has 1/k(k+1) of its slice's level.
3. every metric is proved not worse by its margin at its one place of proof, upper < margin at alpha / challengers,
   the least duration has passed -> promote.
4. else hold. No evidence, no matured request, unknown propensity: hold.
A quality verdict, either way, also needs the block check: rows of one block (a day) are alike, so differences are
taken by block, with a one-sided t limit on the same side. Unlike the bound this part is asymptotic.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tidegate.reasons import REASONS
from tidegate.release.confidence import State, bounds
from tidegate.release.evidence import RATIO, Block, Stats, in_slice
from tidegate.release.policy import INTERLEAVE, SPLIT, JudgePolicy, Metric

Verdict = Literal["promote", "abort", "hold"]
RHO_QUALITY_SPLIT, RHO_ELSE, RHO_RATIO = 16.0, 4.0, 16.0
RATIO_LEVEL = 0.005
"""A side; .01 in all."""
BLOCKS_TO_PROMOTE, BLOCKS_TO_ABORT = 7, 5
CONFIDENCE_TO_PROMOTE, CONFIDENCE_TO_ABORT = 0.95, 0.99
CAUTION = 1 / 3
"""How far from its estimate to its upper limit a promotion's cost is taken; found by simulated chains."""


@dataclass(frozen=True)
class Check:
    """One check at one look. Each limit is a one-sided bound, not an end of a 95 % interval.

    estimate: None without evidence. margin: None where nothing is to be proved. blocks, block_lower, block_upper: of
    the block check, None where it is not asked or has fewer than two blocks. test: what the limits are made by.
    """

    estimate: float | None
    lower: float
    upper: float
    margin: float | None
    n: int
    test: str = "bound"
    blocks: int | None = None
    block_lower: float | None = None
    block_upper: float | None = None


@dataclass(frozen=True)
class Judgement:
    """A verdict with everything it rests on. `reason` is a key of `REASONS`; `proved`: metrics proved at `place`."""

    verdict: Verdict
    reason: str
    sentence: str
    place: str
    checks: Mapping[str, Check]
    proved: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "proved": list(self.proved)}


def block_limits(blocks: Mapping[int, Block]) -> tuple[int, float | None, float | None]:
    """(blocks, lower, upper): one-sided t limits of the effect by block, for aborting and for promoting.

    The estimate is sum S / sum W over blocks and its standard error the delete-one-block jackknife's, which for
    blocks of equal W is the plain t statistic of the block means; degrees of freedom are those of the effective
    number of blocks, (sum W)^2 / sum W^2, less 1, so that one heavy block does not pass for seven.
    """
    sums = [(s, w) for _, s, w in blocks.values() if w > 0]
    size = len(sums)
    if size < 2:
        return size, None, None
    from scipy.special import stdtrit

    all_s, all_w = math.fsum(s for s, _ in sums), math.fsum(w for _, w in sums)
    mean = all_s / all_w
    left_out = [(all_s - s) / (all_w - w) for s, w in sums]
    error = math.sqrt((size - 1) / size * math.fsum((value - mean) ** 2 for value in left_out))
    freedom = max(all_w**2 / math.fsum(w * w for _, w in sums) - 1, 0.1)
    lower = mean - float(stdtrit(freedom, CONFIDENCE_TO_ABORT)) * error
    return size, lower, mean + float(stdtrit(freedom, CONFIDENCE_TO_PROMOTE)) * error


def rho_of(metric: Metric, place: str) -> float:
    """The mixture's tuning: 16 for a quality loss on a split and for credits, 4 for rare events and pairs."""
    return RHO_QUALITY_SPLIT if metric.quality and place in (SPLIT, INTERLEAVE) else RHO_ELSE


def check_metric(policy: JudgePolicy, metric: Metric, stats: Stats, place: str) -> Check:
    """The metric's limits at its levels, in its own unit, with its block limits where the policy has blocks."""
    found = _limits(policy, stats, metric.name, policy.a_abort, rho_of(metric, place), metric.quality)
    return _scaled(replace(found, margin=metric.margin), metric.bound)


def check_slices(policy: JudgePolicy, stats: Stats, place: str) -> dict[str, Check]:
    """The loss in every value of the guarded slices, in the order in which they were first seen."""
    rho, found = RHO_QUALITY_SPLIT if place == SPLIT else RHO_ELSE, {}
    for slice_ in policy.slices:
        for k, name in enumerate((name for name in stats.states if in_slice(name, slice_)), start=1):
            found[name] = _limits(policy, stats, name, policy.a_abort / (k * (k + 1)), rho, quality=True)
    return found


def _limits(policy: JudgePolicy, stats: Stats, name: str, a_abort: float, rho: float, quality: bool) -> Check:
    state = stats.state(name)
    lower, upper = bounds(state, a_abort, policy.a_promote, rho)
    found = Check(state.estimate, lower, upper, None, state.n)
    if not quality or policy.block is None:
        return found
    blocks, block_lower, block_upper = block_limits(stats.blocks.get(name, {}))
    return replace(found, blocks=blocks, block_lower=block_lower, block_upper=block_upper)


def _scaled(check: Check, bound: float) -> Check:
    if bound == 1:
        return check
    names = ("estimate", "lower", "upper", "block_lower", "block_upper")
    values = {name: getattr(check, name) for name in names}
    return replace(check, **{name: value * bound for name, value in values.items() if value is not None})


def check_ratio(state: State) -> Check:
    """Arm minus propensity: both limits at RATIO_LEVEL."""
    lower, upper = bounds(state, RATIO_LEVEL, RATIO_LEVEL, RHO_RATIO)
    return Check(state.estimate, lower, upper, None, state.n)


def is_worse(check: Check) -> bool:
    """Proved worse: the bound, and where blocks are asked for at least five of them, on the same side."""
    if check.lower <= 0 or check.blocks is None:
        return check.lower > 0
    return check.blocks >= BLOCKS_TO_ABORT and check.block_lower is not None and check.block_lower > 0


def is_within(check: Check, margin: float) -> bool:
    """Proved not worse by `margin`: the bound, and where blocks are asked for at least seven, on the same side."""
    if check.upper >= margin or check.blocks is None:
        return check.upper < margin
    return check.blocks >= BLOCKS_TO_PROMOTE and check.block_upper is not None and check.block_upper < margin


def judge(
    policy: JudgePolicy,
    stats: Stats,
    *,
    now: float,
    opened: float,
    place: str,
    carried: float = 0.0,
    proofs: Collection[str] = (),
    latched: bool = False,
) -> Judgement:
    """One look at the statistics of one place.

    now, opened: event time in seconds, for the least duration. carried: how much of the quality margin earlier
    promotions have spent, at least 0. proofs: metrics that were proved at another place. latched: the sample ratio
    was broken at an earlier look. Raises nothing; pure.
    """
    known = sorted(name for name in stats.states if name.startswith(RATIO) and stats.states[name].n)
    ratios = {name: check_ratio(stats.states[name]) for name in known}
    checks = {metric.name: check_metric(policy, metric, stats, place) for metric in policy.metrics}
    checks |= check_slices(policy, stats, place)
    look = _Look(policy, place, max(0.0, carried), {**checks, **ratios})
    broken = [name for name, check in ratios.items() if check.lower > 0 or check.upper < 0]
    if latched or broken:
        return look.say("hold", "sample_ratio", look.tell(broken))
    if worse := [name for name, check in checks.items() if is_worse(check)]:
        return look.say("abort", "proved_worse", look.tell(worse))
    return look.proof(stats, now - opened, frozenset(proofs))


@dataclass(frozen=True)
class _Look:
    policy: JudgePolicy
    place: str
    carried: float
    checks: Mapping[str, Check]

    def say(self, verdict: Verdict, reason: str, detail: str = "", proved: tuple[str, ...] = ()) -> Judgement:
        sentence = REASONS[reason] + (f": {detail}" if detail else "")
        return Judgement(verdict, reason, sentence, self.place, self.checks, proved)

    def tell(self, names: Collection[str]) -> str:
        return "; ".join(tell(name, self.checks[name]) for name in names)

    def limit(self, metric: Metric) -> float:
        """What earlier promotions have spent is in the loss's unit, so it narrows the loss's margin alone."""
        return metric.margin - self.carried if metric.name == "loss" else metric.margin

    def proof(self, stats: Stats, lasted: float, proofs: frozenset[str]) -> Judgement:
        here = [metric for metric in self.policy.metrics if metric.proved_at == self.place]
        proved = tuple(m.name for m in here if is_within(self.checks[m.name], self.limit(m)))
        open_ = [m for m in self.policy.metrics if m.name not in proved and m.name not in proofs]
        if not stats.counts.matured or not any(self.checks[m.name].n for m in self.policy.metrics):
            return self.say("hold", "no_evidence")
        if any(m.proved_at == self.place for m in open_):
            waiting = [m for m in open_ if m.proved_at == self.place]
            return self.say("hold", self._why(waiting), self.tell([m.name for m in waiting]), proved)
        guarded = [name for name in self.checks if name in proofs or any(in_slice(name, s) for s in self.policy.slices)]
        if guarded := [name for name in guarded if self.checks[name].lower > 0]:
            return self.say("hold", "block_check", self.tell(guarded), proved)
        if open_:
            return self.say("hold", "proved_here", self.tell(proved), proved)
        if self.policy.min_duration is not None and lasted < self.policy.min_duration:
            return self.say("hold", "min_duration", self.tell(proved), proved)
        return self.say("promote", "proved_not_worse", self.tell(proved), proved)

    def _why(self, waiting: list[Metric]) -> str:
        checks = [(self.checks[m.name], m) for m in waiting]
        if any(check.lower > 0 for check, _ in checks):
            return "block_check"
        if all(check.upper < self.limit(m) for check, m in checks):
            return "block_check"
        if all(is_within(check, m.margin) for check, m in checks):
            return "carried"
        return "too_little_evidence"


def tell(name: str, check: Check) -> str:
    """One check in words."""
    if check.estimate is None:
        return f"{name} has no evidence"
    margin = "" if check.margin is None else f", margin {check.margin:.4g}"
    blocks = "" if check.blocks is None else f", {check.blocks} blocks"
    return (
        f"{name} {check.estimate:+.4f}, between {check.lower:+.4f} and {check.upper:+.4f}{margin}, "
        f"{check.n} observations{blocks}"
    )


def carried_after(carried: float, estimate: float | None, upper: float) -> float:
    """What a promotion leaves carried: the champion's estimated distance to the best version that served.

    A worse estimate adds to it; only a proved improvement (upper < 0) earns back, by what was proved. Never below 0.
    A promotion comes when the evidence looks best, so the estimate of that moment is too good: it is moved a third of
    the way to its upper limit.
    """
    if estimate is None:
        return carried
    return max(0.0, carried + (upper if upper < 0 else max(0.0, estimate + CAUTION * (upper - estimate))))
