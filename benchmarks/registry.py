"""The registry in a storm, 200 times: 8 processes register and promote 50 candidates at once, and are killed."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks.registry_side import CANDIDATES, PROCESSES, Round, storm
from benchmarks.results import Budget, Result, say

ROUNDS = 200
COLUMNS = ("over all rounds", "least", "median", "most", "in all")


def run() -> Result:
    """Each round in a folder of its own, by its own seed; a round that breaks a promise is counted with its reason."""
    held: list[Round] = []
    broken: list[str] = []
    for seed in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="tidegate-registry-") as folder:
            try:
                held.append(storm(Path(folder), seed))
            except AssertionError as error:
                broken.append(f"seed {seed}: {error}")
        if seed % 20 == 19:
            say(f"registry: {seed + 1} of {ROUNDS} rounds, {len(broken)} broken")
    promise = "one history, no lost event, the champion never worse than one already promoted"
    budget = Budget(promise, f"{ROUNDS} of {ROUNDS} rounds", f"{len(held)} of {ROUNDS}", not broken)
    names = ("kills", "events", "promotions", "seconds")
    rows = [_row(name, [float(getattr(one, name)) for one in held]) for name in names if held]
    notes = (f"{CANDIDATES} candidates, {PROCESSES} processes a round; kill -9 at random moments", *broken[:5])
    figures = {name: [getattr(one, name) for one in held] for name in names}
    return Result("registry", "registering and promoting in a storm", COLUMNS, rows, (budget,), notes, figures)


def _row(name: str, values: list[float]) -> tuple[str, ...]:
    told = (min(values), statistics.median(values), max(values), sum(values))
    return name, *(f"{value:,.1f}" if name == "seconds" else f"{value:,.0f}" for value in told)
