"""Envoy's configuration and the HTTPRoute mean the same: weights, mirrors and headers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.release.plan import Backend, Plan
from tidegate.targets import envoy
from tidegate.targets.gateway import PREDICTIONS, http_route, service_name
from tidegate.targets.routes import TOTAL, whole_weights


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    versions = draw(st.lists(st.sampled_from(["v1", "v1.1", "v1.2", "v2", "v2.1", "v3"]), min_size=1, unique=True))
    arms = draw(st.integers(1, len(versions)))
    parts = draw(st.lists(st.integers(1, 10_000), min_size=arms, max_size=arms))
    split = tuple((version, part / sum(parts)) for version, part in zip(versions, parts, strict=False))
    mirrors = tuple(version for version in versions[arms:] if draw(st.booleans()))
    backends = tuple(Backend(version, f"sha256:{version}") for version in versions)
    return Plan("flight-delay", backends, split, mirrors, draw(st.sampled_from(["", "flight-delay-7"])))


Meaning = tuple[dict[str, tuple[int, dict[str, str], set[str]]], list[str]]


def by_envoy(table: dict[str, Any], path: str) -> Meaning:
    routes = table["resources"][0]["virtual_hosts"][0]["routes"]
    matches = [r for r in routes if path in (r["match"].get("path_separated_prefix"), r["match"].get("prefix"))]
    action = matches[0]["route"]
    ways = {}
    for way in action["weighted_clusters"]["clusters"]:
        adds = way["request_headers_to_add"]
        assert {add["append_action"] for add in adds} == {"OVERWRITE_IF_EXISTS_OR_ADD"}
        headers = {add["header"]["key"]: add["header"]["value"] for add in adds}
        ways[service_name("flight-delay", way["name"])] = (
            way["weight"], headers, set(way.get("request_headers_to_remove", ())),
        )  # fmt: skip
    for policy in (mirrors := action.get("request_mirror_policies", [])):
        assert policy["runtime_fraction"]["default_value"] == {"numerator": 100, "denominator": "HUNDRED"}
    return ways, [service_name("flight-delay", policy["cluster"]) for policy in mirrors]


def by_gateway(route: dict[str, Any], path: str) -> Meaning:
    (rule,) = [r for r in route["spec"]["rules"] if path in {m["path"]["value"] for m in r["matches"]}]
    ways = {}
    for backend in rule["backendRefs"]:
        (filter_,) = backend["filters"]
        headers = filter_["requestHeaderModifier"]
        sets = {one["name"]: one["value"] for one in headers["set"]}
        ways[backend["name"]] = (backend["weight"], sets, set(headers.get("remove", ())))
    return ways, [one["requestMirror"]["backendRef"]["name"] for one in rule.get("filters", ())]


@given(plans(), st.sampled_from([*PREDICTIONS, "/"]))
@settings(max_examples=200, deadline=None)
def test_both_renderers_mean_the_same(plan: Plan, path: str) -> None:
    assert by_envoy(envoy.routes(plan), path) == by_gateway(http_route(plan, "tidegate", "models"), path)


@given(plans())
@settings(max_examples=200, deadline=None)
def test_the_propensity_header_is_the_weight_that_is_drawn_with(plan: Plan) -> None:
    ways, mirrors = by_envoy(envoy.routes(plan), "/predict")
    assert sum(weight for weight, _, _ in ways.values()) == TOTAL
    for version, share in plan.split:
        weight, headers, removes = ways[service_name("flight-delay", version)]
        assert weight / TOTAL == pytest.approx(share, abs=len(plan.split) / TOTAL)
        assert float(headers["x-tidegate-propensity"]) == weight / TOTAL
        assert headers["x-tidegate-arm"] == version
        assert headers.get("x-tidegate-release", "") == plan.release
        assert ("x-tidegate-release" in removes) == (not plan.release)
    assert mirrors == [service_name("flight-delay", version) for version in plan.mirrors]


@given(plans())
@settings(max_examples=100, deadline=None)
def test_what_envoy_has_in_force_is_read_back(plan: Plan) -> None:
    split, mirrors, release = envoy.read_routes(envoy.routes(plan)["resources"][0])
    assert dict(split) == pytest.approx(dict(plan.split), abs=len(plan.split) / TOTAL)
    assert (mirrors, release) == (plan.mirrors, plan.release)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8))
def test_whole_weights_are_near_and_sum_to_the_total(parts: list[int]) -> None:
    weights = [part / sum(parts) for part in parts]
    whole = whole_weights(weights)
    assert sum(whole) == TOTAL
    assert min(whole) >= 1
    assert all(abs(w - exact * TOTAL) <= len(parts) for w, exact in zip(whole, weights, strict=True))
