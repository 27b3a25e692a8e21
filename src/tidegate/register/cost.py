"""What runs cost: seconds, CPU-seconds, peak memory and bytes by step, run and model version. Pure.

A step that came from the cache costs what fetching it did. What a step was not asked to record counts as 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidegate.journal.events import Event
from tidegate.register.decide import ENDS

if TYPE_CHECKING:
    from tidegate.steps import StepRecord

ADDED = ("seconds", "cpu_seconds", "bytes_in", "bytes_out")
"""Figures that add up; of `peak_mib` the largest counts."""

Cost = Mapping[str, Any]
Costs = Mapping[str, Cost]
"""A run's costs by step."""


def costs_of(records: Iterable[StepRecord]) -> dict[str, dict[str, Any]]:
    """The records of a run's steps as its costs."""
    names = (*ADDED, "peak_mib", "cached")
    return {record.step: {name: getattr(record, name) for name in names} for record in records}


def total(costs: Iterable[Cost]) -> dict[str, float]:
    """Costs taken together."""
    known = list(costs)
    sums: dict[str, float] = {name: sum(one.get(name, 0) for one in known) for name in ADDED}
    return {**sums, "peak_mib": max((one.get("peak_mib", 0.0) for one in known), default=0.0)}


def by_run(events: Sequence[Event], records: Mapping[str, Costs]) -> dict[str, Costs]:
    """Every run that the journal names, in order, with its costs by step.

    `records`: what is on disk of a run, the register step included, which has not ended when it writes its event; where
    nothing is there, the event's own costs count.
    """
    found: dict[str, Costs] = {}
    for event in events:
        if event.kind in ("trigger.started", *ENDS):
            run = event.data["run"]
            found[run] = {**found.get(run, {}), **event.data.get("cost", {}), **records.get(run, {})}
    return found


def table(events: Sequence[Event], records: Mapping[str, Costs]) -> dict[str, Any]:
    """``{"total", "steps", "runs", "versions"}``; a version's are the runs that made it or came to the same files."""
    runs = by_run(events, records)
    versions: dict[str, list[Cost]] = {}
    for event in events:
        if event.kind in ENDS and event.data.get("version"):
            versions.setdefault(event.data["version"], []).extend(runs[event.data["run"]].values())
    steps: dict[str, list[Cost]] = {}
    for costs in runs.values():
        for step, cost in costs.items():
            steps.setdefault(step, []).append(cost)
    return {
        "total": total(cost for costs in runs.values() for cost in costs.values()),
        "steps": {step: total(costs) for step, costs in steps.items()},
        "runs": {run: total(costs.values()) for run, costs in runs.items()},
        "versions": {version: total(costs) for version, costs in versions.items()},
    }


def line(cost: Cost) -> str:
    """A total in words: ``14.2 CPU-seconds, peak 533 MiB, 12.3 MB in, 4.5 MB out``."""
    megabytes = (f"{cost[name] / 1e6:.1f} MB {way}" for name, way in (("bytes_in", "in"), ("bytes_out", "out")))
    return ", ".join([f"{cost['cpu_seconds']:.1f} CPU-seconds", f"peak {cost['peak_mib']:.0f} MiB", *megabytes])
