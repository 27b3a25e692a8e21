"""Plan -> HTTPRoute of the Gateway API: the same weights, mirrors and headers as `targets.envoy` gives Envoy.

Every field that the API server would fill in is written out, so that a route which nobody touched is equal to the one
that was sent. `read_route` is the way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tidegate.release.plan import Plan
from tidegate.targets.base import Observed
from tidegate.targets.envoy import CONTROL_PREFIXES
from tidegate.targets.routes import ARM, PROPENSITY, READ, TOTAL, Entry, Match, Rule, meaning, rules

TIMEOUT = "15s"
"""Longest that a request may take, as at the local gateway."""
CONTROL, CONTROL_PORT = "tidegate-operator", 8090
"""The Service of the control server, and its port."""
LIGHT = 0.001
"""A place with no more than this share of its rule's weight may change its version in one step."""
MODEL = "x-tidegate-model"
"""Request header by which the control server knows the model where a gateway serves several by host."""

Json = dict[str, Any]


def http_route(plan: Plan, gateway: str, namespace: str, port: int = 8080, domain: str = "") -> Json:
    """The route of one model; its backends are Services named MODEL-VERSION with dots as dashes.

    domain: the model answers to the host ``MODEL.DOMAIN`` only, its control paths too; empty: to any host.
    """
    found = [_rule(plan.model, rule, port) for rule in rules(plan)]
    if domain:
        found.insert(0, _control({"set": [{"name": MODEL, "value": plan.model}]}))
    return _route(plan.model, namespace, gateway, found, [f"{plan.model}.{domain}"] if domain else [])


def control_route(gateway: str, namespace: str) -> Json:
    """The route of the control paths of whatever model no host names."""
    return _route("tidegate-control", namespace, gateway, [_control({"remove": [MODEL]})], [])


def service_name(model: str, version: str) -> str:
    """Name of the Service of one version: ``flight-delay-v1-1``."""
    return f"{model}-{version.replace('.', '-')}"


def read_route(route: Json) -> Observed:
    """What an HTTPRoute does with traffic; nothing where it is no route of a plan."""
    model = route["metadata"]["name"]
    found = [_rule_of(model, rule) for rule in route["spec"].get("rules", ()) if _is_ours(rule)]
    return meaning(found)


def padded(route: Json, live: Json | None) -> Json:
    """The route with no fewer rules, and in none fewer ways, than the one in force has; its meaning stays.

    A proxy is told of a cluster's end before it is told of the route without it, and clusters are named by the place of
    their rule and way (Envoy Gateway 1.9, its issue 6287): a place that goes costs the requests of that moment. So the
    last rule comes again, where it is never reached, and of a heavy way come copies with the least weight.
    """
    places = live["spec"].get("rules", ()) if live else ()
    found = list(route["spec"]["rules"])
    found += [found[-1]] * (len(places) - len(found))
    wide = [_wide(rule, len(place.get("backendRefs", ()))) for rule, place in zip(found, places, strict=False)]
    return {**route, "spec": {**route["spec"], "rules": wide + found[len(wide) :]}}


def between(route: Json, live: Json) -> Json | None:
    """A step before `route`, where a place is to have another version; None where there is no need of one.

    For the same reason such a place has its new version for a moment before its requests have the headers of that: as
    much of the traffic as it has is answered by one version and logged as another one's. So it is first left with the
    least weight, and the rest goes by places that stay or are new.
    """
    wanted, places = padded(route, live)["spec"]["rules"], live["spec"].get("rules", ())
    steps = [_step(rule, place.get("backendRefs", ())) for rule, place in zip(wanted, places, strict=False)]
    if not any(steps):
        return None
    rules = [step or rule for step, rule in zip(steps, wanted, strict=False)] + wanted[len(steps) :]
    return {**route, "spec": {**route["spec"], "rules": rules}}


def _step(rule: Json, live: Sequence[Json]) -> Json | None:
    wanted, total = rule["backendRefs"], sum(backend.get("weight", 1) for backend in live)
    least = LIGHT * total
    moves = [
        old["name"] != new["name"] and old.get("weight", 1) > least for old, new in zip(live, wanted, strict=False)
    ]
    if not any(moves):
        return None
    kept = [_light(old) if move else new for move, old, new in zip(moves, live, wanted, strict=False)]
    kept += wanted[len(live) :]
    for move, new in zip(moves, wanted, strict=False):
        if move:
            _give(kept, new)
    return {**rule, "backendRefs": kept}


def _give(kept: list[Json], way: Json) -> None:
    """A way's weight to a place that has the same already, else to a new place."""
    for place, one in enumerate(kept):
        if {**one, "weight": 0} == {**way, "weight": 0}:
            kept[place] = {**one, "weight": one["weight"] + way["weight"]}
            return
    kept.append(way)


