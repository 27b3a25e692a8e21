"""Runs compiled packages on Kubeflow Pipelines through its own client.

The package becomes a version, named by its content, of the pipeline of its name; a run is in the experiment of its
model and is called by its run id, by which it is found again. The server is the one that kfp's own client finds:
KF_PIPELINES_ENDPOINT, a pod's cluster, or the kubeconfig.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import PlatformError, UserError
from tidegate.orchestrators.base import RunStatus
from tidegate.orchestrators.kfp_package import version_name, with_image, with_pods
from tidegate.orchestrators.local import one_line
from tidegate.orchestrators.package import parse_package
from tidegate.orchestrators.pods import STATE, Pods
from tidegate.orchestrators.runid import run_id
from tidegate.spec import read_yaml
from tidegate.steps import STEPS, read_records

if TYPE_CHECKING:
    from kfp.client import Client

FAILED = frozenset({"FAILED", "CANCELED", "SKIPPED"})
"""States of Kubeflow's in which a run has ended without its end; all others but SUCCEEDED are on the way."""


class KubeflowOrchestrator:
    """Runs of image `image` (by digest; None: the package's own); `state` is where the shared volume is, if it is here.

    See `tidegate.orchestrators.base.Orchestrator`. `client`: Kubeflow's; the one that kfp finds if None.
    """

    def __init__(self, state: Path, image: str | None, pods: Pods, client: Client | None = None) -> None:
        self._state, self._image, self._pods = state, image, pods
        self._client = client or _connect()

    def submit(self, package: Path, arguments: Mapping[str, str], key: str) -> str:
        """Start a run, unless one of its name is there; Kubeflow has no write that takes the first of two at once."""
        run = run_id(key)
        filled = {**arguments, "state": STATE, "run": run}
        document = read_yaml(package)
        parse_package(document, str(package)).check(filled, str(package))
        with _answers(f"run {run}"):
            if self._find(run) is None:
                pipeline, version = self._version(document["pipelineInfo"]["name"], self._text(package))
                self._client.run_pipeline(
                    self._experiment(filled, document), run, params=filled, pipeline_id=pipeline, version_id=version
                )
        return run

    def schedule(self, package: Path, arguments: Mapping[str, str], cron: str, name: str) -> str:
        """A recurring run `name` by `cron` (five fields, in UTC), in place of one of that name; returns its id.

        Each of its runs uses what had arrived by the moment that it was due; the champion and its facts in `arguments`
        stay as they are until this is called again.
        """
        moment = {"until": "[[ScheduledTime.2006-01-02T15:04:05Z]]", "run": f"{name}-[[ScheduledTime]]"}
        filled = {**arguments, "state": STATE, **moment}
        document = read_yaml(package)
        parse_package(document, str(package)).check(filled, str(package))
        with _answers(f"recurring run {name}"):
            pipeline, version = self._version(document["pipelineInfo"]["name"], self._text(package))
            experiment = self._experiment(filled, document)
            before = self._client.list_recurring_runs(experiment_id=experiment, filter=_named(name)).recurring_runs
            made = self._client.create_recurring_run(
                experiment, name, cron_expression=f"0 {cron}", no_catchup=True, max_concurrency=1,
                params=filled, pipeline_id=pipeline, version_id=version,
            )  # fmt: skip
            for old in before or ():
                self._client.delete_recurring_run(old.recurring_run_id)
        return str(made.recurring_run_id)

    def status(self, run: str) -> RunStatus:
        """How the run is doing; UserError for an unknown one."""
        with _answers(f"run {run}"):
            found = self._find(run_id(run))
            if found is None:
                raise UserError("run", run, "the id of a run that Kubeflow knows")
            seen = self._client.get_run(found.run_id)
        tasks = _tasks(seen)
        records = read_records(self._state, run_id(run))
        steps = tuple((r.step, r.seconds, r.cached) for r in records) or _ended(tasks)
        if seen.state == "SUCCEEDED":
            return RunStatus(run, "succeeded", steps)
        if seen.state in FAILED:
            return RunStatus(run, "failed", steps, _why(seen, tasks))
        return RunStatus(run, "running", steps)

    def ship(self, package: Path) -> str:
        """The id of the pipeline's version that a `submit` of this package runs; made where it is not there."""
        document = read_yaml(package)
        parse_package(document, str(package))
        with _answers(f"package {package}"):
            return self._version(document["pipelineInfo"]["name"], self._text(package))[1]
        raise AssertionError

    def _text(self, package: Path) -> str:
        return filled(package, self._image, self._pods)

    def _version(self, name: str, text: str) -> tuple[str, str]:
        """The ids of the pipeline and of the version with this content; made where they are not there."""
        client, wanted = self._client, version_name(text)
        pipeline = client.get_pipeline_id(name) or self._pipeline(name)
        known = client.list_pipeline_versions(pipeline, filter=_named(wanted)).pipeline_versions
        if known:
            return pipeline, known[0].pipeline_version_id
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.yaml"
            path.write_text(text, encoding="utf-8")
            made = client.upload_pipeline_version(str(path), wanted, pipeline_id=pipeline)
        return pipeline, made.pipeline_version_id

    def _pipeline(self, name: str) -> str:
        """A pipeline without a version yet."""
        from kfp_server_api import V2beta1Pipeline

        # upload_pipeline would make a first version, which is not named by its content
        made = self._client.pipelines.pipeline_service_create_pipeline(V2beta1Pipeline(display_name=name, name=name))
        return str(made.pipeline_id)

    def _experiment(self, arguments: Mapping[str, str], document: Mapping[str, Any]) -> str:
        name = arguments.get("model", document["pipelineInfo"]["name"])
        return str(self._client.create_experiment(name).experiment_id)

    def _find(self, run: str) -> Any:
        """Kubeflow's run of this name, the first of several; None where there is none."""
        found = self._client.list_runs(filter=_named(run), sort_by="created_at asc", page_size=1).runs
        return found[0] if found else None


