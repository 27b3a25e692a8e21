"""Envoy's configuration and the HTTPRoute mean the same, and what the plan says, for any request.

An interpreter of each chooses as its router does: Envoy takes the first route that matches, the Gateway API the rule
with the longest path, then the most headers, then the first. A third one reads the plan itself.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.release.plan import Backend, Plan, Regions, Split
from tidegate.targets import envoy
from tidegate.targets.gateway import LIGHT, between, http_route, padded, read_route, service_name
from tidegate.targets.routes import PREDICTIONS, READ, TOTAL, shares_of, whole_weights

MODEL, REGIONS = "flight-delay", ("us", "eu", "ap")


@st.composite
def splits(draw: st.DrawFn, versions: list[str], least: int = 1) -> Split:
    arms = draw(st.lists(st.sampled_from(versions), min_size=least, max_size=len(versions), unique=True))
    parts = draw(st.lists(st.integers(1, 10_000), min_size=len(arms), max_size=len(arms)))
    return tuple((version, part / sum(parts)) for version, part in zip(arms, parts, strict=True))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    names = ["v1", "v1.1", "v1.2", "v2", "v2.1", "v3"]
    versions = draw(st.lists(st.sampled_from(names), min_size=2, unique=True))
    kind = draw(st.sampled_from(["plain", "sticky", "regions", "merge"]))
    split = draw(splits(versions, least=2 if kind == "sticky" else 1))
    left = [version for version in versions if version not in dict(split)]
    mirrors = tuple(version for version in left if draw(st.booleans())) if kind != "regions" else ()
    backends = tuple(Backend(version, f"sha256:{version}") for version in versions)
    plan = Plan(MODEL, backends, split, mirrors)
    if kind == "sticky":
        return replace(plan, release="flight-delay-r7", sticky=draw(st.sampled_from(["tidegate-arm", "a.b"])))
    if kind == "regions":
        order = draw(st.lists(st.sampled_from(REGIONS), min_size=1, unique=True))
        plan = replace(plan, regions=Regions("x-region", tuple((name, draw(splits(versions))) for name in order)))
    if kind == "merge":
        plan = replace(plan, merge=tuple(draw(st.permutations(versions)))[: draw(st.integers(2, len(versions)))])
    compares = mirrors or plan.merge or any(len(one) > 1 for one in plan.splits)
    return replace(plan, release=draw(st.sampled_from(["", "flight-delay-r7"])) if compares else "")


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    path = draw(st.sampled_from([*PREDICTIONS, "/", "/lookup/7", "/v2/models/m/infer", "/predictions", "/rank/x"]))
    forged = draw(st.dictionaries(st.sampled_from(READ), st.just("forged")))
    name = draw(st.sampled_from(["tidegate-arm", "a.b", "aXb", "other"]))
    value = draw(st.sampled_from(["flight-delay-r7", "flight-delay-r6", "x"]))
    value += "." + draw(st.sampled_from(["v1", "v1.1", "v1.2", "v2", "v11", "v3"]))
    cookie = draw(st.sampled_from(["", f"{name}={value}", f"a=b; {name}={value}", f"{name}={value};c=d", f"x{value}"]))
    region = draw(st.sampled_from(["", *REGIONS, "mars", "us2"]))
    headers = {"cookie": cookie, "x-region": region}
    return Request(path, {**forged, **{key: value for key, value in headers.items() if value}})


Way = tuple[str, int, tuple[tuple[str, str], ...], str]
"""Service, whole weight, the x-tidegate headers as they reach it, the cookie that its answer brings."""
Meaning = tuple[frozenset[Way], frozenset[str]]


def reaching(request: Request, sets: dict[str, str], removes: set[str]) -> tuple[tuple[str, str], ...]:
    left = {key: value for key, value in request.headers.items() if key in READ and key not in removes}
    return tuple(sorted({**left, **sets}.items()))


def under(path: str, prefix: str) -> bool:
    """Whole segments, as a PathPrefix and a path_separated_prefix are."""
    return prefix == "/" or path == prefix or path.startswith(prefix + "/")


def by_envoy(table: dict[str, Any], request: Request) -> Meaning:
    def takes(match: dict[str, Any]) -> bool:
        path = match.get("path_separated_prefix") or match.get("prefix") or match["path"]
        if "path" in match:
            return request.path == path
        asked = [(one["name"], one["string_match"]) for one in match.get("headers", ())]
        return under(request.path, path) and all(
            name in request.headers
            and (
                re.fullmatch(value["safe_regex"]["regex"], request.headers[name])
                if "safe_regex" in value
                else request.headers[name] == value["exact"]
            )
            for name, value in asked
        )

    routes = table["resources"][0]["virtual_hosts"][0]["routes"]
    action = next(route["route"] for route in routes if takes(route["match"]))
    ways = []
    for way in action["weighted_clusters"]["clusters"]:
        assert {one["append_action"] for one in way["request_headers_to_add"]} == {"OVERWRITE_IF_EXISTS_OR_ADD"}
        sets = {one["header"]["key"]: one["header"]["value"] for one in way["request_headers_to_add"]}
        brings = [one["header"]["value"] for one in way.get("response_headers_to_add", ())]
        found = reaching(request, sets, set(way.get("request_headers_to_remove", ())))
        ways.append((service_name(MODEL, way["name"]), way["weight"], found, "".join(brings)))
    mirrors = action.get("request_mirror_policies", ())
    assert all(one["runtime_fraction"]["default_value"]["numerator"] == 100 for one in mirrors)
    return frozenset(ways), frozenset(service_name(MODEL, one["cluster"].removesuffix("-mirror")) for one in mirrors)


def by_gateway(route: dict[str, Any], request: Request) -> Meaning:
    def takes(match: dict[str, Any]) -> bool:
        return under(request.path, match["path"]["value"]) and all(
            one["name"] in request.headers
            and (
                re.fullmatch(one["value"], request.headers[one["name"]])
                if one["type"] == "RegularExpression"
                else request.headers[one["name"]] == one["value"]
            )
            for one in match.get("headers", ())
        )

    taking = [
        (len(match["path"]["value"]), len(match.get("headers", ())), -number)
        for number, rule in enumerate(route["spec"]["rules"])
        for match in rule["matches"]
        if takes(match)
    ]
    rule = route["spec"]["rules"][-max(taking)[2]]
    ways = Counter[tuple[str, tuple[tuple[str, str], ...], str]]()
    for backend in rule["backendRefs"]:
        by_type = {one["type"]: one for one in backend["filters"]}
        headers = by_type["RequestHeaderModifier"]["requestHeaderModifier"]
        sets = {one["name"]: one["value"] for one in headers["set"]}
        answer = by_type.get("ResponseHeaderModifier", {"responseHeaderModifier": {"add": []}})
        brings = [one["value"] for one in answer["responseHeaderModifier"]["add"]]
        found = reaching(request, sets, set(headers.get("remove", ())))
        ways[backend["name"], found, "".join(brings)] += backend["weight"]
    mirrors = [one["requestMirror"]["backendRef"]["name"] for one in rule.get("filters", ())]
    return frozenset((name, weight, found, brings) for (name, found, brings), weight in ways.items()), frozenset(
        mirrors
    )


@given(plans(), st.lists(requests(), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_both_renderers_mean_the_same(plan: Plan, asked: list[Request]) -> None:
    table, route = envoy.routes(plan), http_route(plan, "tidegate", "models")
    assert len(route["spec"]["rules"]) <= 16, "the Gateway API takes no more"
    for request in asked:
        assert by_envoy(table, request) == by_gateway(route, request)


def arm_by_cookie(plan: Plan, request: Request) -> str:
    """The arm that the plan's cookie names, read the way a browser sends cookies."""
    cookies = dict(part.strip().partition("=")[::2] for part in request.headers.get("cookie", "").split(";"))
    named = cookies.get(plan.sticky, "") if plan.sticky else ""
    return next((version for version, _ in plan.split if named == f"{plan.release}.{version}"), "")


