"""A release as a value, and what its stage asks for: traffic, place of evidence, when it is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tidegate.errors import UserError
from tidegate.release.evidence import Evidence, weight_key
from tidegate.release.plan import Backend, Plan
from tidegate.release.policy import PLACE_OF_STAGE, SHADOW, SPLIT, WATCH, policy_of
from tidegate.spec import ReleaseSpec, Stage

STAGES = ("shadow", "ab", "canary", "approval")
ENDED = ("promoted", "aborted", "expired", "rolled_back")
STATES = (*STAGES, "watch", *ENDED)


@dataclass(frozen=True)
class Version:
    """A model version and the digest of its files."""

    name: str
    digest: str


@dataclass(frozen=True)
class Release:
    """One challenger's way to production; everything that has to survive a crash.

    state: one of `STATES`. stage: index into `spec.stages`. step: index of the canary's weight. Times are event time
    in seconds. entered_requests: requests counted at this stage and weight before it was entered. proofs: by metric,
    the statistics with which it was proved. latched: the sample ratio was broken once. carried: quality margin that
    earlier promotions have spent. reason, sentence: of the last decision; `by` the person, where there was one.
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
    reason: str = "no_evidence"
    sentence: str = ""
    by: str = ""

    @property
    def challenger(self) -> Version:
        """The one that is released."""
        return self.challengers[0]

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
        """The challenger's share of the answers that users get."""
        if self.state in ("watch", "promoted"):
            return 1.0
        return 0.0 if self.latched or not self.open else (share(traffic_stage(self), self.step) or 0.0)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with the weight for people."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {
            **plain,
            "champion": asdict(self.champion),
            "challengers": [asdict(version) for version in self.challengers],
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
            spec=ReleaseSpec.model_validate(data["spec"]),
            proofs=data["proofs"],
        )


_PLAIN = (
    "name", "model", "opened", "state", "stage", "step", "entered", "entered_requests", "latched", "paused",
    "carried", "reason", "sentence", "by",
)  # fmt: skip


def check_spec(spec: ReleaseSpec) -> None:
    """Refuse, by UserError, what a release cannot do (yet): better now than half-way."""
    policy_of(spec)
    for number, stage in enumerate(spec.stages):
        _check_stage(f"release.stages.{number}.{stage.kind}", stage)


def _check_stage(where: str, stage: Stage) -> None:
    if stage.interleave:
        raise UserError(where, "interleave", "shadow, ab, canary or approval as yet")
    if stage.canary and stage.canary.regions:
        raise UserError(where, "regions", "weights for all regions at once as yet")
    if stage.ab and (stage.ab.sticky or len(stage.ab.arms) != 2 or "champion" not in stage.ab.arms):
        raise UserError(where, "sticky or other arms", "the arm champion and one more, drawn by request, as yet")
    if stage.ab and abs(sum(stage.ab.arms.values()) - 1) > 1e-9:
        raise UserError(where, sum(stage.ab.arms.values()), "arms that sum to 100%")
    for weight in weights_of(stage):
        if not 0 < weight < 1:
            raise UserError(where, f"{weight:.0%}", "a weight between 0% and 100%; 100% is what a promotion gives")


def weights_of(stage: Stage) -> tuple[float, ...]:
    """The challenger's shares that a stage goes through; empty where it gets no traffic."""
    if stage.canary:
        return stage.canary.weights
    return tuple(share for arm, share in stage.ab.arms.items() if arm != "champion") if stage.ab else ()


def share(stage: Stage | None, step: int) -> float | None:
    """The challenger's share in a stage at its `step`, None where it is not on the split."""
    weights = weights_of(stage) if stage else ()
    return weights[min(step, len(weights) - 1)] if weights else None


def traffic_stage(release: Release) -> Stage | None:
    """The stage that says how traffic goes: its own, or during an approval the last one before; None: none yet."""
    before = release.spec.stages[: release.stage + 1]
    return next((stage for stage in reversed(before) if stage.kind in PLACE_OF_STAGE), None)


def place_of(release: Release) -> str:
    """Where the release gathers its evidence now."""
    if release.state == "watch":
        return WATCH
    stage = traffic_stage(release)
    return PLACE_OF_STAGE[stage.kind] if stage else SHADOW


def requests_seen(release: Release, evidence: Evidence) -> int:
    """Requests counted at this stage's place and weight, those before it was entered included."""
    counts = evidence.at(place_of(release)).counts
    weight = share(release.spec.stages[release.stage], release.step)
    return counts.requests if weight is None else counts.by_weight.get(weight_key(round(weight, 6)), 0)


def requests_wanted(stage: Stage) -> int:
    """The least that a stage, or each weight of it, must see."""
    found = stage.shadow or stage.ab or stage.canary
    return found.requests if found else 0


def at_last_weight(release: Release) -> bool:
    """Whether this stage has no further weight."""
    return release.step + 1 >= len(weights_of(release.spec.stages[release.stage]))


def at_last_proof(release: Release) -> bool:
    """Whether no later stage gathers evidence, so that all must be proved before this one is left."""
    return all(stage.kind not in PLACE_OF_STAGE for stage in release.spec.stages[release.stage + 1 :])


def wanted(release: Release, replicas: int = 1) -> Plan:
    """The traffic that a release wants, from its state alone.

    shadow: the champion answers, the challenger gets a copy. ab, canary: the split by weight. approval: as before
    it. watch: the challenger answers, the old champion gets a copy. Ended: the one that serves, alone. After a broken
    sample ratio the champion answers alone, and since nothing is compared the rows name no release.
    """
    old, new = release.champion, release.challenger
    both = tuple(Backend(version.name, version.digest, replicas) for version in (old, new))
    if release.state == "watch":
        return Plan(release.model, both, ((new.name, 1.0),), (old.name,), release.name)
    if release.ended:
        serves = 1 if release.state == "promoted" else 0
        return Plan(release.model, (both[serves],), ((both[serves].version, 1.0),))
    stage = traffic_stage(release)
    if stage is None or release.latched:
        return Plan(release.model, both, ((old.name, 1.0),))
    if PLACE_OF_STAGE[stage.kind] == SPLIT:
        split = ((old.name, round(1 - release.weight, 12)), (new.name, release.weight))
        return Plan(release.model, both, split, release=release.name)
    return Plan(release.model, both, ((old.name, 1.0),), (new.name,), release.name)
