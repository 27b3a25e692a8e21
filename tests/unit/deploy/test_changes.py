"""What is owned is picked, what is undone is as it was, and no diff shows a secret."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from api_server import ApiServer

from tidegate.deploy.changes import change, serving_image, undo, with_images
from tidegate.deploy.health import health
from tidegate.deploy.owned import both, pick
from tidegate.errors import UserError

DIGEST = "@sha256:" + "a" * 64
NAMES = st.sampled_from("abc")
PLAIN = st.sampled_from([0, 1, [], [1, 2]])


def keyed(inner: st.SearchStrategy) -> st.SearchStrategy:
    """A list of objects with different names, at least one."""
    made = st.dictionaries(NAMES, st.dictionaries(st.just("image"), inner), min_size=1)
    return made.map(lambda found: [{"name": name, **one} for name, one in sorted(found.items())])


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "replicas": PLAIN,
        "labels": st.dictionaries(NAMES, PLAIN, min_size=1),
        "containers": keyed(PLAIN),
        "deep": st.dictionaries(st.just("a"), st.dictionaries(NAMES, PLAIN, min_size=1), min_size=1),
    },
)


def config(spec: dict) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "spec": {**spec, "always": 1}}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # seconds of a busy machine say nothing here
@given(SPECS, SPECS)
def test_undone_is_as_it_was_whatever_was_applied_since(first, second):
    server = ApiServer()
    (before,) = server.apply([config(first)], dry=False)
    (now,) = server.apply([config(second)], dry=False)
    step = undo(before, now)
    assert (step is None) == (before["spec"] == now["spec"])
    if step is not None:
        verb, wanted = step
        assert verb == "apply"
        (after,) = server.apply([wanted], dry=False)
        assert after["spec"] == in_order_of(before["spec"], after["spec"])


def in_order_of(spec: dict, other: dict) -> dict:
    """Items by name have no order of their own here."""
    if "containers" not in spec:
        return spec
    items = {one["name"]: one for one in spec["containers"]}
    return {**spec, "containers": [items[one["name"]] for one in other["containers"]]}


def test_what_others_own_is_not_undone():
    found = config({"replicas": 1})
    before = {**found, "spec": {"replicas": 1, "theirs": 2}}
    before["metadata"] = {"name": "one", "managedFields": [
        {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "autoscaler", "operation": "Update", "fieldsV1": {"f:spec": {"f:theirs": {}}}},
        {"manager": "kubectl", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {}}},
    ]}  # fmt: skip
    now = {**copy.deepcopy(before), "spec": {"replicas": 2, "theirs": 3}}
    assert undo(before, now) == ("apply", config({"replicas": 1}) | {"spec": {"replicas": 1}})


def test_items_are_picked_by_key_and_by_value():
    value = {"ports": [{"port": 1, "protocol": "TCP", "name": "a"}, {"port": 2, "protocol": "TCP"}], "set": ["x", "y"]}
    fields = {"f:ports": {'k:{"port":1,"protocol":"TCP"}': {".": {}, "f:name": {}}}, "f:set": {'v:"y"': {}}}
    assert pick(value, fields) == {"ports": [{"port": 1, "protocol": "TCP", "name": "a"}], "set": ["y"]}
    assert pick(value, both(fields, {"f:ports": {}})) == {"ports": value["ports"], "set": ["y"]}


@pytest.mark.parametrize(("kind", "path"), [("Secret", ("data", "password")), ("Model", ("alerts", "webhook"))])
def test_a_diff_tells_that_a_secret_differs_and_not_what_it_is(kind, path):
    def made(value: str) -> dict:
        inner = {path[0]: {path[1]: value}}
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "one"}} | (
            inner if kind == "Secret" else {"spec": inner}
        )

    found = change(made("hunter2"), made("hunter3"))
    assert found.what == "changed"
    assert "hunter" not in "\n".join(found.lines)
    assert change(made("hunter2"), made("hunter2")).what == "same"


def test_images_are_replaced_wherever_they_stand_and_nothing_else_is():
    operator = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "operator"},
        "spec": {"template": {"spec": {"containers": [{
            "image": "localhost/tidegate/components:0.1.0",
            "args": ["operator", "--image", "localhost/tidegate/serving:0.1.0"],
            "env": [{"name": "TIDEGATE_IMAGE", "value": "reg.example:5000/a/tidegate/components:0.1.0"},
                    {"name": "OTHER", "value": "localhost/tidegate/components-python:0.1.0"}],
        }]}}},
    }  # fmt: skip
    images = {"components": f"reg/tidegate/components{DIGEST}", "serving": f"reg/tidegate/serving{DIGEST}"}
    (found,) = with_images([operator], images)
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["image"] == container["env"][0]["value"] == images["components"]
    assert container["env"][1]["value"] == "localhost/tidegate/components-python:0.1.0"
    assert serving_image([found]) == images["serving"]
    with pytest.raises(UserError, match="by digest"):
        with_images([operator], {"serving": "reg/tidegate/serving:1"})
    with pytest.raises(UserError, match="names an image"):
        with_images([], {"serving": images["serving"]})


CONDITION = {"type": "Accepted", "status": "False", "message": "no such slice", "observedGeneration": 1}
DEPLOYED = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


@pytest.mark.parametrize(
    ("kind", "status", "state"),
    [
        ("Model", {"conditions": [CONDITION]}, "waiting"),
        ("Model", {"conditions": [{**CONDITION, "observedGeneration": 2}]}, "failed"),
        ("Model", {}, "waiting"),
        ("Deployment", DEPLOYED, "healthy"),
        ("Deployment", {**DEPLOYED, "observedGeneration": 1}, "waiting"),
        ("Deployment", {**DEPLOYED, "replicas": 3}, "waiting"),
        ("Deployment", {**DEPLOYED, "availableReplicas": 1}, "waiting"),
        ("Deployment", {**DEPLOYED, "conditions": [{"type": "Progressing", "status": "False"}]}, "failed"),
        ("StatefulSet", {"observedGeneration": 2, "readyReplicas": 2}, "healthy"),
        ("StatefulSet", {"observedGeneration": 2, "readyReplicas": 2, "updateRevision": "b"}, "waiting"),
        ("Job", {"conditions": [{"type": "Failed", "status": "True"}]}, "failed"),
        ("Job", {"conditions": [{"type": "Complete", "status": "True"}]}, "healthy"),
        ("PersistentVolumeClaim", {"phase": "Pending"}, "waiting"),
        ("PersistentVolumeClaim", {"phase": "Lost"}, "failed"),
        ("ConfigMap", {}, "healthy"),
    ],
)
def test_health_is_of_the_generation_that_is_there(kind, status, state):
    found = {"kind": kind, "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}
    assert health(found).state == state
    assert health(None).state == "waiting"
