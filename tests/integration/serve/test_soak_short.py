"""The short form of ``python -m benchmarks serve_soak``: three kills in a row under one writer's name, some memory."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psutil
import pytest
from one_service import served

from benchmarks.serve_soak import Memory, killed, sampled
from tidegate.traffic.openloop import OpenLoop, Results

BODY = b'{"rows":[{"distance":1}]}'


def test_what_was_answered_a_second_before_a_kill_is_in_the_log_exactly_once(
    model_folder: Path, tmp_path: Path
) -> None:
    def command(port: int) -> list[str]:
        return [
            sys.executable, "-m", "tidegate.serve.service", "--model-dir", str(model_folder), "--name", "flight-delay",
            "--version", "v1", "--writer", "v1-a", "--observations", str(tmp_path / "rows"), "--port", str(port),
        ]  # fmt: skip

    found = killed(command, tmp_path / "rows", [BODY], 3)
    assert (found.lost, found.twice) == (0, 0)
    assert found.answered > found.safe > 3 * 300


def test_memory_under_load_is_sampled_and_does_not_grow(model_folder: Path, tmp_path: Path) -> None:
    async def send(port: int) -> Results:
        client = OpenLoop("127.0.0.1", port)
        results = await client.run((n / 400, "/predict", BODY) for n in range(1600))
        client.close()
        return results

    with served(model_folder, tmp_path / "served") as (port, process):
        memory, results = sampled(psutil.Process(process.pid), 0.1, lambda: asyncio.run(send(port)))
    assert (results.answered, results.failed) == (1600, 0)
    assert len(memory.samples) > 20
    assert not memory.grew


@pytest.mark.parametrize(("last", "grew"), [(100.0, False), (103.9, False), (104.1, True)])
def test_growth_is_told_from_the_second_quarter_to_the_last(last: float, grew: bool) -> None:
    assert Memory([50.0] * 10 + [100.0] * 20 + [last] * 10).grew is grew
