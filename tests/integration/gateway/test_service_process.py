"""One serving process: drained by SIGTERM, killed under load, refused with one line, started by ``bentoml serve``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tidegate.observations import FLUSH_EVERY, SegmentReader
from tidegate.targets.gatewayd import http
from tidegate.targets.processes import free_port, wait_until
from tidegate.traffic.openloop import Answer, OpenLoop
from tidegate.train.model_file import folder_name


def arguments(state: Path, digest: str, port: int, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "tidegate.serve.service", "--model-dir", str(state / "models" / folder_name(digest)),
        "--name", "flight-delay", "--version", "v1", "--port", str(port), "--observations", str(state / "rows"),
        "--clock", "events", "--token-file", str(state / "token"), *more,
    ]  # fmt: skip


def ready(port: int) -> bool:
    return wait_until(lambda: http(port, "/readyz")[0] == 200, 30)


async def end_under_load(port: int, process: subprocess.Popen[bytes], number: int) -> tuple[list[Answer], float]:
    """Send 300/s for two seconds; after one, send the signal. Returns answers, with the due time of the signal."""
    answers: list[Answer] = []
    client = OpenLoop("127.0.0.1", port, answers.append)
    told: list[float] = []

    def tell() -> None:
        os.kill(process.pid, number)
        told.append(client.now)

    client.start()
    asyncio.get_running_loop().call_later(1.0, tell)
    await client.run((i / 300, "/predict", b'{"rows":[{"distance":1}],"at":%d}' % i) for i in range(600))
    client.close()
    return answers, told[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_answered_is_in_the_log(state: Path, digests: dict[str, str], number: signal.Signals) -> None:
    port = free_port()
    with subprocess.Popen(arguments(state, digests["v1"], port)) as process:
        try:
            assert ready(port)
            answers, told = asyncio.run(end_under_load(port, process, number))
            status = process.wait(30)
        finally:
            process.kill()
    good = [answer for answer in answers if answer.status == 200]
    logged = [row.request_id.removesuffix("/0") for row in SegmentReader(state / "rows").read()]
    assert len(logged) == len(set(logged))
    assert len(good) > 100
    if number == signal.SIGTERM:
        assert status == 0
        assert {answer.request_id for answer in good} == set(logged)
    else:
        safe = [answer for answer in good if answer.due + answer.latency < told - 8 * FLUSH_EVERY]
        assert {answer.request_id for answer in safe} <= set(logged)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("--digest", "sha256:" + "0" * 64), "manifest.json: not the file that was registered"),
        (("--token-file", "/nowhere/token"), "--token-file: got '/nowhere/token'"),
        (("--public-key", "xy"), "public key: got"),
        (("--public-key", "00" * 32), "signature"),
    ],
)
def test_a_wrong_start_is_one_line_and_status_2(
    state: Path, digests: dict[str, str], more: tuple[str, ...], line: str
) -> None:
    ended = subprocess.run(
        arguments(state, digests["v1"], free_port(), *more), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert line in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_the_hot_path_loads_no_heavy_library(state: Path, digests: dict[str, str]) -> None:
    program = (
        "import sys, tidegate.serve.service as s, pathlib;"
        f"s.wrap(s.Settings(pathlib.Path({str(state / 'models' / folder_name(digests['v1']))!r}), 'm', 'v1', "
        f"pathlib.Path({str(state / 'rows')!r})), s.LazyBento());"
        "heavy = {'bentoml', 'pandas', 'polars', 'scipy', 'lightgbm', 'pydantic', 'sklearn', 'mlflow', 'feast'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "[]"


def test_bentomls_own_pages_are_there_and_stray_paths_do_not_load_it(state: Path, digests: dict[str, str]) -> None:
    port = free_port()
    with subprocess.Popen(arguments(state, digests["v1"], port)) as process:
        try:
            assert ready(port)
            status, headers, _ = http(port, "/favicon.ico")
            assert (status, headers["x-tidegate-model"]) == (404, "flight-delay@v1")
            assert wait_until(lambda: http(port, "/docs.json")[0] == 200, 60)
            assert "/predict" in json.loads(http(port, "/docs.json")[2])["paths"]
            assert http(port, "/metrics")[0] == 200
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_bentoml_serve_starts_the_same_app(state: Path, digests: dict[str, str]) -> None:
    port = free_port()
    environment = {
        **os.environ, "TIDEGATE_MODEL_DIR": str(state / "models" / folder_name(digests["v1"])),
        "TIDEGATE_NAME": "flight-delay", "TIDEGATE_VERSION": "v1", "TIDEGATE_OBSERVATIONS": str(state / "rows"),
        "BENTOML_HOME": str(state / "bentoml"), "BENTOML_DO_NOT_TRACK": "True",
    }  # fmt: skip
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", "tidegate.serve.service:PredictionService"]
    with subprocess.Popen([*command, "--port", str(port)], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            assert ready(port)
            started = time.time()
            assert http(port, "/predict", "POST", b'{"rows":[{"distance":1}]}')[0] == 200
            status, headers, _ = http(port, "/predict", "POST", b'{"rows":[{"wrong":1}]}')
            assert (status, headers["x-tidegate-model"]) == (400, "flight-delay@v1")
            text = http(port, "/metrics")[2].decode()
            assert text.count("# TYPE bentoml_service_request_total counter") == 1
            assert 'endpoint="/predict"' in text
        finally:
            process.terminate()
            process.wait(30)
    (row,) = SegmentReader(state / "rows").read()
    assert row.time >= started - 1
