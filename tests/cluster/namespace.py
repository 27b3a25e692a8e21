"""A namespace of one test module on the cluster of KUBECONFIG, with what pods of runs are given, gone at the end."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tidegate.pod_security import USER
from tidegate.register.models import public_key

IMAGE = os.environ.get("TIDEGATE_IMAGE", "localhost/tidegate/components:0.1.0")
POSTGRES = "localhost/tidegate/postgres:15"
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
POD = {"runAsNonRoot": True, "runAsUser": USER, "fsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"}}


@dataclass(frozen=True)
class Namespace:
    """`state` is the folder of this machine that is the shared volume."""

    name: str
    state: Path

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """What kubectl prints; the test fails with its message where it fails."""
        command = ("kubectl", "--namespace", self.name, *words)
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Make or change objects."""
        given = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--server-side", "-f", "-", given=given)

    def pods(self, selector: str = "") -> list[dict[str, Any]]:
        """The pods with these labels."""
        return json.loads(self.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]


@contextmanager
def namespace(prefix: str) -> Iterator[Namespace]:
    """The namespace; skips the test where no cluster is named."""
    if not os.environ.get("KUBECONFIG") or not shutil.which("kubectl"):
        pytest.skip("no KUBECONFIG, or no kubectl")
    name, state = f"{prefix}-{secrets.token_hex(3)}", Path(tempfile.mkdtemp(prefix="tidegate-cluster-"))
    shutil.chown(state, USER, USER)
    state.chmod(0o770)
    made = Namespace(name, state)
    try:
        made.apply(*_objects(name, state))
        yield made
    finally:
        made.kubectl("delete", "jobs,deployments,pods", "--all", "--force", "--grace-period=0")
        made.kubectl("delete", "namespace", name, "--wait=true")
        made.kubectl("delete", "persistentvolume", name, "--wait=true")
        shutil.rmtree(state)


def database(place: Namespace) -> None:
    """A PostgreSQL server in the namespace and the Secret with its URLs."""
    password = secrets.token_urlsafe(16)
    url = f"postgresql+psycopg://tidegate:{password}@postgres/"
    probe = {"exec": {"command": ["pg_isready", "-h", "127.0.0.1"]}, "periodSeconds": 1}
    container = {
        "name": "postgres", "image": POSTGRES, "securityContext": RESTRICTED, "readinessProbe": probe,
        "env": [{"name": "POSTGRES_USER", "value": "tidegate"}, {"name": "PGDATA", "value": "/data/pg"},
                {"name": "POSTGRES_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "postgres", "key": "password"}}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],
    }  # fmt: skip
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    labels = {"app": "postgres"}
    place.apply(
        of("v1", "Secret", "postgres", stringData={"password": password}),
        of("v1", "Secret", "tidegate-database", stringData={"url": url + "tidegate", "mlflow": url + "mlflow"}),
        of("v1", "Service", "postgres", spec={"selector": labels, "ports": [{"port": 5432}]}),
        of("v1", "Pod", "postgres", labels=labels,
            spec={"securityContext": POD, "containers": [container], "volumes": volumes}),
    )  # fmt: skip
    place.kubectl("wait", "pod/postgres", "--for=condition=Ready", "--timeout=120s")
    place.kubectl("exec", "postgres", "--", "createdb", "-h", "/tmp", "-U", "tidegate", "mlflow")


def _objects(name: str, state: Path) -> list[dict[str, Any]]:
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    node = {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "Exists"}]}
    size, modes = {"storage": "1Gi"}, ["ReadWriteMany"]
    with tempfile.TemporaryDirectory() as keys:
        public_key(Path(keys))
        pair = {path.name: path.read_text() for path in (Path(keys) / "keys").iterdir()}
    return [
        of("v1", "Namespace", name, labels=enforced),
        of("v1", "PersistentVolume", name, spec={
            "capacity": size, "accessModes": modes, "local": {"path": str(state)}, "storageClassName": name,
            "persistentVolumeReclaimPolicy": "Retain",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [node]}}}),
        of("v1", "PersistentVolumeClaim", "tidegate-state", spec={
            "accessModes": modes, "resources": {"requests": size}, "storageClassName": name, "volumeName": name}),
        of("v1", "ServiceAccount", "tidegate-run"),
        of("v1", "Secret", "tidegate-signing", stringData=pair),
    ]  # fmt: skip


def of(version: str, kind: str, name: str, labels: dict[str, str] | None = None, **rest: Any) -> dict[str, Any]:
    """An object as the API server takes it."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels or {}}, **rest}
