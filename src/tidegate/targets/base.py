"""The port to where models run. Two methods, declarative; every implementation passes tests/contract/target.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tidegate.release.plan import Plan, Regions, Split


@dataclass(frozen=True)
class Running:
    """One version as it runs: `ready` replicas answered their readiness probe."""

    version: str
    digest: str
    ready: int


@dataclass(frozen=True)
class Observed:
    """What runs and how traffic goes, as seen on the target; never what was asked for. Fields are those of a `Plan`."""

    running: tuple[Running, ...] = ()
    split: Split = ()
    mirrors: tuple[str, ...] = ()
    release: str = ""
    sticky: str = ""
    regions: Regions | None = None
    merge: tuple[str, ...] = ()


class Target(Protocol):
    """Where models run."""

    def apply(self, plan: Plan) -> None:
        """Make the target look like `plan`; idempotent, and no request fails on the way.

        A new version answers its readiness probe before it gets traffic; one that left the plan is drained first.
        Raises NotReady when a version does not become ready, PlatformError for other trouble; traffic is unchanged.
        """

    def observe(self) -> Observed:
        """What runs now."""
