"""What a challenger has proved, kept for the stages that follow: the record of each check with its statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tidegate.release.evidence import Evidence
from tidegate.release.judge import Judgement, carried_after
from tidegate.release.stages import Release, Version, kind_of_place, place_name, policy_for


def proof_key(release: Release, check: str, version: Version) -> str:
    """Under which name a proof is kept: of several challengers' with the version."""
    return f"{check}@{version.name}" if len(release.challengers) > 1 else check


def proofs_held(release: Release, version: Version) -> list[str]:
    """Metrics that this challenger has proved already; a proof of another digest is void."""
    found = {metric.name: proof_key(release, metric.name, version) for metric in policy_for(release).metrics}
    held = {name: release.proofs[key] for name, key in found.items() if key in release.proofs}
    return [name for name, proof in held.items() if proof["digest"] == version.digest]


def keep_proofs(release: Release, evidence: Evidence, each: Mapping[str, Judgement]) -> Release:
    """Write down the statistics of what this place has proved, for the stages that follow."""
    new = {
        proof_key(release, check, version): proof_of(release, version, evidence, each, check)
        for version in release.active
        for check in each[version.name].proved
    }
    return replace(release, proofs={**release.proofs, **new})


def proof_of(
    release: Release, version: Version, evidence: Evidence, each: Mapping[str, Judgement], name: str
) -> dict[str, Any]:
    """The record of one proof; void when the challenger's digest is another one."""
    place = place_name(release, kind_of_place(release), version)
    check = each[version.name].checks[name]
    return {
        "place": place,
        **evidence.at(place).state(name).to_json(),
        "estimate": check.estimate,
        "upper": check.upper,
        "policy": policy_for(release).digest,
        "digest": version.digest,
    }


def carried_next(release: Release) -> float:
    """The quality margin that is spent once this release is promoted, by its proof of the loss."""
    proof = release.proofs.get(proof_key(release, "loss", release.challenger))
    return carried_after(release.carried, proof["estimate"], proof["upper"]) if proof else release.carried
