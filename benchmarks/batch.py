"""Batch prediction of 10 million flights beside bare ONNX Runtime on the same rows.

Bare: the rows as one array in memory, scored by ONNX Runtime with as many threads as there are cores, in the faster of
two ways: its own threads over large calls, or a thread a core over small ones. Ours: `tidegate serve batch` from
Parquet to Parquet, so reading, encoding of categories, scoring and writing. All take turns, partition by partition, so
that what else the machine does meets all.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.results import Budget, Result, say
from demo.story import ROOT, command
from flights.requests import load_traffic
from tidegate.serve import batch_rows
from tidegate.serve.batch import Batch, threads
from tidegate.serve.batch_jobs import job_of
from tidegate.serve.loaded import LoadedModel, onnx_runner
from tidegate.spec import load_model
from tidegate.train.model_file import folder_name

MODEL = ROOT / "k8s/models/flight-delay.yaml"
ROWS, PARTITIONS, LARGE = 10_000_000, 20, 65_536
LIMIT = 1.3
LARGE_CALLS, SMALL_CALLS = (
    "bare ONNX Runtime, its threads, calls of 65,536 rows",
    "bare, a thread a core, calls of 2,048",
)
OURS = "ours, Parquet to Parquet"
Cost = tuple[float, float]
"""(wall seconds, CPU-seconds of this process)."""


def run() -> Result:
    """Train v1, write the partitions, then measure in turns."""
    with tempfile.TemporaryDirectory(prefix="tidegate-batch-") as made:
        folder = Path(made)
        say("batch: v1 is trained, the rows are written (not counted)")
        command("run", str(MODEL), "--until", "2013-07-01T04:00Z", "--state", str(folder / "state"))
        job = job_of(load_model(MODEL), folder / "state", str(folder / "rows"), str(folder / "out"), "v1", 0.0)
        batch = Batch(job)
        encoded = _rows(folder / "rows", batch.model)
        path = folder / "state/models" / folder_name(job.digest) / "model.onnx"
        ways = {LARGE_CALLS: _own_threads(path), SMALL_CALLS: _many(path)}
        costs: dict[str, list[Cost]] = {name: [] for name in (*ways, OURS)}
        for number, (part, rows) in enumerate(zip(batch.partitions(), encoded, strict=True), 1):
            for name, score in ways.items():
                costs[name].append(_cost(partial(score, rows)))
            costs[OURS].append(_cost(partial(batch.partition, part)))
            say(
                f"batch: partition {number} of {PARTITIONS}: "
                + ", ".join(f"{of[-1][0]:.1f} s" for of in costs.values())
            )
        done = batch.run()
        assert (done.rows, done.scored) == (ROWS, 0), done
        return told(costs)


def _rows(folder: Path, model: LoadedModel) -> list[NDArray[np.float32]]:
    """Write a year's questions over and over, each with a name of its own; returns each partition encoded."""
    folder.mkdir()
    year = load_traffic(datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 12, 28, tzinfo=UTC))
    each, parts = ROWS // PARTITIONS, []
    for number in range(PARTITIONS):
        part = year[(pl.int_range(each, eager=True) + number * each) % year.height]
        name = pl.col("flight_id") + f"-{number}-" + pl.int_range(pl.len()).cast(pl.String)
        part.with_columns(flight_id=name).write_parquet(folder / f"part-{number:03d}.parquet")
        parts.append(model.schema.encode_frame(part))
    return parts


def _own_threads(path: Path) -> Callable[[NDArray[np.float32]], None]:
    """ONNX Runtime with its own threads, in large calls."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def score(rows: NDArray[np.float32]) -> None:
        for start in range(0, len(rows), LARGE):
            session.run(["score"], {"features": rows[start : start + LARGE]})

    return score


def _many(path: Path) -> Callable[[NDArray[np.float32]], None]:
    """A thread a core, each with small calls of its own; the session on one thread."""
    run = onnx_runner(path)

    def some(rows: NDArray[np.float32]) -> None:
        for start in range(0, len(rows), batch_rows.CHUNK):
            run(rows[start : start + batch_rows.CHUNK])

    def score(rows: NDArray[np.float32]) -> None:
        with ThreadPoolExecutor(threads()) as pool:
            list(pool.map(some, (rows[start : start + LARGE] for start in range(0, len(rows), LARGE))))

    return score


def _cost(work: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def told(costs: dict[str, list[Cost]]) -> Result:
    """The table: the sums over all partitions, and the median of the partitions' own ratios."""
    each = {name: [sum(part) / (ROWS / 1e6) for part in zip(*of, strict=True)] for name, of in costs.items()}
    bare = min((LARGE_CALLS, SMALL_CALLS), key=lambda name: each[name][0])
    pairs = list(zip(costs[OURS], costs[bare], strict=True))
    wall = statistics.median(ours[0] / of[0] for ours, of in pairs)
    total, cpu = (each[OURS][kind] / each[bare][kind] for kind in (0, 1))
    rows = [(name, f"{of[0]:.2f} s", f"{of[1]:.2f} s", f"{1 / of[0]:.2f} M") for name, of in each.items()]
    budget = Budget("batch, 10 M rows, beside bare ONNX Runtime", f"within {LIMIT}x", f"{wall:.2f}x", wall <= LIMIT)
    notes = [
        f"{threads()} threads each, in turns; the budget is the median of {PARTITIONS} partitions' ratios of wall time;"
        f" that of the sums is {total:.2f}x, of the CPU-seconds {cpu:.2f}x",
        "bare scores arrays in memory; ours reads Parquet, encodes, scores, writes keys, scores, model and time",
    ]
    columns = ("per million rows", "wall", "CPU", "rows/s")
    figures = {"seconds": costs, "ratio": wall, "ratio_of_sums": total, "cpu_ratio": cpu, "rows": ROWS}
    return Result("batch", "10 million flights in batch", columns, rows, (budget,), notes, figures)
