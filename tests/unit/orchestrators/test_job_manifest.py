"""A run's Job, as it is sent: golden, and what must hold of it. TIDEGATE_GOLDEN=write writes the file."""

import json
import os
from pathlib import Path

import pytest
import yaml
from contract.orchestrator import PACKAGE

from tidegate.errors import UserError
from tidegate.orchestrators.job_manifest import ANNOTATIONS, job_manifest, job_name
from tidegate.orchestrators.pods import Pods, parse_pods

GOLDEN = Path(__file__).parents[2] / "golden" / "job.yaml"
IMAGE = "localhost/tidegate/components:0.1.0"
ARGUMENTS = {"model": "flight-delay", "run": "flight-delay-7", "state": "/state"}


def manifest(**pods):
    return job_manifest("flight-delay-7", "root: {}\n", ARGUMENTS, IMAGE, Pods(**pods))


def test_the_manifest_is_the_golden_one():
    if os.environ.get("TIDEGATE_GOLDEN") == "write":
        GOLDEN.write_text(yaml.safe_dump(manifest(), sort_keys=False))
    assert yaml.safe_load(GOLDEN.read_text()) == manifest()


def test_the_pod_is_given_its_package_and_arguments_as_files():
    text = PACKAGE.read_text()
    template = job_manifest("r1", text, ARGUMENTS, IMAGE, Pods())["spec"]["template"]
    assert template["metadata"]["annotations"][ANNOTATIONS["package.yaml"]] == text
    assert json.loads(template["metadata"]["annotations"][ANNOTATIONS["arguments.json"]]) == ARGUMENTS
    (request,) = [volume for volume in template["spec"]["volumes"] if volume["name"] == "request"]
    fields = {item["path"]: item["fieldRef"]["fieldPath"] for item in request["downwardAPI"]["items"]}
    assert fields == {path: f"metadata.annotations['{key}']" for path, key in ANNOTATIONS.items()}


def test_pod_settings_reach_the_pod():
    told = {"tolerations": [{"key": "gpu", "operator": "Exists"}], "nodeSelector": {"pool": "train"}, "claim": "c",
            "databaseSecret": None, "resources": {"memoryLimit": "8Gi"}, "deadline": "30m"}  # fmt: skip
    job = job_manifest("r1", "", ARGUMENTS, IMAGE, parse_pods(told, "pods.yaml"))
    pod = job["spec"]["template"]["spec"]
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert (pod["nodeSelector"], job["spec"]["activeDeadlineSeconds"]) == ({"pool": "train"}, 1800)
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "c"}
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "8Gi"}
    assert [one["name"] for one in pod["containers"][0]["env"]] == ["HOME"]


def test_a_wrong_pod_setting_is_named():
    with pytest.raises(UserError, match=r"pods\.yaml: tolerations\.0\.operator: got 'Always'"):
        parse_pods({"tolerations": [{"operator": "Always"}]}, "pods.yaml")


@pytest.mark.parametrize(("run", "same"), [("flight-delay-7", True), ("a", True), ("a-", False), ("a" * 63, True)])
def test_a_run_id_that_kubernetes_takes_is_the_jobs_name(run, same):
    name = job_name(run)
    assert (name == run) is same
    assert len(name) <= 63
    assert name[-1].isalnum()
