"""Every overlay, without a cluster: what runs is restricted, what may be done is named, what is reached is listed."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests import INTEGRATIONS, OVERLAYS, ROOT, build, containers, integration, kubectl, overlay, pod_of
from tidegate.controller.operator import LEADS, Where

Json = dict[str, Any]


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request) -> list[Json]:
    return overlay(request.param)


@pytest.fixture(scope="module", params=[*OVERLAYS, *INTEGRATIONS])
def everything(request) -> list[Json]:
    return overlay(request.param) if request.param in OVERLAYS else integration(request.param)


def of_kind(objects: list[Json], *kinds: str) -> list[Json]:
    return [one for one in objects if one["kind"] in kinds]


def named(objects: list[Json], kind: str, name: str) -> Json:
    (found,) = (one for one in of_kind(objects, kind) if one["metadata"]["name"] == name)
    return found


@pytest.mark.parametrize("name", [*(f"overlays/{n}" for n in OVERLAYS), *(f"integrations/{n}" for n in INTEGRATIONS)])
def test_kubectl_builds_the_same_objects(name):
    if not (program := kubectl()):
        pytest.skip("no kubectl on PATH or of a test cluster")
    told = subprocess.run([program, "kustomize", str(ROOT / "k8s" / name)], capture_output=True, check=True)
    assert by_name(yaml.safe_load_all(told.stdout)) == by_name(build(ROOT / "k8s" / name))


def by_name(objects) -> dict[str, str]:
    return {f"{one['kind']}/{one['metadata']['name']}": json.dumps(one, sort_keys=True) for one in objects}


def test_no_two_everything_have_one_name(everything):
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in everything]
    assert len(names) == len(set(names))


# --- what runs --------------------------------------------------------------------------------------------------------


def test_every_namespace_of_ours_enforces_restricted_pods(objects):
    spaces = {one["metadata"]["namespace"] for one in objects if "namespace" in one["metadata"]}
    labels = {one["metadata"]["name"]: one["metadata"]["labels"] for one in of_kind(objects, "Namespace")}
    assert spaces == set(labels) == {"tidegate"}
    assert labels["tidegate"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_container_is_restricted_and_bounded(everything):
    seen = 0
    for one in everything:
        pod = pod_of(one)
        if pod is None:
            continue
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, one["metadata"]["name"]
        assert context["runAsUser"] == 65534
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in containers(one):
            seen += 1
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, container["name"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
    assert seen


def test_images_have_a_version_and_are_not_pulled_again(everything):
    text = json.dumps(everything)
    images = re.findall(r'"image": "([^"]+)"', text)
    assert all(re.search(r":[0-9][0-9.]*$", image) for image in images), images
    assert {c["imagePullPolicy"] for one in everything for c in containers(one)} == {"IfNotPresent"}


def test_what_runs_on_is_probed(everything):
    for one in of_kind(everything, "Deployment", "StatefulSet"):
        for container in one["spec"]["template"]["spec"]["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= container.keys(), container["name"]


def test_what_serves_has_a_disruption_budget(objects):
    budgets = of_kind(objects, "PodDisruptionBudget")
    for one in of_kind(objects, "Deployment", "StatefulSet"):
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert any(selects(budget["spec"]["selector"], labels) for budget in budgets), one["metadata"]["name"]
    proxy = named(objects, "EnvoyProxy", "tidegate")["spec"]["provider"]["kubernetes"]
    assert 1 <= proxy["envoyPDB"]["minAvailable"] <= proxy["envoyDeployment"]["replicas"]


def test_selectors_find_their_own_pods_and_no_others(objects):
    pods = {one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"] for one in objects if pod_of(one)}
    for service in of_kind(objects, "Service"):
        # whoever leads has one more label, which he puts on himself
        wanted = {key: value for key, value in service["spec"]["selector"].items() if key != LEADS}
        found = [name for name, labels in pods.items() if selects({"matchLabels": wanted}, labels)]
        assert found == [service["metadata"]["name"]]


def test_the_service_of_the_operator_finds_the_leader_alone(objects):
    assert named(objects, "Service", "tidegate-operator")["spec"]["selector"][LEADS] == Where("tidegate").lease


# --- what may be done -------------------------------------------------------------------------------------------------


def test_rights_are_named_one_by_one(everything):
    assert not of_kind(everything, "ClusterRole", "ClusterRoleBinding")
    for role in of_kind(everything, "Role"):
        for rule in role["rules"]:
            words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "*" not in "".join(words), rule
            assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(rule["verbs"])
            assert not {"pods/exec", "pods/attach", "pods/portforward", "serviceaccounts/token"} & set(
                rule["resources"]
            )


def test_nobody_may_read_a_secret_through_the_api(objects):
    rules = [(role["metadata"]["name"], rule) for role in of_kind(objects, "Role") for rule in role["rules"]]
    of_secrets = [(name, rule["verbs"]) for name, rule in rules if "secrets" in rule["resources"]]
    assert of_secrets in ([], [("tidegate-install", ["create"])])


def test_only_who_needs_the_api_has_a_token(objects):
    assert all(one["automountServiceAccountToken"] is False for one in of_kind(objects, "ServiceAccount"))
    having = {one["metadata"]["name"] for one in objects if (pod_of(one) or {}).get("automountServiceAccountToken")}
    assert having <= {"tidegate-operator", "tidegate-install"}
    bound = {subject["name"] for one in of_kind(objects, "RoleBinding") for subject in one["subjects"]}
    assert bound == having


def test_no_secret_stands_in_a_file(everything):
    assert not of_kind(everything, "Secret")
    for one in everything:
        for container in containers(one):
            for variable in container.get("env", ()):
                assert not re.search("TOKEN|PASSWORD|SECRET", variable["name"]) or "valueFrom" in variable


def test_the_private_key_is_mounted_nowhere_but_in_runs(everything):
    for one in everything:
        for volume in (pod_of(one) or {}).get("volumes", ()):
            if volume.get("secret", {}).get("secretName") == "tidegate-signing":
                assert [item["key"] for item in volume["secret"]["items"]] == ["signing.pub"]


# --- what is reached --------------------------------------------------------------------------------------------------


def selects(selector: Json, labels: Json) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for one in selector.get("matchExpressions", ()):
        assert one["operator"] == "In"
        if labels.get(one["key"]) not in one["values"]:
            return False
    return True


def pod_labels(objects: list[Json]) -> dict[str, Json]:
    """The kinds of pods in the namespace: the overlay's, those that the operator makes, the proxies, a stranger."""
    made = {
        component: {"app.kubernetes.io/part-of": "tidegate", "app.kubernetes.io/component": component}
        for component in ("run", "serving", "merge")
    }
    proxy = {"gateway.networking.k8s.io/gateway-name": "tidegate", "app.kubernetes.io/component": "proxy"}
    ours = {
        one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]["template"][
            "metadata"
        ]["labels"]
        for one in objects
        if pod_of(one)
    }
    return {**made, **ours, "gateway": proxy, "stranger": {"app": "stranger"}}


