"""What both renderers share: a plan as rules in order, with whole weights and the headers that go with each way.

The propensity header is made from the whole weight, so that what is logged is exactly what the router draws with.
Every way overwrites or removes every header that services read, so that a client's own never reaches them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.release.plan import Plan, Regions, Split
from tidegate.targets.base import Observed

TOTAL = 10_000
"""Sum of the whole weights of a split: a weight is a multiple of 0.01 %."""

ARM, PROPENSITY, RELEASE = "x-tidegate-arm", "x-tidegate-propensity", "x-tidegate-release"
WEIGHTS = "x-tidegate-weights"
"""Every arm's share, where there are more than two or lists are merged: ``v1=0.5,v2=0.25,v3=0.25``."""
REGION = "x-tidegate-region"
"""The region whose split drew the arm, where there are regions."""
RETURNING = "x-tidegate-returning"
"""``1`` where a cookie chose the arm: the client was drawn at an earlier request."""
READ = (ARM, PROPENSITY, RELEASE, WEIGHTS, REGION, RETURNING)
"""What services read of a request, and nothing else."""

PREDICTIONS = ("/predict", "/rank", "/explain", "/v2")
"""Path prefixes that are mirrored; the rest is split only."""
RANK = "/rank"
MERGE = "merge"
"""Name of the merge service's cluster, and the arm that its requests carry."""

COOKIE_SECONDS = 90 * 86400
"""How long a client keeps its arm's cookie; one of a release that is over matches nothing."""


@dataclass(frozen=True)
class Entry:
    """One weighted way: `sets` are request headers it overwrites, `removes` those it takes away.

    cookie: the ``set-cookie`` that its answer brings, empty where there is none.
    """

    version: str
    weight: int
    sets: tuple[tuple[str, str], ...]
    removes: tuple[str, ...] = ()
    cookie: str = ""


@dataclass(frozen=True)
class Match:
    """A request header that a rule asks for: its exact value, or a regular expression for all of it."""

    header: str
    value: str
    regex: bool = False


@dataclass(frozen=True)
class Rule:
    """Requests under one of `prefixes` (whole path segments) and with `match` go by `entries`; copies to `mirrors`."""

    prefixes: tuple[str, ...]
    match: Match | None
    entries: tuple[Entry, ...]
    mirrors: tuple[str, ...] = ()


def rules(plan: Plan) -> tuple[Rule, ...]:
    """The plan as rules, the first that matches decides.

    More of the path comes first, then a rule that asks for a header: the order in which the Gateway API chooses too.
    """
    merged = (Rule((RANK,), None, (_merge(plan),)),) if plan.merge else ()
    mirrored = tuple(path for path in PREDICTIONS if not (plan.merge and path == RANK))
    ways = [*_returning(plan), *_by_region(plan), (None, entries(plan))]
    return (
        *merged,
        *(Rule(mirrored, match, found, plan.mirrors) for match, found in ways),
        *(Rule(("/",), match, found) for match, found in ways),
    )


def meaning(found: Sequence[Rule]) -> Observed:
    """The way back: what rules, as a router has them in force, do with traffic; nothing where there are none."""
    if not found:
        return Observed()
    last = found[-1]  # of everything: no header is asked for
    sets = [dict(entry.sets) for rule in found for entry in rule.entries]
    cookie = next((entry.cookie for entry in last.entries if entry.cookie), "")
    merged = [dict(rule.entries[0].sets) for rule in found if rule.entries[0].version == MERGE]
    return Observed(
        split=_split_of(last),
        mirrors=max((rule.mirrors for rule in found), key=len),
        release=next((headers[RELEASE] for headers in sets if RELEASE in headers), ""),
        sticky=cookie.partition("=")[0],
        regions=_regions_of(found),
        merge=tuple(version for version, _ in shares_of(merged[0].get(WEIGHTS, ""))) if merged else (),
    )


def _split_of(rule: Rule) -> Split:
    return tuple((entry.version, entry.weight / TOTAL) for entry in rule.entries)


