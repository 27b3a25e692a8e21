"""Plan -> HTTPRoute of the Gateway API: the same weights, mirrors and headers as `targets.envoy` gives Envoy."""

from __future__ import annotations

from typing import Any

from tidegate.release.plan import Plan
from tidegate.targets.routes import Entry, entries

PREDICTIONS = ("/predict", "/rank", "/explain", "/v2")
"""Path prefixes that are mirrored; the rest is split only."""


def http_route(plan: Plan, gateway: str, namespace: str, port: int = 8080) -> dict[str, Any]:
    """The route of one model; its backends are Services named MODEL-VERSION with dots as dashes."""
    backends = [_backend(plan.model, entry, port) for entry in entries(plan)]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": plan.model, "namespace": namespace},
        "spec": {
            "parentRefs": [{"name": gateway}],
            "rules": [
                {
                    "matches": [_prefix(path) for path in PREDICTIONS],
                    "filters": [_mirror(plan.model, version, port) for version in plan.mirrors],
                    "backendRefs": backends,
                },
                {"matches": [_prefix("/")], "backendRefs": backends},
            ],
        },
    }


def service_name(model: str, version: str) -> str:
    """Name of the Service of one version: ``flight-delay-v1-1``."""
    return f"{model}-{version.replace('.', '-')}"


def _prefix(path: str) -> dict[str, Any]:
    return {"path": {"type": "PathPrefix", "value": path}}


def _backend(model: str, entry: Entry, port: int) -> dict[str, Any]:
    headers: dict[str, Any] = {"set": [{"name": name, "value": value} for name, value in entry.sets]}
    if entry.removes:
        headers["remove"] = list(entry.removes)
    return {
        "name": service_name(model, entry.version),
        "port": port,
        "weight": entry.weight,
        "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": headers}],
    }


def _mirror(model: str, version: str, port: int) -> dict[str, Any]:
    return {
        "type": "RequestMirror",
        "requestMirror": {"backendRef": {"name": service_name(model, version), "port": port}},
    }
