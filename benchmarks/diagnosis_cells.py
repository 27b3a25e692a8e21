"""One window of the diagnosis report: drawn and diagnosed."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks import diagnosis_worlds as worlds
from tidegate.monitor.diagnose import diagnose
from tidegate.monitor.drift import Window

ALPHA = 0.005
"""As for a single report, which is what each window is."""


@dataclass(frozen=True)
class Cell:
    """Which window: `repeat` seeds its draw, `seed` its world."""

    world: str
    rows: int
    cause: str
    clear: bool
    seed: int
    repeat: int
    days: int = 0

    @property
    def key(self) -> str:
        """One text a window."""
        return json.dumps(asdict(self), sort_keys=True)


def world_of(cell: Cell) -> worlds.World:
    """Its world; made once a process."""
    if cell.world == "flights_days":
        return worlds.flights_days(cell.seed, cell.days)
    return {"synth": worlds.synth, "flights": worlds.flights}[cell.world](cell.seed)


def windows_of(cell: Cell) -> tuple[Window, Window]:
    """The reference and the current window."""
    world, rng = world_of(cell), np.random.default_rng([cell.seed, cell.repeat, cell.rows, 1000 + cell.days])
    if cell.cause == worlds.UNDERSAMPLED:
        return worlds.undersampled(world, cell.rows, cell.clear, rng)
    plant = {"none": worlds.none, "mcar": worlds.mcar}.get(cell.cause) or worlds.CAUSES[cell.cause][1]
    return world.reference, plant(world, cell.rows, cell.clear, rng)


def look(cell: Cell) -> dict[str, Any]:
    """Draw the window and diagnose it."""
    reference, current = windows_of(cell)
    began = time.process_time()
    found = diagnose(reference, current, ALPHA)
    p = {kind: min(one.p for one in found.evidence if one.kind == kind) for kind in {e.kind for e in found.evidence}}
    return {
        "finding": found.finding,
        "findings": found.findings,
        "p": p,
        "rows": len(current),
        "seconds": time.process_time() - began,
    }
