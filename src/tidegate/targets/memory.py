"""A target in memory: what a plan asks for is there at once. For tests, simulations and thousands of models."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tidegate.errors import NotReady
from tidegate.release.plan import Plan
from tidegate.targets import envoy
from tidegate.targets.base import Observed, Running


@dataclass
class MemoryTarget:
    """Keeps the last plan; versions in `broken` never become ready."""

    broken: set[str] = field(default_factory=set)
    _observed: Observed = field(default_factory=Observed)

    def apply(self, plan: Plan) -> None:
        """Take the plan over; NotReady, and no change, when it needs a version that is broken."""
        serving = {(running.version, running.digest) for running in self._observed.running}
        for backend in plan.backends:
            if backend.version in self.broken and (backend.version, backend.digest) not in serving:
                raise NotReady(backend.version, "")
        running = sorted((b.version, b.digest, b.replicas) for b in plan.backends)
        traffic = envoy.read_routes(envoy.routes(plan)["resources"][0])
        self._observed = replace(traffic, running=tuple(Running(*one) for one in running))

    def observe(self) -> Observed:
        """What the last plan left running."""
        return self._observed

    def mark(self, now: float) -> float:
        """Nothing is logged here, so every row is on disk."""
        return now

    def writers(self) -> frozenset[str]:
        """Nobody writes."""
        return frozenset()
