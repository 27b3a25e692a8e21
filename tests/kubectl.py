"""kubectl for tests against a real cluster, that of KUBECONFIG; without one they are skipped."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests import manifests

Json = dict[str, Any]
needs_cluster = (
    pytest.mark.cluster,
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no cluster: KUBECONFIG is not set"),
)


class Refused(Exception):
    """What kubectl wrote when it ended with another status than 0."""


def kubectl(*words: str, stdin: str | Json | None = None, seconds: float = 120) -> str:
    """The output of one command; `Refused` when it fails."""
    told = json.dumps(stdin) if isinstance(stdin, dict) else stdin
    done = subprocess.run(
        [manifests.kubectl() or "kubectl", *words],
        input=told, capture_output=True, text=True, check=False, timeout=seconds,
    )  # fmt: skip
    if done.returncode:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


def apply(*objects: Json, namespace: str = "", dry: bool = False, fields: str = "Strict") -> list[Json]:
    """Apply server-side; the objects as the API server then has them."""
    words = ["apply", "--server-side", "--force-conflicts", "--field-manager=test", f"--validate={fields.lower()}"]
    words += [f"--namespace={namespace}"] if namespace else []
    words += ["--dry-run=server"] if dry else []
    told = kubectl(
        *words, "--output=json", "--filename=-", stdin={"apiVersion": "v1", "kind": "List", "items": objects}
    )
    found = json.loads(told)
    return found["items"] if found["kind"] == "List" else [found]


def get(kind: str, name: str, namespace: str) -> Json:
    return json.loads(kubectl("get", kind, name, f"--namespace={namespace}", "--output=json"))


@contextmanager
def namespace(purpose: str) -> Iterator[str]:
    """A namespace of a test's own, restricted as ours are, deleted at its end."""
    name = f"res-{purpose}-{uuid.uuid4().hex[:6]}"
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def until(look: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer of `look`; it is asked every half second."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not seen in {seconds:.0f} s: {what}"
        time.sleep(0.5)
    return found


def moved(objects: list[Json], space: str) -> list[Json]:
    """The objects of namespace `tidegate`, in another one."""
    text = json.dumps([one for one in objects if one["metadata"].get("namespace") == "tidegate"])
    return json.loads(text.replace('"namespace": "tidegate"', f'"namespace": "{space}"'))


def run_pod(space: str, name: str, words: list[str], *, image: str, seconds: float = 90, **spec: Any) -> str:
    """What a restricted pod printed at its end; AssertionError when it failed."""
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": words,
        "env": spec.pop("env", []),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    user = {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {"restartPolicy": "Never", "securityContext": user, "containers": [container], **spec}
    apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod}, namespace=space)

    def ended() -> str:
        phase = get("pod", name, space)["status"].get("phase", "")
        return phase if phase in ("Succeeded", "Failed") else ""

    phase = until(ended, seconds, f"the end of pod {name}")
    said = kubectl("logs", name, f"--namespace={space}")
    assert phase == "Succeeded", said
    return said
