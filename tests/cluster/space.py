"""A namespace with what the base gives every installation: volume, token, Gateway; and what stands in its volume."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import uuid
from pathlib import Path

from k8s.cluster.places import BIN, KUBECONFIG
from tidegate.kube import Cluster

SERVING = os.environ.get("TIDEGATE_TEST_SERVING", "localhost/tidegate/serving:0.1.0")
TOKEN = "secret"
PROGRAM = str(BIN / "kubectl") if (BIN / "kubectl").exists() else "kubectl"


def kubectl(*words: str, stdin: bytes | None = None, check: bool = True) -> str:
    """What kubectl prints; AssertionError with what it says when it fails."""
    os.environ.setdefault("KUBECONFIG", str(KUBECONFIG))
    done = subprocess.run((PROGRAM, *words), input=stdin, capture_output=True, check=False)
    assert not check or done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr.decode()}"
    return done.stdout.decode()


class Space:
    """A namespace of its own, restricted, with what the base gives every installation: volume, token, Gateway."""

    def __init__(self, gateway: bool) -> None:
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self.apply(_namespace(self.name), *_state(self.name), *(gateway_in(self.name) if gateway else ()))
        self.cluster = Cluster(self.name)

    def apply(self, *objects: dict) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        kubectl("apply", "--server-side", "--filename", "-", stdin=json.dumps(listed).encode())

    def kubectl(self, *words: str, **more: bytes) -> str:
        return kubectl("--namespace", self.name, *words, **more)

    def fill(self, source: Path, target: str) -> None:
        """Put a folder into the volume, through a pod that mounts it."""
        if not self.kubectl("get", "pod", "filler", "--ignore-not-found"):
            self.apply(_filler(self.name))
        self.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "pod/filler")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(source, target)
        self.python("import tarfile,sys; tarfile.open(fileobj=sys.stdin.buffer,mode='r|').extractall('/state')",
                    stdin=packed.getvalue())  # fmt: skip

    def python(self, program: str, **more: bytes) -> str:
        """Run a program in the pod that mounts the volume at /state."""
        return self.kubectl("exec", "--stdin", "filler", "--", "python", "-c", program, **more)

    def address(self) -> tuple[str, int]:
        """Where the Gateway answers."""
        self.kubectl("wait", "--for=condition=Programmed", "--timeout=90s", "gateway/tidegate")
        found = self.kubectl("get", "gateway", "tidegate", "-o", "jsonpath={.status.addresses[0].value}")
        return found, 80

    def remove(self) -> None:
        """The namespace and all in it; nothing is waited for."""
        kubectl("delete", "namespace", self.name, "--wait=false")


def _namespace(name: str) -> dict:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _state(namespace: str) -> list[dict]:
    def made(version: str, kind: str, name: str, **more: object) -> dict:
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **more}

    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return [
        made("v1", "PersistentVolumeClaim", "tidegate-state", spec=claim),
        made("v1", "ServiceAccount", "tidegate-serving"),
        made("v1", "Secret", "tidegate-token", stringData={"token": TOKEN}),
    ]


def gateway_in(namespace: str) -> list[dict]:
    """The Gateway of k8s/base in another namespace."""
    import yaml

    base = Path(__file__).parents[2] / "k8s" / "base" / "gateway.yaml"
    found = [one for one in yaml.safe_load_all(base.read_text()) if one["kind"] != "GatewayClass"]
    for one in found:
        one["metadata"]["namespace"] = namespace
    return found


def _filler(namespace: str) -> dict:
    user = {"runAsNonRoot": True, "runAsUser": 65534, "fsGroup": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "filler", "image": SERVING, "command": ["python", "-c", "import signal; signal.pause()"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "state", "mountPath": "/state"}],
    }  # fmt: skip
    volume = {"name": "state", "persistentVolumeClaim": {"claimName": "tidegate-state"}}
    spec = {"securityContext": user, "containers": [container], "volumes": [volume], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "filler", "namespace": namespace}, "spec": spec}
