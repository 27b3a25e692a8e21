"""`tidegate judge` over a file of ten million rows: what each look costs, and the reading before the first."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tidegate.release.judge_file import judge_file

POLICY = "loss: {margin: 0.001%}\nerrors: {margin: 0.001%}\nlatency: {slo: 50ms, margin: 0.001%}\nblock: 1d\n"
"""Margins that no look can prove, so that the file is read to its end."""


@dataclass(frozen=True)
class Looks:
    """Seconds: of the reading and checking with the first look, and of each later look."""

    first: float
    later: tuple[float, ...]

    @property
    def growth(self) -> float:
        """The median of the last four looks over that of the first four."""
        return float(np.median(self.later[-4:]) / np.median(self.later[:4]))


def measure(rows: int = 10_000_000, looks: int = 10, seed: int = 1) -> Looks:
    """A split in halves over 58 days, three metrics and blocks."""
    with tempfile.TemporaryDirectory(prefix="tidegate-judge-looks-") as made:
        path, policy = Path(made) / "evidence.parquet", Path(made) / "policy.yaml"
        policy.write_text(POLICY)
        _write(path, rows, seed)
        seconds, began = [], time.perf_counter()
        for _ in judge_file(path, policy, rows // looks):
            seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
    assert len(seconds) == looks
    return Looks(seconds[0], tuple(seconds[1:]))


def _write(path: Path, rows: int, seed: int) -> None:
    import polars as pl

    rng = np.random.default_rng(seed)
    arm = pl.Series(np.where(rng.random(rows) < 0.5, "challenger", "champion"))
    columns = {"time": np.arange(rows) * 0.5, "unit": np.arange(rows), "propensity": 0.5, "arm": arm}
    more = {"loss": rng.random(rows) * 0.5, "error": rng.random(rows) < 0.002, "latency_ms": rng.exponential(8, rows)}
    pl.DataFrame({**columns, **more}).write_parquet(path)
