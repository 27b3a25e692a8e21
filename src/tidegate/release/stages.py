"""A release as a value, and what its stage asks for: shares, place of evidence, when it is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tidegate.release.evidence import Evidence, weight_key
from tidegate.release.policy import PLACE_OF_STAGE, SHADOW, SPLIT, WATCH, JudgePolicy, policy_of
from tidegate.spec import ReleaseSpec, Stage

STAGES = ("shadow", "ab", "canary", "interleave", "approval")
ENDED = ("promoted", "aborted", "expired", "rolled_back")
STATES = (*STAGES, "watch", *ENDED)


@dataclass(frozen=True)
class Version:
    """A model version and the digest of its files."""

    name: str
    digest: str


@dataclass(frozen=True)
class Release:
    """One challenger's way to production, in A/B/C several challengers'; everything that has to survive a crash.

    state: one of `STATES`. stage: index into `spec.stages`. step: index into the stage's weights, in a canary by
    region those of the first region, then those of the second ... Times are event time in seconds. entered_requests:
    requests counted at this stage and weight before it was entered, during an approval at those behind it. proofs: by
    check, the statistics with which it was proved. latched: the sample ratio was broken once. carried: quality margin
    that earlier promotions have spent. left: challengers that are out of it while others go on. reason, sentence: of
    the last decision; `by` the person, where there was one.
    """

    name: str
    model: str
    champion: Version
    challengers: tuple[Version, ...]
    spec: ReleaseSpec
    opened: float
    state: str
    stage: int = 0
    step: int = 0
    entered: float = 0.0
    entered_requests: int = 0
    proofs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    latched: bool = False
    paused: bool = False
    carried: float = 0.0
    left: tuple[str, ...] = ()
    reason: str = "no_evidence"
    sentence: str = ""
    by: str = ""

    @property
    def active(self) -> tuple[Version, ...]:
        """The challengers that are still in it, newest first."""
        return tuple(version for version in self.challengers if version.name not in self.left)

    @property
    def challenger(self) -> Version:
        """The one that is released; while there are several, the newest of them."""
        return (self.active or self.challengers)[0]

    @property
    def open(self) -> bool:
        """Still on its way: neither promoted nor ended."""
        return self.state in STAGES

    @property
    def ended(self) -> bool:
        """Nothing will change any more but by a person's rollback."""
        return self.state in ENDED

    @property
    def weight(self) -> float:
        """The challengers' share of the answers that users get; by region, in the region that is on its way."""
        if self.state in ("watch", "promoted"):
            return 1.0
        stage = traffic_stage(self)
        if self.latched or not self.open or stage is None:
            return 0.0
        return round(sum(share for _, share in shares(self, stage, self.step)), 12)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with the weight for people."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {
            **plain,
            "champion": asdict(self.champion),
            "challengers": [asdict(version) for version in self.challengers],
            **({"left": list(self.left)} if self.left else {}),
            "spec": self.spec.model_dump(mode="json", by_alias=True),
            "proofs": {name: dict(proof) for name, proof in self.proofs.items()},
            "weight": self.weight,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Release:
        """The inverse of `to_json`."""
        return cls(
            **{name: data[name] for name in _PLAIN},
            champion=Version(**data["champion"]),
            challengers=tuple(Version(**version) for version in data["challengers"]),
            left=tuple(data.get("left", ())),
            spec=ReleaseSpec.model_validate(data["spec"]),
            proofs=data["proofs"],
        )


_PLAIN = (
    "name", "model", "opened", "state", "stage", "step", "entered", "entered_requests", "latched", "paused",
    "carried", "reason", "sentence", "by",
)  # fmt: skip


def weights_of(stage: Stage) -> tuple[float, ...]:
    """The challengers' shares that a stage names: one after the other in a canary, at once in an ab stage."""
    if stage.canary:
        return stage.canary.weights
    return tuple(share for arm, share in stage.ab.arms.items() if arm != "champion") if stage.ab else ()


def regions_of(spec: ReleaseSpec) -> tuple[str, ...]:
    """Every region that some canary of the release goes through, in order."""
    found = [stage.canary.regions.order for stage in spec.stages if stage.canary and stage.canary.regions]
    return tuple(dict.fromkeys(region for order in found for region in order))


