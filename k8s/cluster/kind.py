"""The road of a machine with Docker's engine and kind: the same images and manifests on kind's node.

Not tested where this project is built: that machine has no Docker engine and no registry.
"""

from __future__ import annotations

import os
import time

from k8s.cluster import buildah
from k8s.cluster.commands import run
from k8s.cluster.images import TAG, name_of
from k8s.cluster.places import CLONE, KUBECONFIG, MANIFESTS, READY
from k8s.cluster.say import phase, say

_NAME = "tidegate"
_NODE = "kindest/node:v1.34.0"
_GATEWAY = "https://github.com/envoyproxy/gateway/releases/download/v1.9.1/install.yaml"
_ROLLOUTS = "quay.io/argoproj/argo-rollouts:v1.10.2"
_PUBLIC = {
    "postgres:15": "localhost/tidegate/postgres:15",
    "redis:7": "localhost/tidegate/redis:7",
    "nats:2-alpine": "localhost/tidegate/nats:2",
    "envoyproxy/envoy:distroless-v1.40.0": "localhost/tidegate/envoy:1.40.0",
    "envoyproxy/gateway:v1.9.1": "localhost/tidegate/envoy-gateway:1.9.1",
    _ROLLOUTS: "localhost/tidegate/argo-rollouts:1.10.2",
}
"""Public images, and the names that the manifests have for them."""


def up(ours: bool = True) -> None:
    """A kind cluster with the images, the Gateway API and Envoy Gateway."""
    began = time.monotonic()
    if _NAME not in run("kind", "get", "clusters").split():
        with phase("kind's node"):
            KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
            run(
                "kind",
                "create",
                "cluster",
                "--name",
                _NAME,
                "--image",
                _NODE,
                "--kubeconfig",
                KUBECONFIG,
                "--wait=120s",
            )
    with phase("images"):
        for public, name in _PUBLIC.items():
            run("docker", "pull", "--quiet", public)
            run("docker", "tag", public, name)
        if ours:
            build_ours()
        run("kind", "load", "docker-image", "--name", _NAME, *_PUBLIC.values())
    with phase("Envoy Gateway available"):
        _kubectl("apply", "--server-side", "--force-conflicts", "--filename", _GATEWAY)
        _kubectl("apply", "--server-side", "--force-conflicts", "--filename", MANIFESTS / "envoy-gateway.yaml")
        _kubectl("--namespace=envoy-gateway-system", "rollout", "status", "deployment/envoy-gateway", "--timeout=180s")
    READY.write_text(f"kind {_NAME}, process {os.getpid()}\n")
    say(f"{time.monotonic() - began:7.1f} s  the cluster is up; kubeconfig: {KUBECONFIG}")


def build_ours(targets: tuple[str, ...] = buildah.TARGETS, tag: str = TAG) -> None:
    """Build Tidegate's own images with Docker and load them into the node."""
    for target in targets:
        words = ("--target", target, "--tag", name_of(target, tag), "--file", buildah.FILE)
        run("docker", "build", "--quiet", *words, CLONE, env={"DOCKER_BUILDKIT": "1", "SOURCE_DATE_EPOCH": "0"})
        run("kind", "load", "docker-image", "--name", _NAME, name_of(target, tag))


def down() -> None:
    """Remove kind's node with everything in it."""
    READY.unlink(missing_ok=True)
    run("kind", "delete", "cluster", "--name", _NAME)


def _kubectl(*words: object) -> str:
    return run("kubectl", "--kubeconfig", KUBECONFIG, *(str(word) for word in words))
