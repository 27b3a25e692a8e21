"""Which orchestrator a Model file means."""

from pathlib import Path

import pytest

from tidegate.errors import UserError
from tidegate.orchestrators.choose import image_of, orchestrator_of, pods_of
from tidegate.orchestrators.job_manifest import job_manifest
from tidegate.orchestrators.local import LocalOrchestrator
from tidegate.spec import load_model

MODEL = load_model(Path(__file__).parents[3] / "k8s/models/flight-delay.yaml")


@pytest.fixture(autouse=True)
def laptop(monkeypatch):
    for name in ("KUBERNETES_SERVICE_HOST", "TIDEGATE_IMAGE", "TIDEGATE_PODS", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_auto_is_local_on_a_laptop_and_in_a_pod_that_is_told_no_image(monkeypatch, tmp_path):
    assert isinstance(orchestrator_of(MODEL, tmp_path), LocalOrchestrator)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert isinstance(orchestrator_of(MODEL, tmp_path), LocalOrchestrator)


def test_auto_is_job_in_a_pod_that_is_told_which_image_runs_have(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("TIDEGATE_IMAGE", "localhost/tidegate/components:0.1.0")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert image_of(MODEL) == "localhost/tidegate/components:0.1.0"
    with pytest.raises(UserError, match=r"cluster: .* takes a pod's service account, or a kubeconfig"):
        orchestrator_of(MODEL, tmp_path)  # no pod really: there is no service account


def test_a_job_needs_an_image(tmp_path):
    with pytest.raises(UserError, match=r"spec\.pipeline\.image: got None"):
        orchestrator_of(MODEL, tmp_path, "job")


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(UserError, match="orchestrator: got 'argo', takes auto, local, job or kubeflow"):
        orchestrator_of(MODEL, tmp_path, "argo")


def test_pod_settings_come_from_the_file_that_the_environment_names(monkeypatch, tmp_path):
    assert pods_of(Path("/elsewhere/m")).namespace == "tidegate"
    (tmp_path / "pods.yaml").write_text("namespace: other\n")
    monkeypatch.setenv("TIDEGATE_PODS", str(tmp_path / "pods.yaml"))
    assert pods_of(Path("/state")).namespace == "other"


@pytest.mark.parametrize(("folder", "seen"), [("/state", ""), ("/state/m", "m"), ("/elsewhere/m", "")])
def test_a_run_sees_the_state_folder_of_its_model(folder: str, seen: str) -> None:
    assert pods_of(Path(folder)).folder == seen
    mounts = job_manifest("m-1", "p", {}, "i", pods_of(Path(folder)))["spec"]["template"]["spec"]["containers"][0]
    assert mounts["volumeMounts"][0].get("subPath", "") == seen
