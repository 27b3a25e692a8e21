"""The servers that benchmarks/serving.py compares: ours from a built Bento, and its peers from their own environment.

Peers live in ``benchmarks/peers``, locked; their environment is made in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.replica import NAME, pinned
from benchmarks.results import CACHE, ROOT, say
from tidegate.targets.gatewayd import http
from tidegate.targets.processes import free_port, wait_until

PEERS, VERSION = ROOT / "benchmarks/peers", "v1"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Server:
    """One running server: its port, and the process that answers there."""

    port: int
    process: psutil.Process

    @property
    def command(self) -> str:
        """The process's id and command line, without the folders of this machine."""
        words = (Path(word).name if word.startswith("/") else word for word in self.process.cmdline() if word)
        return f"pid {self.process.pid}: {' '.join(words)}"

    @property
    def rss(self) -> float:
        """Resident memory in MiB."""
        return float(self.process.memory_info().rss) / 2**20


def peers(which: str = "") -> Path:
    """The programs of the peers, or of those in one folder of theirs; made when older than their lock file."""
    made = CACHE / f"peers{which and '-' + which}"
    words = (BIN / "uv", "sync", "--frozen", "--quiet", "--project", PEERS / which, "--python", sys.executable)
    subprocess.run(words, env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(made)}, check=True)
    return made / "bin"


def built(folder: Path) -> tuple[str, Mapping[str, str]]:
    """Build our Bento into `folder`, as ``bentoml build src`` does; its tag, and the environment that knows it."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    done = subprocess.run(
        (BIN / "bentoml", "build", "src", "--output", "tag"), cwd=ROOT, env={**os.environ, **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip().rpartition("__tag__:")[2], environment


@contextlib.contextmanager
def ours(tag: str, home: Mapping[str, str], model: Path, rows: Path, core: set[int], **more: str) -> Iterator[Server]:
    """Our service from its Bento, logging into `rows`; `more`: further settings, ``workload="..."``."""
    settings = {"model_dir": str(model), "name": NAME, "version": VERSION, "observations": str(rows), **more}
    environment = {**home, **{f"TIDEGATE_{name.upper()}": value for name, value in settings.items()}}
    port = free_port()
    words = (BIN / "bentoml", "serve", tag, "--port", port)
    with _started(words, environment, rows.parent, port, "/readyz", core) as server:
        yield server


@contextlib.contextmanager
def fastapi(environment: Path, model: Path, folder: Path, core: set[int]) -> Iterator[Server]:
    """FastAPI under uvicorn."""
    port = free_port()
    words = (environment / "uvicorn", "fastapi_app:app", "--port", port, "--no-access-log", "--log-level", "warning")
    with _started(words, _peer(model), folder, port, "/openapi.json", core) as server:
        yield server


@contextlib.contextmanager
def bentoml(environment: Path, model: Path, folder: Path, core: set[int]) -> Iterator[Server]:
    """Plain BentoML, one worker."""
    port, home = free_port(), {"BENTOML_HOME": str(folder / "plain"), "BENTOML_DO_NOT_TRACK": "True"}
    words = (environment / "bentoml", "serve", "bento_service:Plain", "--working-dir", PEERS, "--port", port)
    with _started(words, {**_peer(model), **home}, folder, port, "/readyz", core) as server:
        yield server


@contextlib.contextmanager
def mlserver(environment: Path, model: Path, folder: Path, core: set[int]) -> Iterator[Server]:
    """MLServer without its pool of workers, which on one core only adds a process."""
    place, port = folder / "mlserver", free_port()
    place.mkdir()
    settings = {
        "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port(),
        "parallel_workers": 0, "debug": False,
    }  # fmt: skip
    (place / "settings.json").write_text(json.dumps(settings))
    described = {"name": NAME, "implementation": "mlserver_model.Onnx", "parameters": {"version": VERSION}}
    (place / "model-settings.json").write_text(json.dumps(described))
    path = f"/v2/models/{NAME}/ready"
    with _started((environment / "mlserver", "start", place), _peer(model), folder, port, path, core) as server:
        yield server


def _peer(model: Path) -> Mapping[str, str]:
    return {"MODEL_DIR": str(model), "PYTHONPATH": str(PEERS)}


@contextlib.contextmanager
def _started(
    words: Sequence[object], environment: Mapping[str, str], folder: Path, port: int, path: str, core: set[int]
) -> Iterator[Server]:
    """A server and what it starts on `core` alone, once it answers `path`."""
    command = [str(word) for word in words]
    say(f"serving: starts {' '.join([Path(command[0]).name, *command[1:]])}")
    with (folder / f"{Path(command[0]).name}-{port}.log").open("wb") as log, pinned(core):
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        if not wait_until(lambda: http(port, path)[0] == 200 or process.poll() is not None, 90) or process.poll():
            raise SystemExit(f"serving: did not start: {' '.join(command)}\n{Path(log.name).read_text()[-2000:]}")
        yield Server(port, _answering(process.pid))
    finally:
        process.terminate()
        process.wait(30)


def _answering(pid: int) -> psutil.Process:
    """The process that works: BentoML's supervisor has it as a child."""
    top = psutil.Process(pid)
    workers = [one for one in top.children(recursive=True) if any("worker" in word for word in one.cmdline())]
    return workers[0] if workers else top
