"""Load on one port of this machine: as much as it takes (closed loop), and by the clock (open loop)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tidegate.traffic.openloop import OpenLoop, Results

SLOW = 0.05
"""Seconds of p99 latency above which a rate of the ramp counts as too much."""

VEGETA = "github.com/tsenart/vegeta/v12@v12.12.0"
"""Drives thousands of requests a second by the clock; built by Go from its module proxy."""

_SCRIPT = """
local bodies, at = {}, 0
for line in io.lines("BODIES") do bodies[#bodies + 1] = line end
wrk.method, wrk.headers["Content-Type"] = "POST", "application/json"
function request() at = at % #bodies + 1; return wrk.format(nil, "PATH", nil, bodies[at]) end
"""
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Most:
    """Requests a second at the most, latencies then in seconds (0: not measured), and how it was found."""

    rate: float
    p50: float
    p99: float
    how: str


def open_loop(port: int, bodies: Sequence[bytes], rate: float, seconds: float) -> Results:
    """Send ``rate * seconds`` requests by the clock, whatever the answers do; half of them on new connections."""

    async def send() -> Results:
        client = OpenLoop("127.0.0.1", port)
        asked = ((n / rate, "/predict", bodies[n % len(bodies)]) for n in range(int(rate * seconds)))
        found = await client.run(asked)
        client.close()
        return found

    return asyncio.run(send())


def maximum(port: int, bodies: Sequence[bytes], seconds: float, folder: Path, path: str = "/predict") -> Most:
    """Requests a second at the most: by wrk where it is installed, else by an open-loop ramp on /predict.

    Raises SystemExit when a request fails.
    """
    if shutil.which("wrk"):
        return _by_wrk(port, bodies, seconds, folder, path)
    return _by_ramp(port, bodies, seconds)


def steady(
    tool: Path, port: int, bodies: Sequence[bytes], rate: float, seconds: float, folder: Path, path: str = "/predict"
) -> Results:
    """Like `open_loop` by vegeta (`tool`), on kept-alive connections, for rates that Python cannot drive."""
    targets = folder / "targets.jsonl"
    with targets.open("w") as file:
        for body in bodies:
            target = {"method": "POST", "url": f"http://127.0.0.1:{port}{path}", "header": {"Content-Type": [_JSON]}}
            file.write(json.dumps({**target, "body": base64.b64encode(body).decode()}) + "\n")
    attack = (
        tool, "attack", "-format=json", f"-targets={targets}", f"-rate={rate:.0f}/1s", f"-duration={seconds:g}s",
        "-max-workers=256", "-connections=64",
    )  # fmt: skip
    with subprocess.Popen(attack, stdout=subprocess.PIPE) as sending:
        report = (tool, "report", "-type=json")
        told = subprocess.run(report, stdin=sending.stdout, stdout=subprocess.PIPE, check=True).stdout
    found = json.loads(told)
    statuses = {int(code): count for code, count in found["status_codes"].items()}
    good = statuses.get(200, 0)
    times = (found["latencies"][key] / 1e9 for key in ("50th", "99th", "max"))
    return Results(found["requests"], good, found["requests"] - good, statuses, *times)


def vegeta(cache: Path) -> Path:
    """The program, built once; SystemExit without Go."""
    tool = cache / "bin/vegeta"
    if not tool.exists():
        if shutil.which("go") is None:
            raise SystemExit(f"serving: needs Go to build {VEGETA}")
        subprocess.run(("go", "install", VEGETA), env={**os.environ, "GOBIN": str(tool.parent)}, check=True)
    return tool


def bodies(count: int, rows: int = 1) -> list[bytes]:
    """Real questions of `rows` flights each as ``POST /predict`` takes them, without a time of their own."""
    asked = features(count * rows)
    return [json.dumps({"rows": asked[at : at + rows]}).encode() for at in range(0, len(asked), rows)]


def features(count: int) -> list[dict[str, float | str | None]]:
    """Features of real flights."""
    from datetime import UTC, datetime, timedelta

    from flights.requests import load_traffic, questions

    since = datetime(2013, 7, 1, 4, tzinfo=UTC)
    asked = questions(load_traffic(since, since + timedelta(days=1 + count / 500)))
    return [dict(question.features) for question in islice(asked, count)]


_JSON = "application/json"


def _by_wrk(port: int, bodies: Sequence[bytes], seconds: float, folder: Path, path: str) -> Most:
    lines, script = folder / "bodies.jsonl", folder / "wrk.lua"
    lines.write_bytes(b"\n".join(bodies) + b"\n")
    script.write_text(_SCRIPT.replace("BODIES", str(lines)).replace("PATH", path))
    words = (
        "wrk",
        "-t1",
        "-c16",
        f"-d{seconds:.0f}s",
        "--latency",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}{path}",
    )
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s*([\d.]+)", output)
    if not found or "Non-2xx" in output:
        raise SystemExit(f"serving: wrk says\n{output}")
    p50, p99 = (_latency(output, share) for share in ("50%", "99%"))
    return Most(float(found[1]), p50, p99, "wrk, 16 connections")


def _latency(output: str, share: str) -> float:
    found = re.search(rf"\s{share}\s+([\d.]+)(us|ms|s)\n", output)
    return float(found[1]) * _UNITS[found[2]] if found else 0.0


def _by_ramp(port: int, bodies: Sequence[bytes], seconds: float) -> Most:
    rate, how = 500.0, f"open loop ramp, p99 within {1000 * SLOW:.0f} ms; the client's own limit counts too"
    last = Most(0.0, 0.0, 0.0, how)
    while True:
        found = open_loop(port, bodies, rate, min(seconds, 3.0))
        if found.failed:
            raise SystemExit(f"serving: {found.failed} of {found.sent} requests failed at {rate:.0f}/s")
        if found.p99 > SLOW:
            return last
        last, rate = Most(rate, found.p50, found.p99, how), rate * 1.25
