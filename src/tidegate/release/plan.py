"""The wanted traffic of one model, as a value: what runs, how requests are split, who gets a copy.

A `Plan` is what a release asks of a `Target`; renderers (`targets.envoy`, `targets.gateway`) turn the same plan into
the same weights, mirrors, cookie and region rules and propensity headers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Split = tuple[tuple[str, float], ...]
"""(version, weight) pairs, weights in (0, 1] that sum to 1; the weight is the propensity that is logged."""


@dataclass(frozen=True)
class Backend:
    """One model version that must run: its name (``v1.1``), its digest and how many replicas of it."""

    version: str
    digest: str
    replicas: int = 1


@dataclass(frozen=True)
class Regions:
    """Splits of their own by the value of a request header, in the regions' order.

    A request without the header, or with a value that is not named, goes by the plan's own split.
    """

    header: str
    splits: tuple[tuple[str, Split], ...]


@dataclass(frozen=True)
class Plan:
    """Which versions run and how traffic reaches them.

    Parameters
    ----------
    model: name of the Model.
    backends: every version that must be able to answer; a version in no split and no mirror is being drained.
    split: who answers a request that no other rule speaks of.
    mirrors: versions that get a copy of every request; never one that is an arm of a split.
    release: name of the open release; empty where nothing is compared.
    sticky: name of the cookie by which a client keeps the arm of its first request; empty: drawn by request.
    regions: splits by region; None: one split for all.
    merge: versions whose lists the merge service mixes, the champion first; ``/rank`` goes to it. Empty: it does not
        run, and ``/rank`` is answered like everything else.

    Raises
    ------
    ValueError: when weights do not sum to 1, a version is unknown or is both an arm and a mirror, or two rules would
        contradict each other.
    """

    model: str
    backends: tuple[Backend, ...]
    split: Split
    mirrors: tuple[str, ...] = field(default=())
    release: str = ""
    sticky: str = ""
    regions: Regions | None = None
    merge: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[Split, ...]:
        """The plan's own split, then those of its regions."""
        return (self.split, *(split for _, split in self.regions.splits)) if self.regions else (self.split,)

    def __post_init__(self) -> None:
        known = {backend.version for backend in self.backends}
        arms = {version for split in self.splits for version, _ in split}
        twice = [one for one in (*self.splits, [(v, 1) for v in self.merge]) if len(dict(one)) != len(one)]
        if len(known) != len(self.backends) or twice:
            raise ValueError("a version stands twice in the plan")
        if unknown := (arms | set(self.mirrors) | set(self.merge)) - known:
            raise ValueError(f"no backend for {sorted(unknown)}")
        if both := arms & set(self.mirrors):
            raise ValueError(f"{sorted(both)} would get its own requests mirrored")
        for split in self.splits:
            if any(not 0 < weight <= 1 for _, weight in split) or abs(sum(w for _, w in split) - 1) > 1e-9:
                raise ValueError(f"weights {split} do not sum to 1")
        compares = self.mirrors or self.merge or any(len(split) > 1 for split in self.splits)
        if self.release and not compares:
            raise ValueError("a release compares: a split of several arms, a mirror or a merge")
        if self.sticky and (self.regions or not self.release):
            raise ValueError("a sticky split belongs to a release and has no regions")
        if len(self.merge) == 1:
            raise ValueError("the lists of at least two versions are merged")
