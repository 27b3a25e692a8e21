"""A run as one Kubernetes Job, whole: its package and arguments are in it, so that creating it is one write. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tidegate.orchestrators.pods import KEYS, OPTIONAL, SECRET_ENV, STATE, Pods, Resources, Toleration
from tidegate.orchestrators.runid import run_id
from tidegate.pod_security import container_security, pod_security

REQUEST = "/request"
"""Where a pod reads what it is to run: `package.yaml` and `arguments.json`, from its own annotations."""
ANNOTATIONS = {"package.yaml": "tidegate.dev/package", "arguments.json": "tidegate.dev/arguments"}
CONTAINER = "run"


def job_name(run: str) -> str:
    """The Job of a run: its id where Kubernetes takes it for a name, else one made from it."""
    return run if re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", run) else run_id(f"{run} as a name")


def job_manifest(run: str, package: str, arguments: Mapping[str, str], image: str, pods: Pods) -> dict[str, Any]:
    """The Job that runs `package` (IR YAML) once, in one pod."""
    labels = {
        "app.kubernetes.io/name": "run",
        "app.kubernetes.io/component": "run",
        "app.kubernetes.io/part-of": "tidegate",
        "app.kubernetes.io/managed-by": "tidegate",
        **({"tidegate.dev/model": arguments["model"]} if "model" in arguments else {}),
    }
    request = dict(zip(ANNOTATIONS.values(), (package, json.dumps(dict(arguments), sort_keys=True)), strict=True))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name(run), "namespace": pods.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,  # a run that failed is a run that failed: the trigger policy decides on another
            "activeDeadlineSeconds": int(pods.deadline.total_seconds()),
            "ttlSecondsAfterFinished": int(pods.keep.total_seconds()),
            "template": {"metadata": {"labels": labels, "annotations": request}, "spec": _pod(image, pods)},
        },
    }


def _pod(image: str, pods: Pods) -> dict[str, Any]:
    return {
        "serviceAccountName": pods.service_account,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 10,
        "securityContext": pod_security(),
        "containers": [_container(image, pods)],
        "volumes": [
            {"name": "state", "persistentVolumeClaim": {"claimName": pods.claim}},
            {"name": "keys", "secret": {"secretName": pods.signing_secret, "defaultMode": 0o440}},
            {"name": "request", "downwardAPI": {"items": [_item(path, key) for path, key in ANNOTATIONS.items()]}},
            {"name": "tmp", "emptyDir": {}},
        ],
        **({"tolerations": [toleration_of(one) for one in pods.tolerations]} if pods.tolerations else {}),
        **({"nodeSelector": dict(pods.node_selector)} if pods.node_selector else {}),
    }


def _container(image: str, pods: Pods) -> dict[str, Any]:
    asked = pods.resources or Resources()
    mounts = {"state": STATE, "keys": KEYS, "request": REQUEST, "tmp": "/tmp"}  # noqa: S108 - a volume of the pod's own
    return {
        "name": CONTAINER,
        "image": image,
        "command": ["python", "-m", "tidegate.orchestrators.in_pod", REQUEST, STATE],
        "env": [
            {"name": "HOME", "value": "/tmp"},  # noqa: S108
            *(_secret_env(pods.database_secret, key, name) for key, name in SECRET_ENV.items() if pods.database_secret),
        ],
        "resources": {
            "requests": {"cpu": asked.cpu, "memory": asked.memory},
            "limits": {"memory": asked.memory_limit},
        },
        "securityContext": container_security(),
        "volumeMounts": [_mount(name, path, pods) for name, path in mounts.items()],
    }


def _mount(name: str, path: str, pods: Pods) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "mountPath": path}
    if name == "state" and pods.folder:
        found["subPath"] = pods.folder
    return {**found, "readOnly": True} if name in ("keys", "request") else found


def toleration_of(one: Toleration) -> dict[str, Any]:
    """A toleration as Kubernetes spells it."""
    return one.model_dump(exclude_none=True)


def _secret_env(secret: str, key: str, name: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": key in OPTIONAL}}}


def _item(path: str, annotation: str) -> dict[str, Any]:
    return {"path": path, "fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}}