def filled(package: Path, image: str | None, pods: Pods) -> str:
    """The package as it is uploaded: with the image, where one is named, and what its pods are given."""
    text = package.read_text(encoding="utf-8")
    return with_pods(with_image(text, image) if image else text, pods)


def _named(name: str) -> str:
    """A filter of Kubeflow's API."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _tasks(run: Any) -> list[Any]:
    """The tasks that are our steps, as Kubeflow tells of them: its own pods (drivers, the root) are left out."""
    found = (run.run_details.task_details if run.run_details else None) or ()
    order = list(STEPS)
    return sorted((task for task in found if task.display_name in STEPS), key=lambda t: order.index(t.display_name))


def _ended(tasks: list[Any]) -> tuple[tuple[str, float, bool], ...]:
    return tuple(
        (task.display_name, (task.end_time - task.start_time).total_seconds(), False)
        for task in tasks
        if task.state == "SUCCEEDED" and task.start_time and task.end_time
    )


def _why(run: Any, tasks: list[Any]) -> str:
    """Why a run failed, in one line: the step's error before the run's."""
    told = [f"{task.display_name}: {task.error.message}" for task in tasks if task.error and task.error.message]
    told += [run.error.message] if run.error and run.error.message else []
    return one_line(told[0]) if told else f"Kubeflow ended it as {run.state}, without a reason"


def _connect() -> Client:
    from kfp.client import Client

    with warnings.catch_warnings(), _answers("Kubeflow"):
        warnings.simplefilter("ignore", FutureWarning)  # "only works with 2.0 and later"
        return Client()
    raise AssertionError


@contextlib.contextmanager
def _answers(what: str) -> Iterator[None]:
    """Turn what the server refuses, or that it does not answer, into one line; what kfp prints goes to stderr."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except ApiException as error:
        raise PlatformError(f"{what}: Kubeflow: {error.status} {one_line(str(error.body or error.reason))}") from None
    except HTTPError as error:
        raise PlatformError(f"{what}: Kubeflow does not answer: {one_line(str(error))}") from None