def challengers_of(spec: ReleaseSpec) -> int:
    """How many challengers a release takes: as many as its first stage that gives users their answers has arms."""
    first = next((stage for stage in spec.stages if stage.kind in ("ab", "canary", "interleave")), None)
    return len(first.ab.arms) - 1 if first and first.ab else 1


def steps_of(stage: Stage) -> int:
    """How many weights a stage goes through, one after the other."""
    if stage.canary is None:
        return 1
    return len(stage.canary.weights) * (len(stage.canary.regions.order) if stage.canary.regions else 1)


def region_at(stage: Stage | None, step: int) -> str:
    """The region whose weights a canary goes through at its `step`; empty where it has no regions."""
    if stage is None or stage.canary is None or stage.canary.regions is None:
        return ""
    order = stage.canary.regions.order
    return order[min(step // len(stage.canary.weights), len(order) - 1)]


def shares(release: Release, stage: Stage, step: int) -> tuple[tuple[str, float], ...]:
    """(version, share) of each challenger on a stage's split; empty where it is not on the split."""
    if stage.canary:
        weights = stage.canary.weights
        inside = min(step, steps_of(stage) - 1) % len(weights)
        return ((release.challenger.name, weights[inside]),)
    found = zip(release.challengers, weights_of(stage), strict=False)
    return tuple((version.name, share) for version, share in found if version.name not in release.left)


def traffic_stage(release: Release) -> Stage | None:
    """The stage that says how traffic goes: its own, or during an approval the last one before; None: none yet."""
    before = release.spec.stages[: release.stage + 1]
    return next((stage for stage in reversed(before) if stage.kind in PLACE_OF_STAGE), None)


def kind_of_place(release: Release) -> str:
    """What kind of evidence the release gathers now: `shadow`, `split`, `interleave` or `watch`."""
    if release.state == "watch":
        return WATCH
    stage = traffic_stage(release)
    return PLACE_OF_STAGE[stage.kind] if stage else SHADOW


def place_name(release: Release, kind: str, version: Version, region: str = "") -> str:
    """The name of a place in the evidence: ``split``, of several challengers ``split@v2``, of a region ``split:eu``."""
    place = f"{kind}@{version.name}" if len(release.challengers) > 1 else kind
    return f"{place}:{region}" if region else place


def regions_reached(release: Release) -> tuple[str, ...]:
    """The regions in which the challenger has answered, while traffic goes by region."""
    stage = traffic_stage(release)
    here = region_at(stage, release.step)
    if stage is None or stage.canary is None or stage.canary.regions is None or release.state == "watch":
        return ()
    order = stage.canary.regions.order
    return order[: order.index(here) + 1]


def policy_for(release: Release) -> JudgePolicy:
    """The judge's policy with this release's number of challengers, and every region as a place that can abort."""
    policy = policy_of(release.spec)
    places = (*policy.places, *(f"{SPLIT}:{region}" for region in regions_of(release.spec)))
    return replace(policy, challengers=len(release.challengers), places=places)


def requests_seen(release: Release, evidence: Evidence) -> int:
    """Requests counted at this stage's place and weight, those before it was entered included."""
    stage, kind = release.spec.stages[release.stage], kind_of_place(release)
    region = region_at(stage, release.step)
    if stage.canary:
        counts = evidence.at(place_name(release, kind, release.challenger, region)).counts
        ((_, share),) = shares(release, stage, release.step)
        return counts.by_weight.get(weight_key(round(share, 6)), 0)
    found = [evidence.at(place_name(release, kind, version)).counts for version in release.challengers]
    if kind != SPLIT:
        return max(counts.requests for counts in found)
    # each challenger's place has the champion's requests and its own
    shared = max(counts.requests - counts.challenger for counts in found)
    return shared + sum(counts.challenger for counts in found)


def requests_wanted(stage: Stage) -> int:
    """The least that a stage, or each weight of it, must see; sessions where lists are mixed."""
    if stage.interleave:
        return stage.interleave.sessions
    found = stage.shadow or stage.ab or stage.canary
    return found.requests if found else 0


def at_last_weight(release: Release) -> bool:
    """Whether this stage has no further weight."""
    return release.step + 1 >= steps_of(release.spec.stages[release.stage])


def at_last_proof(release: Release) -> bool:
    """Whether no later stage gathers evidence, so that all must be proved before this one is left."""
    return all(stage.kind not in PLACE_OF_STAGE for stage in release.spec.stages[release.stage + 1 :])
