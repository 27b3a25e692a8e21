"""The table of benchmarks/serving.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.load import Most
from benchmarks.results import Budget, Result
from benchmarks.servers import VERSION
from tidegate.traffic.openloop import Results

ROUNDS, CLOSED, OPEN = 3, 4.0, 10.0
"""How often each is measured, and seconds of the closed and of the open loop."""

SHARE, RATE = 0.7, 500.0
"""Of a server's own most, and requests a second by key, at which latency is measured by the clock."""

OURS, OURS_V2, BY_KEY = "tidegate /predict", "tidegate /v2 infer", "tidegate by key"
MLSERVER, FASTAPI = "MLServer", "FastAPI + uvicorn"
TIMES = 4
"""How many times the requests of MLServer ours shall answer."""


@dataclass(frozen=True)
class Line:
    """One way at one size: each round's closed loop, and its open loop at `rate` requests a second."""

    name: str
    rows: int
    closed: Sequence[Most]
    rate: float
    by_clock: Sequence[Results]

    @property
    def most(self) -> Most:
        """The round with the middle rate."""
        return sorted(self.closed, key=lambda one: one.rate)[ROUNDS // 2]

    @property
    def steady(self) -> Results:
        """The round with the middle p99."""
        return sorted(self.by_clock, key=lambda one: one.p99)[ROUNDS // 2]

    @property
    def failed(self) -> int:
        """Requests by the clock that failed, of all rounds."""
        return sum(one.failed for one in self.by_clock)


def told(lines: Sequence[Line], bare: Mapping[int, float], commands: Mapping[str, str], release: str) -> Result:
    """The result as a table; `bare`: runs a second of ONNX Runtime alone, by rows a run."""
    rows = [
        (
            line.name, str(line.rows), f"{line.most.rate:,.0f}", f"{1000 * line.most.p50:.2f}",
            f"{1000 * line.most.p99:.2f}", f"{line.rate:,.0f}", f"{1000 * line.steady.p50:.2f}",
            f"{1000 * line.steady.p99:.2f}", _each(line), str(line.failed),
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
        "of each round",
        "failed",
    )
    notes = [
        f"most: {lines[0].most.how}, {CLOSED:g} s; by the clock: vegeta, {SHARE:.0%} of its own most, {OPEN:g} s.",
        f"all in turn, {ROUNDS} rounds, of which the middle one counts.",
        f"peers: {release}; ONNX Runtime on one thread everywhere; every server answered the same scores to 1e-6.",
        "rows are JSON objects for /predict and FastAPI; /v2 and MLServer get the same bytes, one JSON tensor; BentoML "
        "a JSON matrix.",
        *(_ceiling(lines, size, rate) for size, rate in bare.items()),
        "Triton's client (tritonclient.http) got the same scores from ours, as JSON and as bytes, a tensor a feature "
        "and one tensor.",
        *(f"{name}: {command}" for name, command in commands.items()),
    ]
    figures = {
        "lines": [
            {
                "name": one.name,
                "rows": one.rows,
                **one.most.__dict__,
                "rate": one.rate,
                "steady": one.steady.__dict__,
                "rates": [each.rate for each in one.closed],
                "p99s": [each.p99 for each in one.by_clock],
            }
            for one in lines
        ],
        "bare": {str(size): rate for size, rate in bare.items()},
        "commands": dict(commands),
    }
    title = f"one core, the same ONNX model, ours ({VERSION}) from a Bento with the prediction log on"
    return Result("serving", title, columns, rows, budgets(lines), notes, figures)


def budgets(lines: Sequence[Line]) -> list[Budget]:
    """Ours against the peers and its latency at 70 %, at each size; and by key."""
    most = {(line.name, line.rows): line.most.rate for line in lines}
    sizes = sorted({line.rows for line in lines if line.name == OURS})
    ours = [line for line in lines if line.name in (OURS, OURS_V2)]
    keyed = next(line for line in lines if line.name == BY_KEY and line.rate == RATE)
    failed = sum(line.failed for line in lines if line.name.startswith("tidegate"))
    return [
        *(_against(most, OURS_V2, MLSERVER, size, TIMES) for size in sizes),
        *(_against(most, OURS, FASTAPI, size, 1) for size in sizes),
        *(_latency(f"p99 at {SHARE:.0%} of its own most, {one.name}, {_rows(one.rows)}", one) for one in ours),
        _latency(f"p99 by key at {RATE:g}/s", keyed),
        Budget("requests of ours that failed", "none", str(failed), failed == 0),
    ]


def _against(most: Mapping[tuple[str, int], float], ours: str, peer: str, size: int, times: int) -> Budget:
    """Requests a second beside a peer that is asked the same."""
    got = most[ours, size] / most[peer, size]
    what = f"requests/s of {ours.removeprefix('tidegate ')} against {peer}, {_rows(size)}"
    return Budget(what, f"at least {times}x", f"{got:.1f}x", got >= times)


def _ceiling(lines: Sequence[Line], size: int, rate: float) -> str:
    """What the model alone leaves possible."""
    mlserver = next(line.most.rate for line in lines if (line.name, line.rows) == (MLSERVER, size))
    return (
        f"ONNX Runtime alone on the same core, no server: {rate:,.0f} runs/s of {_rows(size)}, {rate / mlserver:.1f}x "
        "MLServer."
    )


def _each(line: Line) -> str:
    return " ".join(f"{1000 * one.p99:.1f}" for one in line.by_clock)


def _rows(size: int) -> str:
    return "one row" if size == 1 else f"{size} rows"


def _latency(what: str, line: Line) -> Budget:
    return Budget(what, "under 10 ms", f"{1000 * line.steady.p99:.2f} ms", line.steady.p99 < 0.010)
