"""Plan -> HTTPRoute of the Gateway API: the same weights, mirrors and headers as `targets.envoy` gives Envoy."""

from __future__ import annotations

from typing import Any

from tidegate.release.plan import Plan
from tidegate.targets.routes import Entry, Match, Rule, rules


def http_route(plan: Plan, gateway: str, namespace: str, port: int = 8080) -> dict[str, Any]:
    """The route of one model; its backends are Services named MODEL-VERSION with dots as dashes."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": plan.model, "namespace": namespace},
        "spec": {"parentRefs": [{"name": gateway}], "rules": [_rule(plan.model, rule, port) for rule in rules(plan)]},
    }


def service_name(model: str, version: str) -> str:
    """Name of the Service of one version: ``flight-delay-v1-1``."""
    return f"{model}-{version.replace('.', '-')}"


def _rule(model: str, rule: Rule, port: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "matches": [_match(prefix, rule.match) for prefix in rule.prefixes],
        "backendRefs": [_backend(model, entry, port) for entry in rule.entries],
    }
    mirrors = [_mirror(model, version, port) for version in rule.mirrors]
    return {**found, "filters": mirrors} if mirrors else found


def _match(prefix: str, match: Match | None) -> dict[str, Any]:
    path: dict[str, Any] = {"path": {"type": "PathPrefix", "value": prefix}}
    if match is None:
        return path
    kind = "RegularExpression" if match.regex else "Exact"
    return {**path, "headers": [{"type": kind, "name": match.header, "value": match.value}]}


def _backend(model: str, entry: Entry, port: int) -> dict[str, Any]:
    headers: dict[str, Any] = {"set": [{"name": name, "value": value} for name, value in entry.sets]}
    if entry.removes:
        headers["remove"] = list(entry.removes)
    filters: list[dict[str, Any]] = [{"type": "RequestHeaderModifier", "requestHeaderModifier": headers}]
    if entry.cookie:
        brings = {"add": [{"name": "set-cookie", "value": entry.cookie}]}
        filters.append({"type": "ResponseHeaderModifier", "responseHeaderModifier": brings})
    return {"name": service_name(model, entry.version), "port": port, "weight": entry.weight, "filters": filters}


def _mirror(model: str, version: str, port: int) -> dict[str, Any]:
    return {
        "type": "RequestMirror",
        "requestMirror": {"backendRef": {"name": service_name(model, version), "port": port}},
    }
