"""A plan's versions as Kubernetes objects: Deployment, Service, PodDisruptionBudget and HPA of one version each.

Pure: values in, plain JSON out. Every pod runs under the restricted Pod Security profile: not as root, no
capabilities, a root file system that is read-only, no token of the API server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.pod_security import container_security, pod_security
from tidegate.release.plan import Backend, Plan
from tidegate.targets.gateway import service_name
from tidegate.targets.routes import MERGE

Json = dict[str, Any]

PORT = 8080
PRE_STOP = 5
"""Seconds that a pod answers on after it was told to end: until every proxy has left it out."""
DRAIN = 25
"""Seconds for what is in flight then."""
IN_FLIGHT, AT_ONCE = "tidegate_requests_in_flight", "8"
"""The metric by which replicas are added, and how many requests in flight one replica is to have."""

MODEL, VERSION, DIGEST = "tidegate.dev/model", "tidegate.dev/version", "tidegate.dev/digest"
MANAGED = {"app.kubernetes.io/managed-by": "tidegate"}


@dataclass(frozen=True)
class Place:
    """Where and how versions of one model run.

    Parameters
    ----------
    image: the serving image.
    folder: path of the model's state inside the volume; its ``models`` and ``observations`` are mounted, no more.
    most: most replicas of one version; above a backend's own number an HPA adds them.
    public_keys: Ed25519 in hex; with none signatures are not checked.
    arguments: further ones of the service, as those with which it answers by key.
    owner: the Model object, whose end is the end of these.
    """

    model: str
    namespace: str
    image: str
    folder: str
    clock: str = "wall"
    most: int = 1
    public_keys: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    volume: str = "tidegate-state"
    token: str = "tidegate-token"  # noqa: S105 - the name of the Secret
    owner: Mapping[str, Any] | None = None


def names(plan: Plan) -> list[str]:
    """The Deployments of a plan."""
    versions = [backend.version for backend in plan.backends]
    return [service_name(plan.model, version) for version in (*versions, *([MERGE] if plan.merge else []))]


def version_objects(place: Place, backend: Backend, replicas: int) -> list[Json]:
    """Everything of one version; `replicas` is what the Deployment has now, where an HPA says how many it needs."""
    name, labels = service_name(place.model, backend.version), _labels(place, backend.version, "serving")
    deployment = _deployment(place, name, labels, replicas, _serving_pod(place, backend))
    deployment["metadata"]["annotations"] = {DIGEST: backend.digest}
    deployment["spec"]["template"]["metadata"]["annotations"] = {DIGEST: backend.digest}
    found = [deployment, _service(place, name, labels), _budget(place, name, labels, backend.replicas)]
    if place.most > backend.replicas:
        found.append(_autoscaler(place, name, labels, backend.replicas))
    return found


def merge_objects(place: Place, plan: Plan) -> list[Json]:
    """The merge service of a plan that mixes lists, between the Services of its two versions."""
    name, labels = service_name(place.model, MERGE), _labels(place, MERGE, "merge")
    deployment = _deployment(place, name, labels, 1, _merge_pod(place, plan))
    between = ",".join(plan.merge)
    deployment["metadata"]["annotations"] = {DIGEST: between}
    deployment["spec"]["template"]["metadata"]["annotations"] = {DIGEST: between}
    return [deployment, _service(place, name, labels), _budget(place, name, labels, 1)]


def selector(place: Place) -> dict[str, str]:
    """The labels by which everything of a model's versions is found; runs of the model have no version."""
    return {MODEL: place.model, VERSION: ""}


def _labels(place: Place, version: str, component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": place.model,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "tidegate",
        **MANAGED,
        MODEL: place.model,
        VERSION: version,
    }


def _object(place: Place, version: str, kind: str, name: str, labels: Json, spec: Json) -> Json:
    owner = [{**place.owner, "controller": True, "blockOwnerDeletion": True}] if place.owner else []
    metadata: Json = {"name": name, "namespace": place.namespace, "labels": labels}
    if owner:
        metadata["ownerReferences"] = owner
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _chosen(labels: Mapping[str, str]) -> Json:
    return {"matchLabels": {key: labels[key] for key in (MODEL, VERSION)}}


