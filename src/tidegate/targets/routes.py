"""What both renderers share: a plan's weights as whole numbers and the headers that go with each.

The propensity header is made from the whole weight, so that what is logged is exactly what the router draws with.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.release.plan import Plan

TOTAL = 10_000
"""Sum of the whole weights of a split: a weight is a multiple of 0.01 %."""

ARM, PROPENSITY, RELEASE = "x-tidegate-arm", "x-tidegate-propensity", "x-tidegate-release"


@dataclass(frozen=True)
class Entry:
    """One weighted way of a split: `sets` are headers it overwrites, `removes` those it takes away."""

    version: str
    weight: int
    sets: tuple[tuple[str, str], ...]
    removes: tuple[str, ...] = ()


def entries(plan: Plan) -> tuple[Entry, ...]:
    """The plan's split, each version with its whole weight of `TOTAL` and its headers."""
    return tuple(
        _entry(version, weight, plan.release)
        for (version, _), weight in zip(plan.split, whole_weights([weight for _, weight in plan.split]), strict=True)
    )


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


def _entry(version: str, weight: int, release: str) -> Entry:
    sets = [(ARM, version), (PROPENSITY, repr(weight / TOTAL))]
    if release:
        return Entry(version, weight, (*sets, (RELEASE, release)))
    return Entry(version, weight, tuple(sets), (RELEASE,))