@given(plans(), requests())
@settings(max_examples=300, deadline=None)
def test_a_request_goes_where_the_plan_says(plan: Plan, request: Request) -> None:
    ways, mirrors = by_envoy(envoy.routes(plan), request)
    names = {service_name(MODEL, version): version for version in (*(b.version for b in plan.backends), "merge")}
    found = {names[name]: (weight, dict(headers), cookie) for name, weight, headers, cookie in ways}
    if plan.merge and under(request.path, "/rank"):
        ((version, (weight, headers, _)),) = found.items()
        assert (version, weight, mirrors) == ("merge", TOTAL, frozenset())
        assert tuple(name for name, _ in shares_of(headers["x-tidegate-weights"])) == plan.merge
        return
    assert mirrors == frozenset(
        service_name(MODEL, v) for v in plan.mirrors if any(under(request.path, p) for p in PREDICTIONS)
    )
    region = request.headers.get("x-region", "")
    split = dict(plan.regions.splits).get(region, plan.split) if plan.regions else plan.split
    whole = dict(zip(dict(split), whole_weights([weight for _, weight in split]), strict=True))
    kept = arm_by_cookie(plan, request)
    assert {version: weight for version, (weight, _, _) in found.items()} == ({kept: TOTAL} if kept else whole)
    compared = len(split) > 1 or plan.mirrors
    for version, (_, headers, cookie) in found.items():
        assert set(headers) <= set(READ)
        assert "forged" not in headers.values()
        assert headers["x-tidegate-arm"] == version
        assert float(headers["x-tidegate-propensity"]) == whole[version] / TOTAL
        assert headers.get("x-tidegate-release", "") == (plan.release if compared else "")
        assert headers.get("x-tidegate-returning") == ("1" if kept else None)
        in_region = plan.regions is not None and region in dict(plan.regions.splits)
        assert headers.get("x-tidegate-region", "") == (region if in_region else "")
        assert ("x-tidegate-weights" in headers) == (len(split) > 2)
        assert dict(shares_of(headers.get("x-tidegate-weights", ""))) == (
            {v: w / TOTAL for v, w in whole.items()} if len(split) > 2 else {}
        )
        wanted = f"{plan.sticky}={plan.release}.{version};" if plan.sticky and not kept else ""
        assert cookie.startswith(wanted)
        assert bool(cookie) == bool(wanted)


