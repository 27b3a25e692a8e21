from __future__ import annotations

import json
import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.release.plan import Backend, Plan
from tidegate.targets.gateway import control_route, http_route, padded, read_route, service_name
from tidegate.targets.manifests import PRE_STOP, Place, merge_objects, names, version_objects

GOLDEN = Path(__file__).parents[2] / "golden" / "kubernetes"
OWNER = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "Model", "name": "flight-delay", "uid": "u-1"}
PLACE = Place(
    "flight-delay", "tidegate", "localhost/tidegate/serving:0.1.0", "flight-delay", "events", 4, ("ab" * 32,),
    owner=OWNER,
)  # fmt: skip
BACKEND = Backend("v1.1", "sha256:" + "2" * 64, 2)
MERGED = Plan("flight-delay", (Backend("v1", "sha256:1"), BACKEND), (("v1", 1.0),), merge=("v1", "v1.1"))


def same_as_golden(name: str, value: object) -> None:
    """TIDEGATE_GOLDEN=write writes the files."""
    path, text = GOLDEN / name, json.dumps(value, indent=1, sort_keys=True) + "\n"
    if os.environ.get("TIDEGATE_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_what_one_version_is_on_a_cluster_is_golden() -> None:
    same_as_golden("version.json", version_objects(PLACE, BACKEND, 3))
    same_as_golden("merge.json", merge_objects(PLACE, MERGED))
    same_as_golden("control.json", control_route("tidegate", "tidegate"))


def pods() -> list[dict]:
    found = [*version_objects(PLACE, BACKEND, 2), *merge_objects(PLACE, MERGED)]
    return [one["spec"]["template"]["spec"] for one in found if one["kind"] == "Deployment"]


@pytest.mark.parametrize("pod", pods())
def test_every_pod_is_restricted(pod: dict) -> None:
    own = pod["securityContext"]
    assert (own["runAsNonRoot"], own["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert pod["automountServiceAccountToken"] is False
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
        }  # fmt: skip
        assert {"requests", "limits"} == set(container["resources"])


@pytest.mark.parametrize("pod", pods())
def test_a_pod_that_is_to_end_answers_on_and_then_has_time_to_drain(pod: dict) -> None:
    (server,) = pod["containers"]
    assert server["lifecycle"]["preStop"]["sleep"]["seconds"] == PRE_STOP >= 3
    assert pod["terminationGracePeriodSeconds"] >= PRE_STOP + 20


def test_a_server_sees_its_own_log_and_a_checked_model_and_nothing_else_of_the_state() -> None:
    pod = version_objects(PLACE, BACKEND, 2)[0]["spec"]["template"]["spec"]
    (fetch,), (server,) = pod["initContainers"], pod["containers"]
    mounted = {one["mountPath"]: (one.get("subPath"), one.get("readOnly", False)) for one in server["volumeMounts"]}
    assert mounted == {
        "/observations": ("flight-delay/observations/predictions", False), "/etc/tidegate": (None, True),
        "/model": (None, True), "/tmp": (None, False),  # noqa: S108
    }  # fmt: skip
    assert {one.get("subPath") for one in fetch["volumeMounts"]} == {"flight-delay/models", None}
    for container in (fetch, server):
        words = container["command"]
        assert words[words.index("--digest") + 1] == BACKEND.digest
        assert words[words.index("--public-key") + 1] == PLACE.public_keys[0]


@pytest.mark.parametrize(("most", "least", "kinds"), [(4, 2, 4), (2, 2, 3), (1, 2, 3)])
def test_replicas_are_added_only_where_there_may_be_more(most: int, least: int, kinds: int) -> None:
    objects = version_objects(replace(PLACE, most=most), replace(BACKEND, replicas=least), least)
    assert len(objects) == kinds
    assert {one["metadata"]["name"] for one in objects} == {"flight-delay-v1-1"}
    assert all(one["metadata"]["ownerReferences"][0]["uid"] == "u-1" for one in objects)


@pytest.mark.parametrize(("replicas", "stay"), [(1, 1), (2, 1), (4, 3)])
def test_a_single_replica_is_never_taken_away_of_several_one(replicas: int, stay: int) -> None:
    found = version_objects(PLACE, replace(BACKEND, replicas=replicas), replicas)
    (budget,) = [one for one in found if one["kind"] == "PodDisruptionBudget"]
    assert budget["spec"]["minAvailable"] == stay


def test_names_are_those_that_the_route_sends_to() -> None:
    assert names(MERGED) == ["flight-delay-v1", "flight-delay-v1-1", "flight-delay-merge"]
    assert service_name("flight-delay", "v1.1") == "flight-delay-v1-1"


def test_a_route_with_a_host_takes_its_control_paths_along_and_names_the_model_itself() -> None:
    route = http_route(MERGED, "tidegate", "models", domain="models.example")
    assert route["spec"]["hostnames"] == ["flight-delay.models.example"]
    control = route["spec"]["rules"][0]
    assert [match["path"]["value"] for match in control["matches"]] == ["/labels", "/clock", "/status", "/console"]
    (filter_,) = control["filters"]
    assert filter_["requestHeaderModifier"]["set"] == [{"name": "x-tidegate-model", "value": "flight-delay"}]
    assert read_route(route).merge == ("v1", "v1.1")


def test_a_way_that_cannot_be_shared_stays_one() -> None:
    route = http_route(MERGED, "tidegate", "models", domain="models.example")
    live = deepcopy(route)
    live["spec"]["rules"][0]["backendRefs"] *= 3
    assert padded(route, live) == route
