"""One partition added to many: what ingest and version pay for the new one, and how that grows with the others.

A partition is a day of one table in a Parquet file of its own, 1,000 rows. Bytes are what the process read and wrote
(``rchar`` and ``wchar`` of /proc/self/io), whether or not they came from the disk.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl

from benchmarks.results import Budget, Result, say
from tidegate.ingest.files import Files
from tidegate.ingest.step import ingest
from tidegate.validate.contract import Column, Contract, TableContract
from tidegate.version.step import version
from tidegate.workload import Feature, Part, Workload

NAME = "benchmarks.partitions:readings"
FOLDER = "TIDEGATE_BENCH_FOLDER"
ROWS = 1000
SIZES = (100, 300, 1000)
REPEATS = 5
SHARE = 0.1
START = datetime(2020, 1, 1, tzinfo=UTC)
UNTIL = "2030-01-01"


class _Chosen(Files):
    def __init__(self) -> None:
        super().__init__({})

    def parts(self) -> list[Part]:
        return list(Files({"readings": os.environ[FOLDER]}).parts())


def _contract() -> Contract:
    numbers = [Column(f"x{i}", "number", nullable=True) for i in range(6)]
    columns = (Column("sensor", "text"), Column("event_time", "time"), *numbers)
    return Contract({"readings": TableContract(columns, ("sensor", "event_time"))})


def _unused(*_: object) -> NoReturn:
    raise NotImplementedError


readings = Workload(
    name="readings",
    key="sensor",
    source=_Chosen(),
    contract=_contract,
    definitions=_unused,
    entities=_unused,
    features=(Feature("x0", "numeric"),),
    feature_service="readings",
    partition="day",
)


@dataclass(frozen=True)
class Cost:
    """Seconds, and bytes read and written, of ingest and version together; `steps`: the seconds of each."""

    seconds: float
    read: int
    written: int
    steps: tuple[float, float]


def run() -> Result:
    """Measure each size in a folder of its own; the median of five new partitions, one after the other."""
    figures: dict[str, Any] = {}
    for size in SIZES:
        say(f"partitions: {size}")
        with tempfile.TemporaryDirectory(prefix="tidegate-partitions-") as made:
            figures[str(size)] = _one_size(Path(made), size)
    rows = [(f"{size:,}", *_cells(figures[str(size)])) for size in SIZES]
    columns = ("partitions", "all of them", "one more", "the same alone", "nothing new", "one more: read", "all: read")
    most = figures[str(SIZES[-1])]
    return Result(
        "partitions", "one partition added to many", columns, rows, _budgets(most), _notes(most), {"sizes": figures}
    )


def _one_size(base: Path, size: int) -> dict[str, Any]:
    folder = base / "in"
    folder.mkdir()
    os.environ[FOLDER] = str(folder)
    for day in range(size):
        _write(folder, day)
    whole = _cost(base, "many")
    more, alone = [], []
    for day in range(size, size + REPEATS):
        _write(folder, day)
        more.append(_cost(base, "many"))
    nothing = [_cost(base, "many") for _ in range(REPEATS)]
    for turn in range(REPEATS):
        os.environ[FOLDER] = str(folder / f"{size + turn:05d}.parquet")
        alone.append(_cost(base, f"alone-{turn}"))
    costs = {"whole": whole, "more": _median(more), "alone": _median(alone), "nothing": _median(nothing)}
    return {name: cost.__dict__ for name, cost in costs.items()}


def _write(folder: Path, day: int) -> None:
    draw = np.random.default_rng(day)
    begins, n = START + timedelta(days=day), ROWS
    table = pl.DataFrame(
        {
            "sensor": [f"s{i % 50:02d}" for i in range(n)],
            "event_time": [begins + timedelta(seconds=86 * i) for i in range(n)],
            **{f"x{i}": draw.normal(size=n) for i in range(6)},
        }
    )
    table.write_parquet(folder / f"{day:05d}.parquet")


def _cost(base: Path, name: str) -> Cost:
    """Ingest, then version of what it wrote: the rows are good, so the gate between them would link every file."""
    out, state = base / f"{name}-arrivals", base / f"{name}-state"
    before, began = _io(), time.perf_counter()
    ingest(NAME, UNTIL, out, state)
    between = time.perf_counter()
    version(out, state, base / "v.json")
    end, after = time.perf_counter(), _io()
    return Cost(end - began, after[0] - before[0], after[1] - before[1], (between - began, end - between))


def _io() -> tuple[int, int]:
    lines = Path("/proc/self/io").read_text().splitlines()
    found = dict(line.split(": ") for line in lines)
    return int(found["rchar"]), int(found["wchar"])


def _median(costs: list[Cost]) -> Cost:
    middle: Callable[[Any], Any] = statistics.median
    steps = tuple(middle(cost.steps[i] for cost in costs) for i in range(2))
    return Cost(
        middle(cost.seconds for cost in costs),
        int(middle(cost.read for cost in costs)),
        int(middle(cost.written for cost in costs)),
        (steps[0], steps[1]),
    )


def _cells(found: dict[str, Any]) -> list[str]:
    seconds = [f"{found[name]['seconds']:.3f} s" for name in ("whole", "more", "alone", "nothing")]
    return [*seconds, *(f"{found[name]['read'] / 1e6:.2f} MB" for name in ("more", "whole"))]


def _budgets(found: dict[str, Any]) -> list[Budget]:
    whole, more = found["whole"]["seconds"], found["more"]["seconds"]
    share = f"under {SHARE:.0%} of the {SIZES[-1]:,}"
    read = found["more"]["read"] / found["whole"]["read"]
    return [
        Budget("one more partition, seconds", share, f"{more / whole:.1%}", more < SHARE * whole),
        Budget("one more partition, bytes read", share, f"{read:.1%}", read < SHARE),
    ]


def _notes(found: dict[str, Any]) -> list[str]:
    steps = {name: [f"{1000 * s:.0f} ms" for s in found[name]["steps"]] for name in ("more", "alone")}
    return [
        f"One more beside {SIZES[-1]:,}: ingest {steps['more'][0]}, version {steps['more'][1]}; alone in an empty state"
        f" {steps['alone'][0]} and {steps['alone'][1]}. What grows with the others is names, not rows: listing the"
        " files, linking the partitions, reading and writing the ledger and the manifest.",
        f"A partition has {ROWS:,} rows of 8 columns. One more, alone and nothing new: the median of {REPEATS}.",
    ]