@given(plans())
@settings(max_examples=200, deadline=None)
def test_what_envoy_has_in_force_is_read_back(plan: Plan) -> None:
    found = envoy.read_routes(envoy.routes(plan)["resources"][0])

    def near(split: Split) -> Any:
        return pytest.approx(dict(split), abs=len(split) / TOTAL)

    assert dict(found.split) == near(plan.split)
    assert (found.mirrors, found.release) == (plan.mirrors, plan.release)
    assert (found.sticky, found.merge) == (plan.sticky, plan.merge)
    assert (found.regions is None) == (plan.regions is None)
    if plan.regions and found.regions:
        assert found.regions.header == plan.regions.header
        for (name, split), (wanted, asked) in zip(found.regions.splits, plan.regions.splits, strict=True):
            assert name == wanted
            assert dict(split) == near(asked)


@given(plans(), st.sampled_from(["", "models.example"]))
@settings(max_examples=200, deadline=None)
def test_a_route_is_read_back_as_envoys_table_is(plan: Plan, domain: str) -> None:
    route = http_route(plan, "tidegate", "models", domain=domain)
    assert len(route["spec"]["rules"]) <= 16
    assert read_route(route) == envoy.read_routes(envoy.routes(plan)["resources"][0])


def places(route: dict[str, Any]) -> list[int]:
    """Ways of each rule: what Envoy Gateway names clusters by."""
    return [len(rule["backendRefs"]) for rule in route["spec"]["rules"]]


@given(plans(), st.lists(plans(), min_size=1, max_size=3), st.lists(requests(), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_a_padded_route_loses_no_place_and_means_the_same(first: Plan, later: list[Plan], asked: list[Request]) -> None:
    live = padded(http_route(first, "tidegate", "models"), None)
    assert live == http_route(first, "tidegate", "models")
    for plan in later:
        plain = http_route(plan, "tidegate", "models")
        found = padded(plain, live)
        kept = places(live) + [0] * (len(places(found)) - len(places(live)))
        assert all(now >= before for now, before in zip(places(found), kept, strict=True))
        assert all(backend["weight"] > 0 for rule in found["spec"]["rules"] for backend in rule["backendRefs"])
        assert read_route(found) == read_route(plain)
        assert [by_gateway(found, request) for request in asked] == [by_gateway(plain, request) for request in asked]
        assert padded(plain, found) == found
        live = found


def moved(before: dict[str, Any], after: dict[str, Any]) -> list[float]:
    """The shares that places which have another version afterwards had of their rules."""
    found = []
    for old, new in zip(before["spec"]["rules"], after["spec"]["rules"], strict=False):
        total = sum(way["weight"] for way in old["backendRefs"])
        for was, now in zip(old["backendRefs"], new["backendRefs"], strict=False):
            found += [was["weight"] / total] if was["name"] != now["name"] else []
    return found


@given(st.lists(plans(), min_size=2, max_size=5), st.lists(requests(), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_no_place_has_another_version_while_it_has_traffic(found: list[Plan], asked: list[Request]) -> None:
    live = http_route(found[0], "tidegate", "models")
    for plan in found[1:]:
        plain = http_route(plan, "tidegate", "models")
        steps = 0
        while step := between(plain, live):
            assert all(share <= LIGHT for share in moved(live, step))
            assert all(now >= before for before, now in zip(places(live), places(step), strict=False))
            for request in asked:
                assert heavy(by_gateway(step, request)) == heavy(by_gateway(plain, request))
            live, steps = step, steps + 1
        assert steps <= 2
        after = padded(plain, live)
        assert all(share <= LIGHT for share in moved(live, after))
        assert read_route(after) == read_route(plain)
        assert between(plain, after) is None
        live = after


def heavy(found: Meaning) -> frozenset[tuple[str, float, Any, str]]:
    """What is done with requests but for ways of hardly any weight."""
    return frozenset((name, round(weight / TOTAL, 2), sets, brings) for name, weight, sets, brings in found[0]
                     if weight > 10)  # fmt: skip


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8))
def test_whole_weights_are_near_and_sum_to_the_total(parts: list[int]) -> None:
    weights = [part / sum(parts) for part in parts]
    whole = whole_weights(weights)
    assert sum(whole) == TOTAL
    assert min(whole) >= 1
    assert all(abs(w - exact * TOTAL) <= len(parts) for w, exact in zip(whole, weights, strict=True))
