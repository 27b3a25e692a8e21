"""A real cluster, which must be up (`make cluster-up`); tests here use namespaces of their own in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

for folder in (Path(__file__).parents[2], Path(__file__).parents[1]):
    sys.path.insert(0, str(folder))

from cluster import loop_story  # noqa: E402
from cluster.space import Space  # noqa: E402
from cluster.told import LINES  # noqa: E402

from demo.story import Played  # noqa: E402
from k8s.cluster.places import BIN, KUBECONFIG, READY  # noqa: E402

SAFE_POD = {"runAsNonRoot": True, "runAsUser": 65534, "fsGroup": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
SAFE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


class Cluster:
    """kubectl as the cluster's administrator, in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Standard output; a failure is the test's, with what kubectl said."""
        done = self.ask(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """The same, when a refusal is what is expected."""
        command = [str(BIN / "kubectl"), "--kubeconfig", str(KUBECONFIG), "--namespace", self.namespace, *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=200, check=False)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Server-side apply."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "--filename", "-", stdin=document)

    def get(self, *words: str) -> Any:
        """An object, or a list of them."""
        return json.loads(self.kubectl("get", *words, "--output", "json"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests told, when all of them have ended."""
    if LINES:
        terminalreporter.section("told")
        terminalreporter.write_line("\n".join(LINES))


@pytest.fixture(scope="session")
def up() -> None:
    """Asks for a cluster that is up."""
    if not READY.exists() and not os.environ.get("TIDEGATE_NOT_READY"):
        pytest.fail("the cluster is not up: make cluster-up")


@pytest.fixture(scope="session")
def told_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[Played]]:
    """The loop's story on this machine: told beside tests that mostly wait, or else beside the one on the cluster."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(loop_story.tell_here, tmp_path_factory.mktemp("here"))


@pytest.fixture(scope="module")
def cluster(up: None) -> Iterator[Cluster]:
    """A namespace of its own, restricted, removed after the module."""
    made = Cluster(f"test-{uuid.uuid4().hex[:8]}")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace, "labels": labels}})
    yield made
    if not os.environ.get("TIDEGATE_KEEP"):
        made.kubectl("delete", "namespace", made.namespace, "--wait=false")


@pytest.fixture(scope="module")
def space(up: None) -> Iterator[Space]:
    """A namespace with volume, token and Gateway, removed after the module."""
    yield from _kept(Space(gateway=True))


@pytest.fixture(scope="module")
def bare(up: None) -> Iterator[Space]:
    """One without a Gateway."""
    yield from _kept(Space(gateway=False))


def _kept(made: Space) -> Iterator[Space]:
    try:
        yield made
    finally:
        if not os.environ.get("TIDEGATE_KEEP"):
            made.remove()


Pod = Callable[..., dict[str, Any]]


def pod(name: str, image: str, *command: str, **container: Any) -> dict[str, Any]:
    """A pod as ours are: not root, without rights, its disk read-only but for /tmp."""
    mount = [{"name": "tmp", "mountPath": "/tmp"}]
    run = {"name": "main", "image": image, "securityContext": SAFE, "volumeMounts": mount, **container}
    # a pod that asks for nothing gets nothing while the machine is busy
    run["resources"] = {"requests": {"cpu": "100m", "memory": "64Mi"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": SAFE_POD,
            "containers": [run | ({"command": list(command)} if command else {})],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }
