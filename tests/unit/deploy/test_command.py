"""`tidegate deploy` as it is typed, against an API server in memory and the stub of Kubeflow's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from api_server import ApiServer

from tests import manifests
from tests.kfp_server_stub import kfp_server_stub
from tidegate.cli import app
from tidegate.deploy import command
from tidegate.deploy.kubectl import Kubectl
from tidegate.errors import PlatformError, TidegateError, UserError

ROOT = Path(__file__).parents[3]
IMAGE = "registry.example/tidegate/components@sha256:" + "a" * 64
MODEL = ("--model", "k8s/models/flight-delay.yaml")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    found = ApiServer()
    found.build = manifests.build
    monkeypatch.setattr(command, "Kubectl", lambda: found)
    monkeypatch.chdir(ROOT)
    return found


def deploy(*words: str) -> tuple[int, dict]:
    """Exit status and document; raises what the command line would turn into one line."""
    told = CliRunner().invoke(app, ["deploy", "k8s/overlays/local", "--timeout", "0s", "--json", *words])
    if isinstance(told.exception, TidegateError):
        raise told.exception
    return told.exit_code, json.loads(told.stdout)


def test_the_image_is_set_in_the_operator_its_runs_and_the_models(server):
    status, told = deploy(*MODEL, "--image", IMAGE)
    assert (status, told["ok"], told["applied"], told["rolled_back"]) == (0, True, True, False)
    found = {key.kind: one for key, one in server.objects.items() if key.name in ("tidegate-operator", "flight-delay")}
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == IMAGE
    assert {"name": "TIDEGATE_IMAGE", "value": IMAGE} in container["env"]
    assert found["Model"]["spec"]["pipeline"]["image"] == IMAGE


def test_not_healthy_is_exit_status_1_and_says_what_is_not(server):
    server.sick = lambda one: "image not found" if one["kind"] == "Deployment" else ""
    status, told = deploy(*MODEL, "--image", IMAGE)
    assert (status, told["rolled_back"]) == (1, True)
    assert "Deployment tidegate/tidegate-operator: 0 of 2 replicas are available" in told["sentence"]


def test_on_kubeflow_the_version_is_the_one_that_a_run_submits(server, monkeypatch, tmp_path):
    from tidegate.orchestrators.kubeflow import KubeflowOrchestrator
    from tidegate.orchestrators.pods import Pods

    with kfp_server_stub() as kubeflow:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kubeflow.url)
        words = (*MODEL, "--image", IMAGE, "--orchestrator", "kubeflow")
        looked = deploy(*words, "--dry-run")[1]["pipelines"]
        assert kubeflow.versions == {}
        (told,) = deploy(*words)[1]["pipelines"]
        (version,) = kubeflow.versions.values()
        assert (told["version"], told["version_id"]) == (version.display_name, version.pipeline_version_id)
        assert [one["version"] for one in looked] == [told["version"]]
        deploy(*words)
        # what the operator does for this model, whose folder of the shared volume has its name
        runner = KubeflowOrchestrator(tmp_path, IMAGE, Pods(folder="flight-delay"))
        arguments = {"workload": "w", "model": "flight-delay", "until": "2013-01-01", "settings": "{}"}
        runner.submit(ROOT / "pipelines/continuous_training.yaml", arguments, "one")
        assert list(kubeflow.versions) == [told["version_id"]]
    assert server.objects
    (model,) = (one for key, one in server.objects.items() if key.kind == "Model")
    assert model["spec"]["pipeline"]["orchestrator"] == "kubeflow"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--image", "registry.example/tidegate/components:1"), "--image: got .* by digest"),
        (("--orchestrator", "argo"), "auto, job or kubeflow"),
        (("--timeout", "soon"), "a span such as 10m"),
        (("--model", "k8s/models/none.yaml"), "no file"),
        ((*MODEL, *MODEL), "each Model once"),
    ],
)
def test_wrong_use_is_one_line_and_asks_nothing(server, words, message):
    with pytest.raises(UserError, match=message):
        deploy(*words)
    assert server.writes == []


def test_a_stale_package_is_refused_before_anything_is_asked(server, tmp_path):
    document = yaml.safe_load((ROOT / MODEL[1]).read_text())
    document["spec"]["pipeline"]["package"] = str(tmp_path / "none.yaml")
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(UserError, match=r"none\.yaml"):
        deploy("--model", str(tmp_path / "model.yaml"))
    assert server.writes == []


def test_kubectl_that_refuses_is_told_in_its_own_words(monkeypatch, tmp_path):
    program = tmp_path / "kubectl"
    noise = "E1130 22:31:29.359 11023 memcache.go:265] noise"
    program.write_text(f'#!/bin/sh\necho "{noise}" >&2\necho "no such kind" >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlatformError, match=r"^kubectl get: no such kind$"):
        Kubectl().get([{"kind": "None"}])
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="kubectl"):
        Kubectl()
