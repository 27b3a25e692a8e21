from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tidegate.release.plan import Backend, Plan, Regions
from tidegate.targets import envoy
from tidegate.targets.base import Observed
from tidegate.targets.gateway import http_route
from tidegate.targets.routes import TOTAL, whole_weights

GOLDEN = Path(__file__).parents[2] / "golden"

V1, V2, V3 = Backend("v1", "sha256:1"), Backend("v1.1", "sha256:2"), Backend("v2", "sha256:3")
PLANS = {
    "one": Plan("flight-delay", (V1,), (("v1", 1.0),)),
    "shadow": Plan("flight-delay", (V1, V2), (("v1", 1.0),), ("v1.1",), "flight-delay-1"),
    "canary": Plan("flight-delay", (V1, V2), (("v1", 0.99), ("v1.1", 0.01)), (), "flight-delay-1"),
    "sticky": Plan("flight-delay", (V1, V2, V3), (("v1", 0.5), ("v1.1", 0.25), ("v2", 0.25)), (), "flight-delay-1",
                   sticky="tidegate-arm"),
    "regions": Plan("flight-delay", (V1, V2), (("v1", 1.0),), (), "flight-delay-1",
                    regions=Regions("x-region", (("us", (("v1", 0.5), ("v1.1", 0.5))),
                                                 ("eu", (("v1", 0.99), ("v1.1", 0.01)))))),
    "interleave": Plan("flight-delay", (V1, V2), (("v1", 1.0),), (), "flight-delay-1", merge=("v1", "v1.1")),
}  # fmt: skip


def same_as_golden(name: str, value: object) -> None:
    """TIDEGATE_GOLDEN=write writes the files."""
    path, text = GOLDEN / name, json.dumps(value, indent=1, sort_keys=True) + "\n"
    if os.environ.get("TIDEGATE_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", PLANS)
def test_envoys_routes_are_golden(name: str) -> None:
    same_as_golden(f"envoy/{name}.json", envoy.routes(PLANS[name]))


@pytest.mark.parametrize("name", PLANS)
def test_the_gateways_routes_are_golden(name: str) -> None:
    same_as_golden(f"gateway/{name}.json", http_route(PLANS[name], "tidegate", "models"))


def test_envoys_bootstrap_and_clusters_are_golden() -> None:
    same_as_golden("envoy/bootstrap.json", envoy.bootstrap(8080, 9901, 9000, "/state/target"))
    same_as_golden("envoy/clusters.json", envoy.clusters({"v1.1": [20002], "v1": [20000, 20001]}))


def test_without_a_plan_predictions_are_refused_and_control_paths_answered() -> None:
    table = envoy.routes(None)["resources"][0]
    assert envoy.read_routes(table) == Observed()
    last = table["virtual_hosts"][0]["routes"][-1]
    assert (last["match"], last["direct_response"]["status"]) == ({"prefix": "/"}, 503)


def test_two_plans_never_share_a_version() -> None:
    versions = {envoy.routes(plan)["version_info"] for plan in (*PLANS.values(), None)}
    assert len(versions) == len(PLANS) + 1


V1_ALONE, HALF = (("v1", 1.0),), (("v1", 0.5), ("v1.1", 0.5))


@pytest.mark.parametrize(
    "wrong",
    [
        {"split": V1_ALONE, "release": "r"},
        {"split": HALF, "sticky": "c"},
        {"split": HALF, "release": "r", "mirrors": ("v1",)},
        {"split": (("v1", 0.5), ("v2", 0.5))},
        {"split": (("v1", 0.5), ("v1.1", 0.4))},
        {"split": (("v1", 0.5), ("v1", 0.5))},
        {"split": V1_ALONE, "merge": ("v1",)},
        {"split": V1_ALONE, "merge": ("v1", "v1")},
        {"split": V1_ALONE, "merge": ("v1", "v2")},
        {"split": V1_ALONE, "mirrors": ("v1.1",), "regions": Regions("x", (("us", HALF),))},
        {"split": HALF, "release": "r", "sticky": "c", "regions": Regions("x", (("us", HALF),))},
        {"split": V1_ALONE, "release": "r", "regions": Regions("x", (("us", (("v1", 0.3),)),))},
    ],
)
def test_a_plan_that_contradicts_itself_is_none(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Plan("flight-delay", (V1, V2), **wrong)


@pytest.mark.parametrize(
    ("weights", "whole"),
    [
        ([1.0], [10000]),
        ([0.99, 0.01], [9900, 100]),
        ([1 / 3, 1 / 3, 1 / 3], [3334, 3333, 3333]),
        ([0.7, 0.2, 0.1], [7000, 2000, 1000]),
        ([1 - 1e-6, 1e-6], [9999, 1]),
    ],
)
def test_whole_weights(weights: list[float], whole: list[int]) -> None:
    assert whole_weights(weights) == whole
    assert sum(whole) == TOTAL
