"""What stands on the bare node before anything of Tidegate's: name server, storage, Gateway API and Envoy Gateway."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from k8s.cluster.commands import kubectl
from k8s.cluster.places import CRDS, MANIFESTS, NODE_NAME, VOLUMES

_CLASS = "standard"
_COUNT, _SIZE = 24, "20Gi"
_APPLY = ("apply", "--server-side", "--force-conflicts", "--field-manager=cluster")


def install_dns() -> None:
    """CoreDNS."""
    kubectl(*_APPLY, "--filename", MANIFESTS / "coredns.yaml")


def install_storage() -> None:
    """The default storage class; its volumes are folders of the node. A released one is emptied and made anew."""
    got = json.loads(kubectl("get", "persistentvolumes", "--output", "json"))["items"]
    for volume in got:
        if volume["spec"].get("storageClassName") == _CLASS and volume["status"].get("phase") in ("Released", "Failed"):
            kubectl("delete", "persistentvolume", volume["metadata"]["name"])
            shutil.rmtree(Path(volume["spec"]["local"]["path"]), ignore_errors=True)
    names = [f"volume-{number:02}" for number in range(_COUNT)]
    for name in names:
        (VOLUMES / name).mkdir(parents=True, exist_ok=True)
    items = [_storage_class(), *(_volume(name) for name in names)]
    kubectl(*_APPLY, "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def install_gateway() -> None:
    """The custom resources of the Gateway API and of Envoy Gateway, and its controller."""
    install_crds("envoy-gateway")
    kubectl(*_APPLY, "--filename", MANIFESTS / "envoy-gateway.yaml")


def install_crds(module: str) -> None:
    """The custom resources that came with a built Go module, served when this returns."""
    kubectl(*_APPLY, "--filename", CRDS / module)
    kubectl("wait", "--for=condition=Established", "--timeout=60s", "--filename", CRDS / module)


def wait_available() -> None:
    """Until the name server and Envoy Gateway answer. Raises PlatformError when they do not within two minutes."""
    for namespace, name in (("kube-system", "coredns"), ("envoy-gateway-system", "envoy-gateway")):
        kubectl("--namespace", namespace, "rollout", "status", f"deployment/{name}", "--timeout=120s")
    kubectl("wait", "--for=condition=Accepted", "--timeout=60s", "gatewayclass/tidegate")


def _storage_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": _CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _volume(name: str) -> dict[str, Any]:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": _CLASS,
            "capacity": {"storage": _SIZE},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            # fsGroup of the pod makes it writable, which a hostPath's folder would not be
            "local": {"path": str(VOLUMES / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
