"""One window of the diagnosis report: drawn, diagnosed, told in a line; many of them on every core, resumable."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import diagnosis_worlds as worlds
from benchmarks.results import say
from tidegate.monitor.diagnose import diagnose

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


def look(cell: Cell) -> dict[str, Any]:
    """Draw the window and diagnose it."""
    world, rng = world_of(cell), np.random.default_rng([cell.seed, cell.repeat, cell.rows, 1000 + cell.days])
    reference = world.reference
    if cell.cause == worlds.UNDERSAMPLED:
        reference, current = worlds.undersampled(world, cell.rows, cell.clear, rng)
    else:
        plant = {"none": worlds.none, "mcar": worlds.mcar}.get(cell.cause) or worlds.CAUSES[cell.cause][1]
        current = plant(world, cell.rows, cell.clear, rng)
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


def _keyed(cell: Cell) -> tuple[str, dict[str, Any]]:
    return cell.key, look(cell)


def look_at(cells: Iterable[Cell], kept: Path, processes: int | None = None) -> dict[Cell, dict[str, Any]]:
    """Every cell's result; what `kept` (JSON lines) has is not computed again."""
    wanted = {cell.key: cell for cell in cells}
    done = {key: found for key, found in _read(kept) if key in wanted}
    # cells of one world together: a world is made once a process
    todo = sorted((c for k, c in wanted.items() if k not in done), key=lambda c: (c.world, c.seed, c.days, c.repeat))
    began = time.monotonic()
    with kept.open("a") as out, multiprocessing.get_context("spawn").Pool(processes or os.cpu_count()) as pool:
        for count, (key, found) in enumerate(pool.imap_unordered(_keyed, todo, chunksize=8), 1):
            done[key] = found
            out.write(json.dumps([key, found]) + "\n")
            if count % 200 == 0 or count == len(todo):
                say(f"diagnosis_report: {count} of {len(todo)} windows, {time.monotonic() - began:.0f} s")
                out.flush()
    return {wanted[key]: found for key, found in done.items()}


def _read(kept: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if kept.exists():
        for line in kept.read_text().splitlines():
            yield json.loads(line)
