"""One look at a release: the judge's word on every challenger that is in it, and which of them are done here.

With several challengers each is judged by itself against the champion, at a level that is shared out among them.
In a canary by region the evidence of all regions proves, and every region that was reached is guarded by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tidegate.reasons import REASONS
from tidegate.release.evidence import Evidence
from tidegate.release.judge import Check, Judgement, is_worse, judge
from tidegate.release.policy import JudgePolicy
from tidegate.release.proofs import proof_key, proofs_held
from tidegate.release.stages import (
    Release,
    Version,
    at_last_proof,
    at_last_weight,
    kind_of_place,
    place_name,
    policy_for,
    regions_reached,
    requests_seen,
    requests_wanted,
)


@dataclass(frozen=True)
class Look:
    """The judgement of each challenger, newest first, and all of them as one."""

    each: Mapping[str, Judgement]
    whole: Judgement

    @property
    def worse(self) -> tuple[str, ...]:
        """Challengers that are proved worse."""
        return tuple(name for name, judgement in self.each.items() if judgement.verdict == "abort")

    @property
    def broken(self) -> bool:
        """Whether the split is not the one that was asked for."""
        return any(judgement.reason == "sample_ratio" for judgement in self.each.values())


def look(release: Release, evidence: Evidence, now: float) -> Look:
    """The judge's look at the place where the release gathers evidence now."""
    if release.ended:
        return Look({}, Judgement("hold", "ended", REASONS["ended"], kind_of_place(release), {}))
    each = {version.name: assess(release, version, evidence, now) for version in release.active}
    return Look(each, _as_one(each))


def assess(release: Release, version: Version, evidence: Evidence, now: float) -> Judgement:
    """The judgement of one challenger, its regions included."""
    policy, kind = policy_for(release), kind_of_place(release)
    stats = evidence.at(place_name(release, kind, version))
    if release.state == "watch":
        return judge(policy.for_watch(), stats, now=now, opened=release.entered, place=kind)
    found = judge(
        policy,
        stats,
        now=now,
        opened=release.opened,
        place=kind,
        carried=release.carried,
        proofs=proofs_held(release, version),
        latched=release.latched,
    )
    for region in regions_reached(release):
        found = _guarded(found, _in_region(release, policy, version, evidence, now, region), region)
    return found


def _in_region(
    release: Release, policy: JudgePolicy, version: Version, evidence: Evidence, now: float, region: str
) -> Judgement:
    kind = kind_of_place(release)
    stats = evidence.at(place_name(release, kind, version, region))
    return judge(policy, stats, now=now, opened=release.opened, place=kind, latched=release.latched)


def _guarded(found: Judgement, there: Judgement, region: str) -> Judgement:
    """With one region's checks; what is wrong there is wrong."""
    checks = {**found.checks, **{f"{name}:{region}": check for name, check in there.checks.items()}}
    wrong = there.verdict == "abort" or there.reason == "sample_ratio"
    if wrong and found.verdict != "abort":
        return replace(there, sentence=f"in {region}: {there.sentence}", checks=checks, proved=found.proved)
    return replace(found, checks=checks)


def _as_one(each: Mapping[str, Judgement]) -> Judgement:
    """The judgements of several challengers as one: `promote` when one may be promoted, `abort` when all are worse."""
    if len(each) == 1:
        return next(iter(each.values()))
    found = list(each.values())
    broken = [judgement for judgement in found if judgement.reason == "sample_ratio"]
    good = [judgement for judgement in found if judgement.verdict == "promote"]
    open_ = [judgement for judgement in found if judgement.verdict != "abort"]
    # a broken split is no evidence for anybody
    first = (broken or good or open_ or found)[0]
    return replace(
        first,
        sentence="; ".join(f"{name}: {judgement.sentence}" for name, judgement in each.items()),
        checks={f"{check}@{name}": value for name, of in each.items() for check, value in of.checks.items()},
        proved=tuple(f"{check}@{name}" for name, judgement in each.items() for check in judgement.proved),
    )


def done_here(release: Release, evidence: Evidence, seen: Look, now: float) -> tuple[str, ...]:
    """Challengers with which this stage (in a canary: this weight) may be left, by rule 3 of the machine."""
    stage = release.spec.stages[release.stage]
    if stage.approval or requests_seen(release, evidence) - release.entered_requests < requests_wanted(stage):
        return ()
    if stage.shadow and stage.shadow.min_duration and now < release.entered + stage.shadow.min_duration.total_seconds():
        return ()
    return tuple(name for name, judgement in seen.each.items() if _is_done(release, judgement))


def _is_done(release: Release, judgement: Judgement) -> bool:
    if any(check.lower > 0 for check in judgement.checks.values()):
        return False
    if not at_last_weight(release):
        return True
    if at_last_proof(release):
        return judgement.verdict == "promote"
    here = {metric.name for metric in policy_for(release).metrics if metric.proved_at == judgement.place}
    return here <= set(judgement.proved)


def best_of(release: Release, seen: Look, names: tuple[str, ...]) -> Version:
    """Of several challengers the one with the lowest estimated loss; the newest of equals."""
    chosen = [version for version in release.active if version.name in names]
    return min(chosen, key=lambda version: estimated_loss(release, seen, version))


def estimated_loss(release: Release, seen: Look, version: Version) -> float:
    """Against the champion's: by its proof where there is one, else as it is seen now; infinite without evidence."""
    proof = release.proofs.get(proof_key(release, "loss", version))
    check: Check | None = seen.each[version.name].checks.get("loss")
    found = proof["estimate"] if proof else check.estimate if check else None
    return math.inf if found is None else float(found)


def explain(release: Release, judgement: Judgement) -> Judgement:
    """A judgement by which nothing is promoted or aborted, as a hold that says why not."""
    if release.ended or judgement.reason == "sample_ratio":
        return judgement
    waits = "watching" if release.state == "watch" else "paused" if release.paused else release.state
    if waits in ("watching", "paused", "approval"):
        return hold(judgement, waits)
    if judgement.verdict != "promote":
        return judgement
    worse = any(check.lower > 0 and not is_worse(check) for check in judgement.checks.values())
    return hold(judgement, "block_check" if worse else "stage")


def hold(judgement: Judgement, reason: str) -> Judgement:
    """The same judgement as a hold with this reason."""
    return replace(judgement, verdict="hold", reason=reason, sentence=f"{REASONS[reason]} ({judgement.sentence})")
