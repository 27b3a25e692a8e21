"""The table of benchmarks/serving.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.load import Most
from benchmarks.results import Budget, Result
from benchmarks.servers import VERSION
from demo.openloop import Results

CLOSED, OPEN = 4.0, 6.0
"""Seconds of the closed and of the open loop."""

SHARE, RATE = 0.7, 500.0
"""Of a server's own most, and requests a second by key, at which latency is measured by the clock."""

OURS, BY_KEY = "tidegate /predict", "tidegate by key"


@dataclass(frozen=True)
class Line:
    """One way at one size: the closed loop, and the open loop at `rate` requests a second."""

    name: str
    rows: int
    most: Most
    rate: float
    steady: Results


def told(lines: Sequence[Line], commands: Mapping[str, str], release: str) -> Result:
    """The result as a table."""
    rows = [
        (
            line.name, str(line.rows), f"{line.most.rate:,.0f}", f"{1000 * line.most.p50:.2f}",
            f"{1000 * line.most.p99:.2f}", f"{line.rate:,.0f}", f"{1000 * line.steady.p50:.2f}",
            f"{1000 * line.steady.p99:.2f}", str(line.steady.failed),
        )
        for line in lines
    ]  # fmt: skip
    columns = (
        "server",
        "rows",
        "requests/s, most",
        "p50, ms",
        "p99, ms",
        "by the clock, /s",
        "p50, ms",
        "p99, ms",
        "failed",
    )
    notes = [
        f"most: {lines[0].most.how}, {CLOSED:g} s; by the clock: vegeta, {SHARE:.0%} of its own most, {OPEN:g} s.",
        f"peers: {release}; ONNX Runtime on one thread everywhere; every server answered the same scores to 1e-6.",
        "rows are JSON objects for ours and FastAPI, one JSON tensor for /v2 and MLServer, a JSON matrix for BentoML.",
        "Triton's client (tritonclient.http) got the same scores from ours, as JSON and as bytes, a tensor a feature "
        "and one tensor.",
        *(f"{name}: {command}" for name, command in commands.items()),
    ]
    figures = {
        "lines": [
            {"name": one.name, "rows": one.rows, **one.most.__dict__, "rate": one.rate, "steady": one.steady.__dict__}
            for one in lines
        ],
        "commands": dict(commands),
    }
    title = f"one core, the same ONNX model, ours ({VERSION}) from a Bento with the prediction log on"
    return Result("serving", title, columns, rows, budgets(lines), notes, figures)


def budgets(lines: Sequence[Line]) -> list[Budget]:
    """Ours against the peers at one row, its latency at 70 %, and by key."""
    most = {line.name: line.most.rate for line in lines if line.rows == 1}
    mlserver, fastapi = most[OURS] / most["MLServer"], most[OURS] / most["FastAPI + uvicorn"]
    ours = next(line for line in lines if line.name == OURS and line.rows == 1)
    keyed = next(line for line in lines if line.name == BY_KEY and line.rate == RATE)
    failed = sum(line.steady.failed for line in lines if line.name.startswith("tidegate"))
    return [
        Budget("requests/s against MLServer, one row", "at least 4x", f"{mlserver:.1f}x", mlserver >= 4),
        Budget("requests/s against FastAPI + uvicorn, one row", "at least 1x", f"{fastapi:.1f}x", fastapi >= 1),
        _latency(f"p99 at {SHARE:.0%} of its own most, one row", ours),
        _latency(f"p99 by key at {RATE:g}/s", keyed),
        Budget("requests of ours that failed", "none", str(failed), failed == 0),
    ]


def _latency(what: str, line: Line) -> Budget:
    return Budget(what, "under 10 ms", f"{1000 * line.steady.p99:.2f} ms", line.steady.p99 < 0.010)
