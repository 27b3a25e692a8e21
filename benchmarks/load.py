"""Load on one port of this machine: open loop at a rate, and as much as it takes."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from demo.openloop import OpenLoop, Results

SLOW = 0.05
"""Seconds of p99 latency above which a rate of the ramp counts as too much."""

_SCRIPT = """
local bodies, at = {}, 0
for line in io.lines("BODIES") do bodies[#bodies + 1] = line end
wrk.method, wrk.headers["Content-Type"] = "POST", "application/json"
function request() at = at % #bodies + 1; return wrk.format(nil, "/predict", nil, bodies[at]) end
"""


def open_loop(port: int, bodies: Sequence[bytes], rate: float, seconds: float) -> Results:
    """Send ``rate * seconds`` requests by the clock, whatever the answers do."""

    async def send() -> Results:
        client = OpenLoop("127.0.0.1", port)
        asked = ((n / rate, "/predict", bodies[n % len(bodies)]) for n in range(int(rate * seconds)))
        found = await client.run(asked)
        client.close()
        return found

    return asyncio.run(send())


def maximum(port: int, bodies: Sequence[bytes], seconds: float, folder: Path) -> tuple[float, str]:
    """Requests a second at the most, and how that was found: by wrk where it is installed, else by an open-loop ramp.

    Raises SystemExit when a request fails.
    """
    return _by_wrk(port, bodies, seconds, folder) if shutil.which("wrk") else _by_ramp(port, bodies, seconds)


def _by_wrk(port: int, bodies: Sequence[bytes], seconds: float, folder: Path) -> tuple[float, str]:
    lines, script = folder / "bodies.jsonl", folder / "wrk.lua"
    lines.write_bytes(b"\n".join(bodies) + b"\n")
    script.write_text(_SCRIPT.replace("BODIES", str(lines)))
    words = ("wrk", "-t1", "-c16", f"-d{seconds:.0f}s", "-s", str(script), f"http://127.0.0.1:{port}/predict")
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s*([\d.]+)", output)
    if not found or "Non-2xx" in output:
        raise SystemExit(f"serving: wrk says\n{output}")
    return float(found[1]), "wrk, 16 connections"


def _by_ramp(port: int, bodies: Sequence[bytes], seconds: float) -> tuple[float, str]:
    rate, last = 500.0, 0.0
    while True:
        found = open_loop(port, bodies, rate, min(seconds, 3.0))
        if found.failed:
            raise SystemExit(f"serving: {found.failed} of {found.sent} requests failed at {rate:.0f}/s")
        if found.p99 > SLOW:
            return last, f"open loop ramp, p99 within {1000 * SLOW:.0f} ms; the client's own limit counts too"
        last, rate = rate, rate * 1.25


def bodies(count: int) -> list[bytes]:
    """Real questions as ``POST /predict`` takes them, without a time of their own."""
    from datetime import UTC, datetime, timedelta

    from flights.requests import load_traffic, questions

    since = datetime(2013, 7, 1, 4, tzinfo=UTC)
    asked = questions(load_traffic(since, since + timedelta(days=count / 500)))
    return [json.dumps({"rows": [question.features]}).encode() for question in islice(asked, count)]