def _light(way: Json) -> Json:
    """A way with the least weight, whose rows are no evidence of a release."""
    arm = _sets(way).get(ARM)
    sets = [{"name": ARM, "value": arm}, {"name": PROPENSITY, "value": repr(1 / TOTAL)}] if arm else []
    headers = {"set": sets, "remove": [name for name in READ if name not in (ARM, PROPENSITY) or not arm]}
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": headers}]
    return {**way, "weight": 1, "filters": filters}


def _wide(rule: Json, ways: int) -> Json:
    backends = list(rule["backendRefs"])
    while len(backends) < ways:
        heavy = max(backends, key=lambda backend: backend["weight"])
        if heavy["weight"] < 2:
            break  # a way without weight is none to the gateway
        backends[backends.index(heavy)] = {**heavy, "weight": heavy["weight"] - 1}
        backends.append({**heavy, "weight": 1})
    return {**rule, "backendRefs": backends}


def _route(name: str, namespace: str, gateway: str, found: list[Json], hosts: list[str]) -> Json:
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway}
    spec = {"parentRefs": [parent], **({"hostnames": hosts} if hosts else {}), "rules": found}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def _control(headers: Json) -> Json:
    return {
        "matches": [_match(prefix, None) for prefix in CONTROL_PREFIXES],
        "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": headers}],
        "backendRefs": [{**_reference(CONTROL, CONTROL_PORT), "weight": 1}],
        "timeouts": {"request": "60s"},
    }


def _rule(model: str, rule: Rule, port: int) -> Json:
    found: Json = {
        "matches": [_match(prefix, rule.match) for prefix in rule.prefixes],
        "backendRefs": [_backend(model, entry, port) for entry in rule.entries],
        "timeouts": {"request": TIMEOUT},
    }
    mirrors = [_mirror(model, version, port) for version in rule.mirrors]
    return {**found, "filters": mirrors} if mirrors else found


def _match(prefix: str, match: Match | None) -> Json:
    path: Json = {"path": {"type": "PathPrefix", "value": prefix}}
    if match is None:
        return path
    kind = "RegularExpression" if match.regex else "Exact"
    return {**path, "headers": [{"type": kind, "name": match.header, "value": match.value}]}


def _backend(model: str, entry: Entry, port: int) -> Json:
    headers: Json = {"set": [{"name": name, "value": value} for name, value in entry.sets]}
    if entry.removes:
        headers["remove"] = list(entry.removes)
    filters: list[Json] = [{"type": "RequestHeaderModifier", "requestHeaderModifier": headers}]
    if entry.cookie:
        brings = {"add": [{"name": "set-cookie", "value": entry.cookie}]}
        filters.append({"type": "ResponseHeaderModifier", "responseHeaderModifier": brings})
    return {**_reference(service_name(model, entry.version), port), "weight": entry.weight, "filters": filters}


def _mirror(model: str, version: str, port: int) -> Json:
    return {
        "type": "RequestMirror",
        "requestMirror": {"backendRef": _reference(service_name(model, version), port)},
    }


def _reference(name: str, port: int) -> Json:
    return {"group": "", "kind": "Service", "name": name, "port": port}


# --- the way back -----------------------------------------------------------------------------------------------------


def _is_ours(rule: Json) -> bool:
    backends = rule.get("backendRefs", ())
    return bool(backends) and all(ARM in _sets(backend) for backend in backends)


def _rule_of(model: str, rule: Json) -> Rule:
    prefixes = tuple(match["path"]["value"] for match in rule["matches"])
    asked = [header for match in rule["matches"] for header in match.get("headers", ())]
    match = Match(asked[0]["name"], asked[0]["value"], asked[0]["type"] == "RegularExpression") if asked else None
    mirrors = [one["requestMirror"]["backendRef"]["name"] for one in rule.get("filters", ()) if "requestMirror" in one]
    versions = tuple(name.removeprefix(f"{model}-").replace("-", ".") for name in mirrors)
    entries: dict[str, Entry] = {}
    for entry in map(_entry_of, rule["backendRefs"]):
        known = entries.get(entry.version)
        entries[entry.version] = replace(known, weight=known.weight + entry.weight) if known else entry
    return Rule(prefixes, match, tuple(entries.values()), versions)


def _entry_of(backend: Json) -> Entry:
    sets = _sets(backend)
    brings = [
        one["value"]
        for filter_ in backend.get("filters", ())
        for one in filter_.get("responseHeaderModifier", {}).get("add", ())
    ]
    return Entry(sets[ARM], backend.get("weight", 1), tuple(sets.items()), cookie="".join(brings[:1]))


def _sets(backend: Json) -> dict[str, str]:
    """The request headers that a way sets and that services read."""
    modifiers = [one.get("requestHeaderModifier", {}) for one in backend.get("filters", ())]
    found = {header["name"]: header["value"] for one in modifiers for header in one.get("set", ())}
    return {name: found[name] for name in READ if name in found}
