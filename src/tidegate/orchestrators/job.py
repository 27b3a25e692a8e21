"""Runs compiled packages on Kubernetes, each as one Job of one pod; no Kubeflow is needed.

The Job's name is made from the key, so that of two submits the API server takes the first. How a run is doing is what
its Job says; how it ended is its record on the shared volume, or the pod's last message where that is not mounted here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import PlatformError, UserError
from tidegate.orchestrators.base import RunStatus
from tidegate.orchestrators.job_manifest import job_manifest, job_name
from tidegate.orchestrators.local import one_line, read_end
from tidegate.orchestrators.package import parse_package
from tidegate.orchestrators.pods import STATE, Pods
from tidegate.orchestrators.runid import run_id
from tidegate.spec import read_yaml
from tidegate.steps import read_records

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


class JobOrchestrator:
    """Runs as Jobs of image `image`; `state` is where the shared volume is mounted here, if it is.

    See `tidegate.orchestrators.base.Orchestrator`. `api`: a Kubernetes client; this pod's or the kubeconfig's if None.
    """

    def __init__(self, state: Path, image: str, pods: Pods, api: ApiClient | None = None) -> None:
        from kubernetes import client

        api = api or connect()
        self._state, self._image, self._pods = state, image, pods
        self._jobs, self._core = client.BatchV1Api(api), client.CoreV1Api(api)

    def submit(self, package: Path, arguments: Mapping[str, str], key: str) -> str:
        """Create the run's Job, unless it is there; PlatformError when the API server does not take it."""
        run = run_id(key)
        filled = {**arguments, "state": STATE, "run": run}
        parse_package(read_yaml(package), str(package)).check(filled, str(package))
        job = job_manifest(run, package.read_text(encoding="utf-8"), filled, self._image, self._pods)
        with _answers(f"the Job of run {run}", allowed=409):
            self._jobs.create_namespaced_job(
                self._pods.namespace, job, field_manager="tidegate", field_validation="Strict"
            )
        return run

    def status(self, run: str) -> RunStatus:
        """How the run is doing; UserError for one that has neither a Job nor a record."""
        job, folder = self._job(run), self._state / "runs" / run_id(run)
        steps = tuple((r.step, r.seconds, r.cached) for r in read_records(self._state, run_id(run)))
        end = read_end(folder)
        if end is not None:
            return RunStatus(run, "failed" if end["error"] else "succeeded", steps, end["error"])
        if job is None:
            if not folder.is_dir():
                raise UserError("run", run, f"the id of a run whose Job is in namespace {self._pods.namespace}")
            return RunStatus(run, "failed", steps, "the run's Job was deleted before it ended")
        ended = {condition.type: condition for condition in job.status.conditions or () if condition.status == "True"}
        if "Complete" in ended:
            return RunStatus(run, "succeeded", steps)
        if "Failed" in ended:
            return RunStatus(run, "failed", steps, self._why(run) or one_line(ended["Failed"].message))
        return RunStatus(run, "running", steps)

    def _job(self, run: str) -> Any:
        """The run's Job as the API server has it; None where there is none."""
        with _answers(f"the Job of run {run}", allowed=404):
            return self._jobs.read_namespaced_job(job_name(run_id(run)), self._pods.namespace)
        return None

    def _why(self, run: str) -> str:
        """What the run's pod says of its end, in one line; empty when no pod is there to ask."""
        with _answers(f"the pod of run {run}"):
            found = self._core.list_namespaced_pod(
                self._pods.namespace, label_selector=f"batch.kubernetes.io/job-name={job_name(run_id(run))}"
            )
        for pod in found.items:
            for container in pod.status.container_statuses or ():
                if ended := container.state.terminated:
                    return one_line(ended.message or f"the run's pod ended: {ended.reason}, exit {ended.exit_code}")
            if pod.status.reason:
                return one_line(f"the run's pod ended: {pod.status.reason} {pod.status.message or ''}")
        return ""


def connect() -> ApiClient:
    """A client of the cluster that this process is a pod of, else of the kubeconfig's; UserError without either."""
    from kubernetes import client, config

    settings = client.Configuration()
    try:
        config.load_incluster_config(settings)
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=settings)
        except config.ConfigException as error:
            takes = "a pod of a cluster, or a kubeconfig (KUBECONFIG)"
            raise UserError("orchestrator job", one_line(str(error)), takes) from None
    return client.ApiClient(settings)


@contextmanager
def _answers(what: str, allowed: int = 0) -> Iterator[None]:
    """Turn what the API server refuses, or that it does not answer, into one line; status `allowed` is no error."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        if error.status != allowed:
            raise PlatformError(f"{what}: {error.status} {_told(error.body) or error.reason}") from None
    except HTTPError as error:
        raise PlatformError(f"{what}: the API server does not answer: {one_line(str(error))}") from None


def _told(body: str | None) -> str:
    """The message of the API server's Status object."""
    import json

    try:
        return one_line(str(json.loads(body or "")["message"]))
    except (ValueError, KeyError, TypeError):
        return ""
