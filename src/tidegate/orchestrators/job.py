"""Runs compiled packages on Kubernetes, each as one Job of one pod; no Kubeflow is needed.

The Job's name is made from the key, so that of two submits the API server takes the first. How a run is doing is what
its Job says; how it ended is its record on the shared volume, or the pod's last message where that is not mounted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tidegate.errors import Conflict, UserError
from tidegate.kube import Cluster, Json
from tidegate.orchestrators.base import RunStatus
from tidegate.orchestrators.job_manifest import job_manifest, job_name
from tidegate.orchestrators.local import one_line, read_end
from tidegate.orchestrators.package import parse_package
from tidegate.orchestrators.pods import STATE, Pods
from tidegate.orchestrators.runid import run_id
from tidegate.spec import read_yaml
from tidegate.steps import read_records


class JobOrchestrator:
    """Runs as Jobs of image `image`; `state` is where the shared volume is mounted here, if it is.

    See `tidegate.orchestrators.base.Orchestrator`.
    """

    def __init__(self, state: Path, image: str, pods: Pods) -> None:
        self._state, self._image, self._pods = state, image, pods
        self._cluster = Cluster(pods.namespace)

    def submit(self, package: Path, arguments: Mapping[str, str], key: str) -> str:
        """Create the run's Job, unless it is there; PlatformError when the API server does not take it."""
        run = run_id(key)
        filled = {**arguments, "state": STATE, "run": run}
        parse_package(read_yaml(package), str(package)).check(filled, str(package))
        job = job_manifest(run, package.read_text(encoding="utf-8"), filled, self._image, self._pods)
        with suppress(Conflict):  # it is there
            self._cluster.create(job)
        return run

    def status(self, run: str) -> RunStatus:
        """How the run is doing; UserError for one that has neither a Job nor a record."""
        job, folder = self._cluster.get("Job", job_name(run_id(run))), self._state / "runs" / run_id(run)
        steps = tuple((r.step, r.seconds, r.cached) for r in read_records(self._state, run_id(run)))
        end = read_end(folder)
        if end is not None:
            return RunStatus(run, "failed" if end["error"] else "succeeded", steps, end["error"])
        if job is None:
            if not folder.is_dir():
                raise UserError("run", run, f"the id of a run whose Job is in namespace {self._pods.namespace}")
            return RunStatus(run, "failed", steps, "the run's Job was deleted before it ended")
        told = job.get("status", {}).get("conditions", ())
        ended = {condition["type"]: condition for condition in told if condition["status"] == "True"}
        if "Complete" in ended:
            return RunStatus(run, "succeeded", steps)
        if "Failed" in ended:
            return RunStatus(run, "failed", steps, self._why(run) or one_line(ended["Failed"].get("message", "")))
        return RunStatus(run, "running", steps)

    def _why(self, run: str) -> str:
        """What the run's pod says of its end, in one line; empty when no pod is there to ask."""
        for pod in self._cluster.list("Pod", {"batch.kubernetes.io/job-name": job_name(run_id(run))}):
            if said := _said(pod["status"]):
                return said
        return ""


def _said(status: Json) -> str:
    for container in status.get("containerStatuses", ()):
        if ended := container["state"].get("terminated"):
            why = f"the run's pod ended: {ended.get('reason', '')}, exit {ended['exitCode']}"
            return one_line(ended.get("message") or why)
    if reason := status.get("reason"):
        return one_line(f"the run's pod ended: {reason} {status.get('message', '')}")
    return ""
