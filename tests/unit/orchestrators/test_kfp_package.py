"""What Kubeflow is given of a package: the golden file with the image in it, and pod settings beside it."""

import difflib
from pathlib import Path

import pytest
import yaml
from kfp_server_stub import parse_package

from tidegate.errors import UserError
from tidegate.orchestrators.kfp_package import version_name, with_image, with_pods
from tidegate.orchestrators.pods import Pods, Resources, Toleration

PIPELINES = sorted((Path(__file__).parents[3] / "pipelines").glob("*.yaml"))
GOLDEN = next(path for path in PIPELINES if path.stem == "continuous_training").read_text()
IMAGE = "registry.example/components@sha256:" + "0" * 64


def executors(text):
    platform = list(yaml.safe_load_all(text))[1]
    return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_nothing_but_the_image_changes(path):
    before, after = path.read_text(), with_image(path.read_text(), IMAGE)
    changed = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    containers = [one["container"] for one in yaml.safe_load(after)["deploymentSpec"]["executors"].values()]
    assert {container["image"] for container in containers} == {IMAGE}
    assert sum(line.startswith("+") for line in changed) == len(containers)
    assert {line[2:].strip().split(":")[0] for line in changed} == {"image"}


def test_an_image_without_a_digest_is_refused():
    with pytest.raises(UserError, match="an image by digest"):
        with_image(GOLDEN, "registry.example/components:latest")


def test_the_first_document_stays_as_it_is_and_the_second_has_the_pods():
    text = with_pods(GOLDEN, Pods())
    assert text.startswith(GOLDEN + "---\n")
    parse_package(text)  # as the installed kfp-pipeline-spec and kfp-kubernetes have it
    for name, executor in executors(text).items():
        assert executor["pvcMount"][0]["mountPath"] == "/state"
        variables = [pair["envVar"] for secret in executor["secretAsEnv"] for pair in secret["keyToEnv"]]
        assert variables == ["TIDEGATE_JOURNAL", "MLFLOW_TRACKING_URI"]
        # the signing key is in the pod that signs and in no other
        assert ("secretAsVolume" in executor) is (name == "exec-register")


def test_tolerations_node_and_resources_reach_every_step():
    pods = Pods(
        tolerations=(Toleration(key="gpu", operator="Exists"),), node_selector={"pool": "train"}, resources=Resources()
    )
    text = with_pods(GOLDEN, pods)
    parse_package(text)
    document = yaml.safe_load(text.partition("---\n")[0])
    for name, executor in executors(text).items():
        assert executor["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
        assert executor["nodeSelector"] == {"labels": {"pool": "train"}}
        resources = document["deploymentSpec"]["executors"][name]["container"].pop("resources")
        assert resources["resourceMemoryLimit"] == "4Gi"
    assert document == yaml.safe_load(GOLDEN)


def test_the_same_content_is_the_same_version():
    assert version_name(GOLDEN) == version_name(str(GOLDEN))
    assert version_name(GOLDEN) != version_name(with_image(GOLDEN, IMAGE))