def _regions_of(found: Sequence[Rule]) -> Regions | None:
    by_region = [
        (rule.match, dict(rule.entries[0].sets)[REGION], _split_of(rule))
        for rule in found
        if rule.match and "/" in rule.prefixes and REGION in dict(rule.entries[0].sets)
    ]
    if not by_region:
        return None
    return Regions(by_region[0][0].header, tuple((name, split) for _, name, split in by_region))


def entries(plan: Plan) -> tuple[Entry, ...]:
    """The plan's own split, each version with its whole weight of `TOTAL` and its headers."""
    return _entries(plan, plan.split)


def cookie_of(plan: Plan, version: str) -> str:
    """The value by which a client keeps the arm of its first request."""
    return f"{plan.release}.{version}"


def _entries(plan: Plan, split: Split, region: str = "") -> tuple[Entry, ...]:
    whole = whole_weights([weight for _, weight in split])
    shares = {version: repr(weight / TOTAL) for (version, _), weight in zip(split, whole, strict=True)}
    compared = len(split) > 1 or bool(plan.mirrors)
    more = {
        # where nothing is compared the row is no evidence of the release
        RELEASE: plan.release if compared else "",
        WEIGHTS: ",".join(f"{version}={share}" for version, share in shares.items()) if len(split) > 2 else "",
        REGION: region,
    }
    return tuple(
        _entry(version, weight, {ARM: version, PROPENSITY: shares[version], **more}, _set_cookie(plan, version))
        for (version, _), weight in zip(split, whole, strict=True)
    )


def _entry(version: str, weight: int, headers: dict[str, str], cookie: str = "") -> Entry:
    sets = tuple((name, value) for name, value in headers.items() if value)
    return Entry(version, weight, sets, tuple(name for name in READ if not headers.get(name)), cookie)


def _set_cookie(plan: Plan, version: str) -> str:
    if not plan.sticky:
        return ""
    return f"{plan.sticky}={cookie_of(plan, version)}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax"


def _returning(plan: Plan) -> list[tuple[Match | None, tuple[Entry, ...]]]:
    """A rule per arm for clients that bring its cookie: the same headers as when it was drawn, and that it was not."""
    if not plan.sticky:
        return []
    return [
        (
            Match("cookie", cookie_pattern(plan.sticky, cookie_of(plan, entry.version)), regex=True),
            (_entry(entry.version, TOTAL, {**dict(entry.sets), RETURNING: "1"}),),
        )
        for entry in entries(plan)
    ]


def cookie_pattern(name: str, value: str) -> str:
    """A regular expression (RE2) for a whole ``cookie`` header in which NAME=VALUE stands."""
    return rf"(.*;\s*)?{re.escape(name)}={re.escape(value)}(\s*;.*)?"


def _by_region(plan: Plan) -> list[tuple[Match | None, tuple[Entry, ...]]]:
    if plan.regions is None:
        return []
    header = plan.regions.header
    return [(Match(header, value), _entries(plan, split, value)) for value, split in plan.regions.splits]


def _merge(plan: Plan) -> Entry:
    """Every version is asked, so each has the share 1.0."""
    asked = ",".join(f"{version}=1.0" for version in plan.merge)
    return _entry(MERGE, TOTAL, {ARM: MERGE, PROPENSITY: "1.0", RELEASE: plan.release, WEIGHTS: asked})


def shares_of(weights: str) -> tuple[tuple[str, float], ...]:
    """The inverse of the weights header: (version, share) pairs; empty when it is not one."""
    try:
        pairs = [part.rpartition("=") for part in weights.split(",")]
        return tuple((version, float(share)) for version, _, share in pairs)
    except ValueError:
        return ()


def whole_weights(weights: list[float]) -> list[int]:
    """Weights that sum to 1 as whole numbers of `TOTAL`, each at least 1: largest remainder, the first of equals."""
    exact = [weight * TOTAL for weight in weights]
    whole = [max(1, int(value + 1e-9)) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (whole[i] - exact[i], i))
    for i in by_remainder[: max(0, TOTAL - sum(whole))]:
        whole[i] += 1
    while sum(whole) > TOTAL:
        whole[whole.index(max(whole))] -= 1
    return whole
