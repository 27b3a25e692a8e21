"""Plan -> Envoy's configuration: bootstrap, clusters (CDS) and routes (RDS), as plain JSON values.

A cluster is named by its version; copies go by another one of it, `mirror_of`, which few may wait in. `read_routes` is
the way back: what a route table that Envoy has in force means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.release.plan import Plan
from tidegate.targets.base import Observed
from tidegate.targets.routes import Entry, Match, Rule, meaning, rules

CONTROL = "control"
CONTROL_PREFIXES = ("/labels", "/clock", "/status", "/console")
PROBE = "/.tidegate/routes"
"""A path that Envoy answers itself with the version of the routes that its worker has in force."""

IDLE_SECONDS = 30
"""Idle connections to services are closed after this; services keep theirs longer."""

MIRROR = "-mirror"
AT_ONCE, COPIES_AT_ONCE = 10_000, 64
"""Requests in flight to one cluster. Each copy that a slow shadow keeps waiting holds a connection, and opening the
next one costs the user's request time in the same thread: above this many the copy is dropped."""
_EJECTION = {
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 5,
    "interval": "1s",
    "base_ejection_time": "1s",
    "max_ejection_time": "10s",
    "max_ejection_percent": 100,
    **dict.fromkeys(
        ("enforcing_consecutive_5xx", "enforcing_consecutive_gateway_failure", "enforcing_local_origin_success_rate"), 0
    ),
}
"""A shadow to which no connection can be made is left alone for some seconds; its own errors are evidence and are not
counted here."""

Json = dict[str, Any]
_TYPE = "type.googleapis.com/envoy."


def bootstrap(port: int, admin_port: int, control_port: int, folder: str, host: str = "127.0.0.1") -> Json:
    """The static part: one listener, the control server's cluster, and where the two files are that change."""
    return {
        "node": {"id": "tidegate", "cluster": "tidegate"},
        "admin": {"address": _address("127.0.0.1", admin_port)},
        "dynamic_resources": {"cds_config": _file(f"{folder}/cds.json")},
        "static_resources": {
            "listeners": [_listener(host, port, f"{folder}/rds.json")],
            "clusters": [_cluster(CONTROL, [control_port])],
        },
    }


def clusters(endpoints: Mapping[str, Sequence[int]]) -> Json:
    """CDS: for each version, and for copies to it, the ports on 127.0.0.1 that its replicas listen on."""
    found = []
    for version in sorted(endpoints):
        found.append(_cluster(version, endpoints[version]))
        copies = _cluster(mirror_of(version), endpoints[version], COPIES_AT_ONCE)
        # with nobody left a copy is dropped; else Envoy would try those that were left alone
        nobody = {"common_lb_config": {"healthy_panic_threshold": {"value": 0}}}
        found.append({**copies, **nobody, "outlier_detection": _EJECTION})
    return _response([{"@type": _TYPE + "config.cluster.v3.Cluster", **cluster} for cluster in found])


def mirror_of(version: str) -> str:
    """The cluster by which copies go to a version."""
    return version + MIRROR


def routes(plan: Plan | None) -> Json:
    """RDS: the plan's split and mirrors; with no plan every prediction is answered 503."""
    served = _unserved() if plan is None else _served(plan)
    control = [{"match": _under(prefix), "route": _to_control()} for prefix in CONTROL_PREFIXES]
    table: Json = {"name": "gateway", "virtual_hosts": [{"name": "all", "domains": ["*"]}]}
    table["virtual_hosts"][0]["routes"] = [*control, *served]
    version = _digest(table)
    table["virtual_hosts"][0]["routes"].insert(0, _direct({"path": PROBE}, 200, version))
    return _response([{"@type": _TYPE + "config.route.v3.RouteConfiguration", **table}], version)


def read_routes(table: Json) -> Observed:
    """What a route configuration, as Envoy dumps it, does with traffic; empty where nothing is served."""
    routes = table["virtual_hosts"][0]["routes"]
    return meaning([_rule_of(route) for route in routes if "weighted_clusters" in route.get("route", {})])


def _rule_of(route: Json) -> Rule:
    path, action = route["match"].get("path_separated_prefix") or route["match"]["prefix"], route["route"]
    mirrors = tuple(policy["cluster"].removesuffix(MIRROR) for policy in action.get("request_mirror_policies", ()))
    ways = tuple(_entry_of(way) for way in action["weighted_clusters"]["clusters"])
    return Rule((path,), _match_of(route["match"]), ways, mirrors)


