"""What a model costs to run and to make: milliseconds a row, bytes, CPU-seconds. Does I/O: it reads the files and runs.

Latency is measured in rounds that ask both models in turn, on one thread and one row a call, so that what else the
machine does falls on both alike; a round's difference of medians is one observation, as a day is for quality.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.spec import Objective
from tidegate.steps import COST

if TYPE_CHECKING:
    import polars as pl

ROUNDS, CALLS = 15, 40


def expense(
    model: Path, champion: Path, rows: pl.DataFrame, objectives: Sequence[Objective], before: float | None
) -> dict[str, Any]:
    """What the objectives that are expenses are decided from; `before`: CPU-seconds of the champion's training."""
    asked, found = {one.metric for one in objectives}, {}
    if "latency" in asked and rows.height:
        found["latency"] = _latency(model, champion, rows)
    if "size" in asked:
        sizes = [(folder / "model.onnx").stat().st_size for folder in (model, champion)]
        found["size"] = dict(zip(("candidate", "champion"), sizes, strict=True))
    if "training_cost" in asked:
        found["training_cost"] = {"candidate": _cpu_seconds(model), "champion": before}
    return found


def _latency(model: Path, champion: Path, rows: pl.DataFrame) -> dict[str, Any]:
    from tidegate.serve.loaded import load_model

    pair = [load_model(folder) for folder in (model, champion)]
    asked = rows[np.linspace(0, rows.height - 1, CALLS).astype(int)]
    encoded = [one.schema.encode_frame(asked) for one in pair]
    medians = np.array([[_median(m, e) for m, e in zip(pair, encoded, strict=True)] for _ in range(ROUNDS)])
    return {
        "rows": [1] * ROUNDS,
        "sums": (medians[:, 0] - medians[:, 1]).tolist(),
        **{f"{name}_ms": float(np.median(medians[:, i])) for i, name in enumerate(("candidate", "champion"))},
    }


def _median(model: Any, encoded: Any) -> float:
    spent = []
    for row in range(len(encoded)):
        began = time.perf_counter()
        model.score(encoded[row : row + 1])
        spent.append(1000 * (time.perf_counter() - began))
    return float(np.median(spent))


def _cpu_seconds(folder: Path) -> float | None:
    try:
        return float(json.loads((folder / COST).read_text(encoding="utf-8"))["cpu_seconds"])
    except (OSError, ValueError, KeyError):
        return None
