"""The wanted traffic of one model, as a value: what runs, how requests are split, who gets a copy.

A `Plan` is what a release asks of a `Target`; renderers (`targets.envoy`, `targets.gateway`) turn the same plan into
the same weights and propensity headers.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Backend:
    """One model version that must run: its name (``v1.1``), its digest and how many replicas of it."""

    version: str
    digest: str
    replicas: int = 1


@dataclass(frozen=True)
class Plan:
    """Which versions run and how traffic reaches them.

    Parameters
    ----------
    model: name of the Model.
    backends: every version that must be able to answer; a version in no split and no mirror is being drained.
    split: (version, weight) pairs, weights in (0, 1] that sum to 1; the weight is the propensity that is logged.
    mirrors: versions that get a copy of every request; never one that is an arm of the split.
    release: name of the open release, or empty.

    Raises
    ------
    ValueError: when weights do not sum to 1, a version is unknown or is both an arm and a mirror.
    """

    model: str
    backends: tuple[Backend, ...]
    split: tuple[tuple[str, float], ...]
    mirrors: tuple[str, ...] = field(default=())
    release: str = ""

    def __post_init__(self) -> None:
        known = {backend.version for backend in self.backends}
        arms = {version for version, _ in self.split}
        if len(known) != len(self.backends) or len(arms) != len(self.split):
            raise ValueError("a version stands twice in the plan")
        if unknown := (arms | set(self.mirrors)) - known:
            raise ValueError(f"no backend for {sorted(unknown)}")
        if both := arms & set(self.mirrors):
            raise ValueError(f"{sorted(both)} would get its own requests mirrored")
        if any(not 0 < weight <= 1 for _, weight in self.split) or abs(sum(w for _, w in self.split) - 1) > 1e-9:
            raise ValueError(f"weights {self.split} do not sum to 1")
