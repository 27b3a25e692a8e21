"""Runs as Jobs on a real cluster: the contract, one pod a run, and the digest that the same package has elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from cluster.told import tell
from contract.orchestrator import PACKAGE, OrchestratorContract, ended
from namespace import IMAGE, POD, RESTRICTED, Namespace, database, namespace, of

from tidegate.errors import PlatformError
from tidegate.orchestrators.job import JobOrchestrator
from tidegate.orchestrators.pods import STATE, Pods, Resources

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
MODEL, UNTIL = "k8s/models/flight-delay.yaml", "2013-03-01T05:00:00Z"


@pytest.fixture(scope="module")
def place() -> Iterator[Namespace]:
    with namespace("orch-job") as found:
        yield found


@pytest.fixture
def orchestrator(place: Namespace) -> JobOrchestrator:
    return JobOrchestrator(place.state, IMAGE, Pods(namespace=place.name, database_secret=None))


class TestJobOrchestrator(OrchestratorContract):
    def arguments(self, tmp_path: Path, word: str = "hello") -> dict[str, str]:
        return {"path": f"{STATE}/out-{word}.txt", "word": word}

    @pytest.fixture
    def finish(self) -> Callable[[str, str], None]:
        return lambda run, error: None


def test_a_run_is_one_pod_and_its_end_can_be_read_with_kubectl(orchestrator: JobOrchestrator, place: Namespace) -> None:
    run = orchestrator.submit(PACKAGE, {"path": f"{STATE}/out.txt", "word": "fail"}, "one-pod")
    assert ended(orchestrator, run).state == "failed"
    place.kubectl("wait", f"job/{run}", "--for=condition=Failed", "--timeout=60s")
    (pod,) = place.pods(f"batch.kubernetes.io/job-name={run}")
    (container,) = pod["status"]["containerStatuses"]
    assert container["state"]["terminated"]["message"] == "word: got 'fail', takes another word"
    assert "UserError" in place.kubectl("logs", f"job/{run}")


def test_the_signing_key_is_there_and_no_token_of_the_cluster_is(
    orchestrator: JobOrchestrator, place: Namespace
) -> None:
    run = orchestrator.submit(PACKAGE, {"path": f"{STATE}/keys-seen.txt", "word": "wait"}, "what-a-pod-sees")
    _until(lambda: (place.state / "keys-seen.txt").exists())
    look = "ls /state/keys; ls /var/run/secrets/kubernetes.io 2>&1; touch /app/x 2>&1; id -u"
    seen = place.kubectl("exec", f"job/{run}", "--", "sh", "-c", look)
    assert seen.split()[:2] == ["signing.key", "signing.pub"]
    assert "No such file" in seen
    assert "Read-only file system" in seen
    assert seen.split()[-1] == "65534"
    (place.state / "keys-seen.txt.go").touch()
    assert ended(orchestrator, run).state == "succeeded"


def test_a_run_whose_job_is_deleted_has_failed(orchestrator: JobOrchestrator, place: Namespace) -> None:
    run = orchestrator.submit(PACKAGE, {"path": f"{STATE}/deleted.txt", "word": "wait"}, "deleted")
    _until(lambda: (place.state / "deleted.txt").exists())
    place.kubectl("delete", f"job/{run}", "--wait=true")
    found = ended(orchestrator, run)
    assert (found.state, found.error) == ("failed", "the run's Job was deleted before it ended")


def test_a_pod_that_needs_more_memory_than_it_may_have_is_failed(place: Namespace) -> None:
    small = Pods(namespace=place.name, database_secret=None, resources=Resources(memory="16Mi", memory_limit="16Mi"))
    runner = JobOrchestrator(place.state, IMAGE, small)
    found = ended(runner, runner.submit(PACKAGE, {"path": f"{STATE}/x.txt", "word": "hello"}, "out-of-memory"))
    assert found.state == "failed"
    assert found.error


def test_what_the_api_server_refuses_is_one_line(place: Namespace) -> None:
    runner = JobOrchestrator(place.state, IMAGE, Pods(namespace="no-such-namespace"))
    with pytest.raises(PlatformError, match=r'Job r1: namespaces "no-such-namespace" not found'):
        runner.submit(PACKAGE, {"path": "x", "word": "hello"}, "r1")


@pytest.mark.timeout(900)
def test_the_same_package_registers_the_same_model_as_on_this_machine(place: Namespace, tmp_path: Path) -> None:
    """`tidegate run` in a pod, which there means a Job; journal and MLflow in PostgreSQL. Prints times and pods."""
    database(place)
    began = time.monotonic()
    place.apply(*_submitter(place))
    _until(lambda: place.pods("app=submitter")[0]["status"]["phase"] in ("Succeeded", "Failed"), 600)
    output = place.kubectl("logs", "submitter")
    assert place.pods("app=submitter")[0]["status"]["phase"] == "Succeeded", output
    on_cluster, seconds = json.loads(output.strip().splitlines()[-1]), time.monotonic() - began
    command = (sys.executable, "-m", "tidegate.cli", "run", MODEL, "--until", UNTIL, "--json", "--state", str(tmp_path))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=_on_this_machine())
    here = json.loads(done.stdout)
    assert (on_cluster["verdict"], on_cluster["version"]) == (here["verdict"], here["version"]) == ("passed", "v1")
    assert on_cluster["digest"] == here["digest"]
    assert [step["step"] for step in on_cluster["steps"]] == [step["step"] for step in here["steps"]]
    assert not (place.state / "journal.db").exists()
    assert not (place.state / "mlflow.db").exists()
    pods = place.pods("app.kubernetes.io/component=run,tidegate.dev/model=flight-delay")
    assert len(pods) == 1
    tell(f"run as a Job {on_cluster['seconds']:.1f} s ({seconds:.1f} s with the submitter's pod), here "
         f"{here['seconds']:.1f} s; pods: 1, Kubeflow's {2 * len(here['steps']) + 1}")  # fmt: skip


def _submitter(place: Namespace) -> list[dict]:
    """A pod that may make Jobs and read them, and runs `tidegate run`."""
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "submitter"}
    url = {"name": "tidegate-database", "key": "url"}
    container = {
        "name": "submitter", "image": IMAGE, "securityContext": RESTRICTED,
        "args": ["run", MODEL, "--until", UNTIL, "--json", "--state", STATE],
        "env": [{"name": "TIDEGATE_IMAGE", "value": IMAGE},
                {"name": "TIDEGATE_JOURNAL", "valueFrom": {"secretKeyRef": url}}],
        "volumeMounts": [{"name": "state", "mountPath": STATE}, {"name": "tmp", "mountPath": "/tmp"}],
    }  # fmt: skip
    volumes = [{"name": "state", "persistentVolumeClaim": {"claimName": "tidegate-state"}},
               {"name": "tmp", "emptyDir": {}}]  # fmt: skip
    pod = {"serviceAccountName": "submitter", "restartPolicy": "Never", "securityContext": POD,
           "containers": [container], "volumes": volumes}  # fmt: skip
    subject = {"kind": "ServiceAccount", "name": "submitter", "namespace": place.name}
    return [
        of("v1", "ServiceAccount", "submitter"),
        of("rbac.authorization.k8s.io/v1", "Role", "submitter", rules=rules),
        of("rbac.authorization.k8s.io/v1", "RoleBinding", "submitter", roleRef=role, subjects=[subject]),
        of("v1", "Pod", "submitter", labels={"app": "submitter"}, spec=pod),
    ]


def _on_this_machine() -> dict[str, str]:
    told = ("TIDEGATE_JOURNAL", "MLFLOW_TRACKING_URI", "TIDEGATE_IMAGE", "TIDEGATE_PODS")
    return {name: value for name, value in os.environ.items() if name not in told}


def _until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