def _deployment(place: Place, name: str, labels: Json, replicas: int, pod: Json) -> Json:
    spec = {
        "replicas": replicas,
        "selector": _chosen(labels),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "revisionHistoryLimit": 0,
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return _object(place, "apps/v1", "Deployment", name, labels, spec)


def _service(place: Place, name: str, labels: Json) -> Json:
    port = {"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}
    return _object(place, "v1", "Service", name, labels, {"selector": _chosen(labels)["matchLabels"], "ports": [port]})


def _budget(place: Place, name: str, labels: Json, replicas: int) -> Json:
    """One may go where there are several; a single one stays until another one is ready."""
    spec = {
        "minAvailable": max(1, replicas - 1),
        "selector": _chosen(labels),
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return _object(place, "policy/v1", "PodDisruptionBudget", name, labels, spec)


def _autoscaler(place: Place, name: str, labels: Json, replicas: int) -> Json:
    metric = {"metric": {"name": IN_FLIGHT}, "target": {"type": "AverageValue", "averageValue": AT_ONCE}}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": replicas,
        "maxReplicas": place.most,
        "metrics": [{"type": "Pods", "pods": metric}],
    }
    return _object(place, "autoscaling/v2", "HorizontalPodAutoscaler", name, labels, spec)


def _serving_pod(place: Place, backend: Backend) -> Json:
    digest = ["--digest", backend.digest]
    keys = [word for key in place.public_keys for word in ("--public-key", key)]
    fetch = {
        **_container(place, "fetch", ["tidegate.serve.fetch", "--store", "/store", "--to", "/model", *digest, *keys]),
        "volumeMounts": [
            {"name": "state", "mountPath": "/store", "subPath": f"{place.folder}/models", "readOnly": True},
            {"name": "model", "mountPath": "/model"},
        ],
    }
    words = ["tidegate.serve.service", "--model-dir", "/model/files", *digest, "--version", backend.version, *keys]
    server = _server(place, [*words, *place.arguments])
    server["volumeMounts"].append({"name": "model", "mountPath": "/model", "readOnly": True})
    return _pod(place, [server], [fetch], [{"name": "model", "emptyDir": {"sizeLimit": "1Gi"}}])


def _merge_pod(place: Place, plan: Plan) -> Json:
    sides = [f"{version}={service_name(place.model, version)}:{PORT}" for version in plan.merge]
    words = ["tidegate.serve.merge", "--champion", sides[0], "--challenger", sides[1]]
    return _pod(place, [_server(place, words)], [], [])


def _pod(place: Place, containers: list[Json], before: list[Json], volumes: list[Json]) -> Json:
    return {
        "serviceAccountName": "tidegate-serving",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": PRE_STOP + DRAIN,
        "securityContext": pod_security(),
        **({"initContainers": before} if before else {}),
        "containers": containers,
        "volumes": [
            {"name": "state", "persistentVolumeClaim": {"claimName": place.volume}},
            {"name": "token", "secret": {"secretName": place.token, "defaultMode": 0o440}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
            *volumes,
        ],
    }


def _server(place: Place, words: Sequence[str]) -> Json:
    told = ["--name", place.model, "--clock", place.clock, "--observations", "/observations"]
    where = ["--token-file", "/etc/tidegate/token", "--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104 - of a pod
    return {
        **_container(place, "server", [*words, *told, *where]),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": {**_probe("/readyz"), "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {**_probe("/livez"), "periodSeconds": 10, "timeoutSeconds": 5},
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP}}},
        "volumeMounts": [
            {
                "name": "state",
                "mountPath": "/observations",
                "subPath": f"{place.folder}/observations/predictions",
            },
            {"name": "token", "mountPath": "/etc/tidegate", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
        ],
    }


def _container(place: Place, name: str, words: Sequence[str]) -> Json:
    return {
        "name": name,
        "image": place.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", *words],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "25m", "memory": "192Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
        "securityContext": container_security(),
    }


def _probe(path: str) -> Json:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 2}