def _match_of(match: Json) -> Match | None:
    for header in match.get("headers", ()):
        asked = header["string_match"]
        return Match(header["name"], asked.get("exact") or asked["safe_regex"]["regex"], "safe_regex" in asked)
    return None


def _entry_of(way: Json) -> Entry:
    sets = tuple((one["header"]["key"], one["header"]["value"]) for one in way["request_headers_to_add"])
    brings = [one["header"]["value"] for one in way.get("response_headers_to_add", ())]
    removes = tuple(way.get("request_headers_to_remove", ()))
    return Entry(way["name"], way["weight"], sets, removes, "".join(brings[:1]))


def _served(plan: Plan) -> list[Json]:
    return [
        {"match": _match(prefix, rule.match), "route": action}
        for rule in rules(plan)
        for action in [_action(rule)]
        for prefix in rule.prefixes
    ]


def _action(rule: Rule) -> Json:
    ways = {"clusters": [_way(entry) for entry in rule.entries]}
    action: Json = {"weighted_clusters": ways, "timeout": "15s", "retry_policy": _RETRIES}
    mirrors = [_mirror(version) for version in rule.mirrors]
    return {**action, "request_mirror_policies": mirrors} if mirrors else action


def _match(prefix: str, match: Match | None) -> Json:
    path = {"prefix": "/"} if prefix == "/" else _under(prefix)
    if match is None:
        return path
    value = {"safe_regex": {"regex": match.value}} if match.regex else {"exact": match.value}
    return {**path, "headers": [{"name": match.header, "string_match": value}]}


def _unserved() -> list[Json]:
    return [_direct({"prefix": "/"}, 503, '{"error":"no model is served yet"}')]


_RETRIES: Json = {
    "retry_on": "connect-failure,refused-stream,reset-before-request",
    "num_retries": 2,
    "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.250s"},
}


def _way(entry: Entry) -> Json:
    way: Json = {
        "name": entry.version,
        "weight": entry.weight,
        "request_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in entry.sets
        ],
    }
    if entry.removes:
        way["request_headers_to_remove"] = list(entry.removes)
    if entry.cookie:
        cookie = {"key": "set-cookie", "value": entry.cookie}
        way["response_headers_to_add"] = [{"header": cookie, "append_action": "APPEND_IF_EXISTS_OR_ADD"}]
    return way


def _mirror(version: str) -> Json:
    everything = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {"cluster": mirror_of(version), "runtime_fraction": everything, "trace_sampled": False}


def _to_control() -> Json:
    return {"cluster": CONTROL, "timeout": "60s", "retry_policy": _RETRIES}


def _under(prefix: str) -> Json:
    return {"path_separated_prefix": prefix}


def _direct(match: Json, status: int, text: str) -> Json:
    return {"match": match, "direct_response": {"status": status, "body": {"inline_string": text}}}


def _cluster(name: str, ports: Sequence[int], most: int = AT_ONCE) -> Json:
    limits = {"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": 1000}
    options = {
        "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {}},
        "common_http_protocol_options": {"idle_timeout": f"{IDLE_SECONDS}s"},
    }
    hosts = [{"endpoint": {"address": _address("127.0.0.1", port)}} for port in ports]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
    }


def _listener(host: str, port: int, routes_file: str) -> Json:
    manager = {
        "@type": _TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "use_remote_address": True,
        "normalize_path": True,
        "always_set_request_id_in_response": True,
        "early_header_mutation_extensions": [_forget_client_headers()],
        "rds": {"route_config_name": "gateway", "config_source": _file(routes_file)},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": _TYPE + "extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
    }
    return {
        "name": "gateway",
        "address": _address(host, port),
        "enable_reuse_port": False,  # else a second gateway would share the port without a word
        "tcp_backlog_size": 4096,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _forget_client_headers() -> Json:
    """A client's request id is kept under another name; what steers Envoy or speaks to services is removed."""
    kept = {"key": "x-client-request-id", "value": "%REQ(x-request-id)%"}
    mutations: list[Json] = [
        {"append": {"header": kept, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}},
        {"remove": "x-request-id"},
        *({"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in ("x-tidegate-", "x-envoy-")),
    ]
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": _TYPE + "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": mutations,
        },
    }


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _file(path: str) -> Json:
    return {"path_config_source": {"path": path}, "resource_api_version": "V3"}


def _response(resources: list[Json], version: str | None = None) -> Json:
    """A discovery response; its version is a digest of what it holds."""
    return {"version_info": version or _digest(resources), "resources": resources}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