def reaches(objects: list[Json], source: Json, target: Json, port: int) -> bool:
    """Whether policies let one pod of the namespace open a connection to another one's port."""
    policies = [one["spec"] for one in of_kind(objects, "NetworkPolicy")]
    return allowed(policies, "Ingress", target, source, port) and allowed(policies, "Egress", source, target, port)


def allowed(policies: list[Json], way: str, pod: Json, peer: Json, port: int) -> bool:
    of_pod = [one for one in policies if way in one["policyTypes"] and selects(one["podSelector"], pod)]
    assert of_pod, "deny by default stands for every pod"
    peers = {"Ingress": "from", "Egress": "to"}[way]
    return any(
        any(entry["port"] == port for entry in rule["ports"])
        and (peers not in rule or any(is_peer(one, peer) for one in rule[peers]))
        for one in of_pod
        for rule in one.get(way.lower(), ())
    )


def is_peer(one: Json, labels: Json) -> bool:
    if "namespaceSelector" in one or "ipBlock" in one:  # of another namespace, or outside
        return False
    return selects(one["podSelector"], labels)


REACHED_BY = {
    ("operator", 8090): {"gateway"},
    ("serving", 8080): {"gateway", "merge", "operator"},
    ("merge", 8080): {"gateway", "operator"},
    ("database", 5432): {"operator", "run"},
    ("online-store", 6379): {"serving", "run"},
    ("stream", 4222): {"operator", "run"},
}


@pytest.mark.parametrize(("component", "port"), REACHED_BY)
def test_each_service_is_reached_by_named_peers_only(objects, component, port):
    pods = pod_labels(objects)
    if component not in pods:
        pytest.skip("a store of this overlay is outside")
    assert {name for name, labels in pods.items() if reaches(objects, labels, pods[component], port)} == REACHED_BY[
        component, port
    ]


def test_no_port_is_open_beside_those(objects):
    pods = pod_labels(objects)
    ports = {rule["port"] for one in of_kind(objects, "NetworkPolicy") for way in ("ingress", "egress")
             for each in one["spec"].get(way, ()) for rule in each["ports"]} | {22, 8222, 19000}  # fmt: skip
    open_ = {
        (name, port)
        for name, labels in pods.items()
        for port in ports
        if any(reaches(objects, source, labels, port) for source in pods.values())
    }
    assert open_ - {("gateway", 10080), ("gateway", 10443)} == {key for key in REACHED_BY if key[0] in pods}


def test_a_policy_denies_by_default(objects):
    denies = named(objects, "NetworkPolicy", "default-deny")["spec"]
    assert denies == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_runs_ask_no_api_server_and_no_internet_in_the_local_overlay():
    objects = overlay("local")
    run = pod_labels(objects)["run"]
    for policy in of_kind(objects, "NetworkPolicy"):
        for rule in policy["spec"].get("egress", ()) if selects(policy["spec"]["podSelector"], run) else ():
            assert "to" in rule


def test_every_file_of_the_manifests_is_used():
    for folder in ("base", "overlays/local", "overlays/production", "crds"):
        told = yaml.safe_load((ROOT / "k8s" / folder / "kustomization.yaml").read_text())
        named_ = {*told["resources"], *(patch["path"] for patch in told.get("patches", ()) if "path" in patch)}
        files = {path.name for path in (ROOT / "k8s" / folder).glob("*.yaml")} - {"kustomization.yaml"}
        assert files == {name for name in named_ if Path(name).suffix}
