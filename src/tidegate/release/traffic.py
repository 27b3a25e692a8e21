"""From a release to the traffic that it wants."""

from __future__ import annotations

from dataclasses import replace

from tidegate.release.plan import Backend, Plan, Regions, Split
from tidegate.release.stages import Release, Version, regions_reached, shares, traffic_stage
from tidegate.spec import Stage


def wanted(release: Release, replicas: int = 1) -> Plan:
    """The traffic that a release wants, from its state alone.

    shadow: the champion answers, every challenger gets a copy. ab, canary: the split by weight; the champion has what
    no challenger has. interleave: the champion answers but for /rank, where the lists of both are merged. approval:
    as before it. watch: the challenger answers, the old champion gets a copy. Ended: the one that serves, alone. After
    a broken sample ratio the champion answers alone, and since nothing is compared the rows name no release.
    """
    old, new = release.champion, release.challenger
    if release.state == "watch":
        return Plan(release.model, _backends(replicas, old, new), ((new.name, 1.0),), (old.name,), release.name)
    if release.ended:
        serves = new if release.state == "promoted" else old
        return Plan(release.model, _backends(replicas, serves), ((serves.name, 1.0),))
    alone = Plan(release.model, _backends(replicas, old, *release.active), ((old.name, 1.0),))
    stage = traffic_stage(release)
    if stage is None or release.latched:
        return alone
    if stage.shadow:
        return replace(alone, mirrors=tuple(version.name for version in release.active), release=release.name)
    if stage.interleave:
        return replace(alone, merge=(old.name, new.name), release=release.name)
    return _split(release, stage, alone)


def _backends(replicas: int, *versions: Version) -> tuple[Backend, ...]:
    return tuple(Backend(version.name, version.digest, replicas) for version in versions)


def _split(release: Release, stage: Stage, alone: Plan) -> Plan:
    """The plan of a stage that gives challengers a share; regions before the one at hand keep their last weight."""
    if stage.ab:
        sticky = stage.ab.sticky.cookie if stage.ab.sticky else ""
        return replace(alone, split=_beside(release, stage, release.step), release=release.name, sticky=sticky)
    reached = regions_reached(release)
    if not reached or stage.canary is None or stage.canary.regions is None:
        return replace(alone, split=_beside(release, stage, release.step), release=release.name)
    each = len(stage.canary.weights)
    steps = {region: min((i + 1) * each - 1, release.step) for i, region in enumerate(reached)}
    splits = tuple((region, _beside(release, stage, step)) for region, step in steps.items())
    return replace(alone, regions=Regions(stage.canary.regions.header, splits), release=release.name)


def _beside(release: Release, stage: Stage, step: int) -> Split:
    found = shares(release, stage, step)
    left = round(1 - sum(share for _, share in found), 12)
    return ((release.champion.name, left), *found)
