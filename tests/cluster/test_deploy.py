"""`tidegate deploy` against a real API server: dry run and diff, health, and back to what was there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.cluster.images import digests
from k8s.cluster.places import BIN, KUBECONFIG
from tests.kubectl import kubectl, moved, namespace
from tests.manifests import ROOT, overlay

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
MISSING = "localhost/tidegate/components@sha256:" + "0" * 64
PROGRAM = ["python", "-c", "import signal; signal.pause()"]


class Place:
    """An overlay in a folder, for a namespace of its own, and the command on it."""

    def __init__(self, folder: Path, space: str) -> None:
        self.folder, self.space = folder, space

    def write(self, *objects: dict[str, Any]) -> None:
        (self.folder / "all.yaml").write_text(yaml.safe_dump_all(objects))
        (self.folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["all.yaml"]}))

    def deploy(self, *words: str, timeout: str = "90s") -> tuple[int, dict[str, Any], str]:
        """Exit status, document, and what stderr said."""
        command = (sys.executable, "-m", "tidegate.cli", "deploy", str(self.folder), "--namespace", self.space)
        env = {**os.environ, "KUBECONFIG": str(KUBECONFIG), "PATH": f"{BIN}:{os.environ['PATH']}"}
        done = subprocess.run(
            (*command, "--timeout", timeout, "--json", *words),
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        print(done.stderr)
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr

    def shown(self, kind: str, name: str) -> dict[str, Any]:
        words = ("get", kind, name, "--namespace", self.space, "--output=json", "--show-managed-fields")
        return json.loads(kubectl(*words))


@pytest.fixture
def place(up: None, tmp_path: Path) -> Iterator[Place]:
    os.environ.setdefault("KUBECONFIG", str(KUBECONFIG))
    with namespace("deploy") as space:
        yield Place(tmp_path, space)


def of(place: Place, version: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "one", "namespace": place.space}, **more}


def waiting(place: Place, image: str, **env: str) -> dict[str, Any]:
    """A Deployment as ours are, whose pod only waits."""
    user = {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": PROGRAM,
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    pod = {"securityContext": user, "terminationGracePeriodSeconds": 0, "containers": [container]}
    labels = {"app": "one"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return of(
        place, "apps/v1", "Deployment", spec={"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    )


def plain(found: dict[str, Any]) -> tuple[Any, Any]:
    """Its spec, and which fields kubectl's own apply owns."""
    mine = [one["fieldsV1"] for one in found["metadata"]["managedFields"] if one["operation"] == "Apply"]
    return found["spec"], mine


def test_a_deployment_that_does_not_become_healthy_goes_back_field_by_field(place):
    image = digests()["components"]
    config = of(place, "v1", "ConfigMap", data={"a": "1"})
    place.write(config, waiting(place, image, ONE="1", TWO="2"))
    status, told, _ = place.deploy()
    assert (status, told["ok"], told["waiting"]) == (0, True, {})
    before, data = plain(place.shown("deployment", "one")), place.shown("configmap", "one")["data"]

    place.write(config, waiting(place, image, ONE="1", TWO="2"))
    status, told, said = place.deploy("--dry-run")
    assert (status, {one["change"] for one in told["changes"]}) == (0, {"same"})

    place.write({**config, "data": {"b": "2"}}, waiting(place, MISSING, ONE="3", THREE="3"),
                of(place, "v1", "Service", spec={"selector": {"app": "one"}, "ports": [{"port": 80}]}))  # fmt: skip
    status, told, said = place.deploy("--dry-run")
    assert (status, told["applied"]) == (0, False)
    assert f"+        image: {MISSING}" in said
    assert plain(place.shown("deployment", "one")) == before

    status, told, said = place.deploy(timeout="20s")
    assert (status, told["rolled_back"], told["healthy_again"]) == (1, True, True)
    assert "Deployment" in told["trouble"]
    assert plain(place.shown("deployment", "one")) == before
    assert place.shown("configmap", "one")["data"] == data
    assert kubectl("get", "service", "one", "--ignore-not-found", "--namespace", place.space) == ""

    place.write(config, waiting(place, image, ONE="1", TWO="2"))
    assert {one["change"] for one in place.deploy("--dry-run")[1]["changes"]} == {"same"}


def test_what_the_server_refuses_in_the_dry_run_changes_nothing(place):
    place.write(of(place, "v1", "ConfigMap", data={"a": "1"}))
    assert place.deploy()[0] == 0
    wrong = waiting(place, digests()["components"])
    wrong["spec"]["replica"] = 1
    place.write(of(place, "v1", "ConfigMap", data={"a": "2"}), wrong)
    status, told, said = place.deploy()
    assert (status, told) == (2, {})
    assert ".spec.replica" in said
    assert place.shown("configmap", "one")["data"] == {"a": "1"}


def test_a_pod_of_another_profile_is_not_let_in_and_all_goes_back(place):
    place.write(of(place, "v1", "ConfigMap", data={"a": "1"}))
    assert place.deploy()[0] == 0
    rooted = waiting(place, digests()["components"])
    rooted["spec"]["template"]["spec"]["securityContext"] = {}
    place.write(of(place, "v1", "ConfigMap", data={"a": "2"}), rooted)
    status, told, _ = place.deploy(timeout="10s")
    assert (status, told["rolled_back"]) == (1, True)
    assert place.shown("configmap", "one")["data"] == {"a": "1"}
    assert kubectl("get", "deployment", "one", "--ignore-not-found", "--namespace", place.space) == ""


def test_a_model_that_no_operator_accepts_goes_back(place, tmp_path):
    """Definitions and Gateway classes are the whole cluster's: applied as they are, they stay."""
    own = [one for one in overlay("local") if one["kind"] in ("CustomResourceDefinition", "ServiceAccount", "Role")]
    place.write(*[one for one in own if "namespace" not in one["metadata"]], *moved(own, place.space))
    status, told, _ = place.deploy("--model", "k8s/models/flight-delay.yaml", timeout="5s")
    assert (status, told["rolled_back"]) == (1, True)
    assert f"Model {place.space}/flight-delay: is not Accepted yet" in told["trouble"]
    assert kubectl("get", "models", "--namespace", place.space, "--output=name") == ""
    assert kubectl("get", "serviceaccount", "tidegate-run", "--ignore-not-found", "--namespace", place.space) == ""
    assert "models.tidegate.dev" in kubectl("get", "crd", "models.tidegate.dev", "--output=name")
