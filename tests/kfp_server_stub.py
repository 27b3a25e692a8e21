"""A STUB of the Kubeflow Pipelines API server: it keeps what it is sent and runs nothing.

Its routes, query parameters, request and answer models are read off the installed `kfp_server_api`: each method of that
client is called once with a recorder in place of HTTP. A request with a path, parameter or field that they do not have
is refused with 400, and answers are those models, written by the client's own code. Packages must parse as
`kfp-pipeline-spec` has them. What a real server does beyond that (Argo, pods, caching, authorisation) is not here.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

import kfp_server_api as api
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


# --- what the installed client says that the API is ------------------------------------------------------------------


@dataclass(frozen=True)
class Route:
    name: str
    method: str
    path: re.Pattern[str]
    query: frozenset[str]
    body: str | None
    answer: str
    file: bool


class _Recorder(api.ApiClient):
    """Takes what the generated client would send."""

    def call_api(self, path: str, method: str, _path: Any, query: Any, _headers: Any, **rest: Any) -> None:
        self.seen = (method, path, frozenset(name for name, _ in query), rest["response_type"], bool(rest["files"]))


def routes() -> list[Route]:
    """Every call of the installed client as a route."""
    recorder, found = _Recorder(), []
    services = [getattr(api, name)(recorder) for name in dir(api) if name.endswith("ServiceApi")]
    for service in services:
        for name in [name for name in dir(service) if name.endswith("_with_http_info")]:
            call = getattr(service, name)
            types = dict(re.findall(r":type (\w+): ([^\n,]+)", call.__doc__))
            types = {key: kind for key, kind in types.items() if not key.startswith("_") and key != "async_req"}
            call(**{key: "x" for key in types})
            method, path, query, answer, file = recorder.seen
            body = next((kind for kind in types.values() if hasattr(api, kind)), None)
            pattern = re.compile(re.sub(r"\\{([\w.\\]+?)\\}", r"([^/:]+)", re.escape(path)) + "$")
            found.append(Route(name.removesuffix("_with_http_info"), method, pattern, query, body, answer, file))
    return found


def parse(text: str, kind: str) -> Any:
    """JSON text as a model of the client; 400 for a field that it does not have."""
    try:
        _known(json.loads(text), kind, "")
        return api.ApiClient().deserialize(SimpleNamespace(data=text), kind)
    except (ValueError, TypeError) as error:
        raise Refused(400, f"{kind}: {error}") from None


def _known(value: Any, kind: str, where: str) -> None:
    if nested := re.fullmatch(r"list\[(.*)\]|dict\(str, (.*)\)", kind):
        for one in value if nested[1] else value.values():
            _known(one, nested[1] or nested[2], where)
    elif isinstance(value, dict) and hasattr(model := getattr(api, kind, None), "openapi_types"):
        names = {spelled: name for name, spelled in model.attribute_map.items()}
        for name, one in value.items():
            if name not in names:
                raise ValueError(f'unknown field "{where}{name}"')
            _known(one, model.openapi_types[names[name]], f"{where}{name}.")


def parse_package(text: str) -> dict[str, Any]:
    """A package as a server reads it: the pipeline spec, and platform settings where a second document has them."""
    first, *more = list(yaml.safe_load_all(text))
    try:
        json_format.ParseDict(first, PipelineSpec())
        for document in more:
            json_format.ParseDict(document, PlatformSpec())
            for executor in document["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
                json_format.ParseDict(executor, KubernetesExecutorConfig())
    except json_format.ParseError as error:
        raise Refused(400, f"the package does not parse: {error}") from None
    return {"pipeline_spec": first, "platform_spec": more[0]} if more else first


# --- the server ------------------------------------------------------------------------------------------------------


@dataclass
class KfpServerStub:
    """What was sent, by id; `uploads` are the bytes of each pipeline version, `bodies` those of each created run."""

    experiments: dict[str, Any] = field(default_factory=dict)
    pipelines: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    recurring: dict[str, Any] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    url: str = ""

    def finish(self, name: str, state: str, error: str = "", steps: tuple[str, ...] = ()) -> None:
        """End the run called `name`: `state` of Kubeflow's, tasks of ten seconds each, the last one with `error`."""
        run = next(run for run in self.runs.values() if run.display_name == name)
        told = api.GoogleRpcStatus(message=error) if error else None
        tasks = [self._task(step, "SUCCEEDED", None) for step in ("root", "root-driver", *steps)]
        if steps and error:
            tasks[-1] = self._task(steps[-1], "FAILED", told)
        run.state, run.error, run.run_details = state, told, api.V2beta1RunDetails(task_details=tasks)

    @staticmethod
    def _task(name: str, state: str, error: Any) -> Any:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        return api.V2beta1PipelineTaskDetail(
            display_name=name, state=state, error=error, start_time=start, end_time=start + timedelta(seconds=10)
        )

    # --- one method a call of the client -----------------------------------------------------------------------------

    def healthz_service_get_healthz(self) -> Any:
        return api.V2beta1GetHealthzResponse(multi_user=False)

    def experiment_service_create_experiment(self, body: Any) -> Any:
        self._new(self.experiments, body.display_name)
        body.experiment_id, body.created_at = _id(), _now()
        return self.experiments.setdefault(body.experiment_id, body)

    def experiment_service_list_experiments(self, **query: str) -> Any:
        return api.V2beta1ListExperimentsResponse(**_page("experiments", self.experiments, query))

    def experiment_service_get_experiment(self, experiment_id: str) -> Any:
        return _one(self.experiments, experiment_id)

    def pipeline_service_create_pipeline(self, body: Any) -> Any:
        self._new(self.pipelines, body.display_name)
        body.pipeline_id, body.created_at = _id(), _now()
        return self.pipelines.setdefault(body.pipeline_id, body)

    def pipeline_service_list_pipelines(self, **query: str) -> Any:
        return api.V2beta1ListPipelinesResponse(**_page("pipelines", self.pipelines, query))

    def pipeline_service_list_pipeline_versions(self, pipeline_id: str, **query: str) -> Any:
        _one(self.pipelines, pipeline_id)
        found = {key: one for key, one in self.versions.items() if one.pipeline_id == pipeline_id}
        return api.V2beta1ListPipelineVersionsResponse(**_page("pipeline_versions", found, query))

    def upload_pipeline_version(self, file: bytes, name: str, pipelineid: str) -> Any:
        _one(self.pipelines, pipelineid)
        self._new({key: one for key, one in self.versions.items() if one.pipeline_id == pipelineid}, name)
        made = api.V2beta1PipelineVersion(
            pipeline_id=pipelineid, pipeline_version_id=_id(), display_name=name, created_at=_now(),
            pipeline_spec=parse_package(file.decode()),
        )  # fmt: skip
        self.uploads[made.pipeline_version_id] = file
        return self.versions.setdefault(made.pipeline_version_id, made)

    def run_service_create_run(self, body: Any) -> Any:
        self._runnable(body)
        body.run_id, body.created_at, body.state = _id(), _now(), "PENDING"
        return self.runs.setdefault(body.run_id, body)

    def run_service_list_runs(self, experiment_id: str = "", **query: str) -> Any:
        found = {key: one for key, one in self.runs.items() if experiment_id in ("", one.experiment_id)}
        return api.V2beta1ListRunsResponse(**_page("runs", found, query))

    def run_service_get_run(self, run_id: str) -> Any:
        return _one(self.runs, run_id)

    def recurring_run_service_create_recurring_run(self, body: Any) -> Any:
        self._runnable(body)
        if len(body.trigger.cron_schedule.cron.split()) != 6:
            raise Refused(400, f"cron {body.trigger.cron_schedule.cron!r} has not six fields")
        body.recurring_run_id, body.created_at = _id(), _now()
        return self.recurring.setdefault(body.recurring_run_id, body)

    def recurring_run_service_list_recurring_runs(self, experiment_id: str = "", **query: str) -> Any:
        found = {key: one for key, one in self.recurring.items() if experiment_id in ("", one.experiment_id)}
        return api.V2beta1ListRecurringRunsResponse(**_page("recurring_runs", found, query))

    def recurring_run_service_delete_recurring_run(self, recurring_run_id: str) -> Any:
        _one(self.recurring, recurring_run_id)
        del self.recurring[recurring_run_id]
        return {}

    @staticmethod
    def _new(known: dict[str, Any], name: str) -> None:
        if any(one.display_name == name for one in known.values()):
            raise Refused(409, f"{name} already exists")

    def _runnable(self, body: Any) -> None:
        """404 where what is to run is not there, 400 where it is none or does not take the parameters."""
        _one(self.experiments, body.experiment_id)
        reference = body.pipeline_version_reference
        spec = body.pipeline_spec if reference is None else _one(self.versions, reference.pipeline_version_id)
        spec = spec if isinstance(spec, dict) else spec.pipeline_spec
        spec = spec.get("pipeline_spec", spec)
        json_format.ParseDict(spec, PipelineSpec())
        taken, given = spec["root"]["inputDefinitions"]["parameters"], set(body.runtime_config.parameters or {})
        needed = {name for name, one in taken.items() if not one.get("isOptional")}
        if given - set(taken) or needed - given:
            raise Refused(400, f"parameters {sorted(given)} for {sorted(taken)}")
        for name, value in (body.runtime_config.parameters or {}).items():
            if taken[name]["parameterType"] == "STRING" and not isinstance(value, str):
                raise Refused(400, f"parameter {name}: {value!r} is no string")


def _id() -> str:
    return str(uuid4())


def _now() -> datetime:
    return datetime.now(UTC)


def _one(known: dict[str, Any], key: str) -> Any:
    if key not in known:
        raise Refused(404, f"{key} not found")
    return known[key]


def _page(name: str, known: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
    """The first page of a list, by the filter's EQUALS predicates, in the order of creation."""
    text = re.sub(r'"stringValue":', '"string_value":', query.get("filter") or "{}")  # JSON of protobuf takes both
    asked = parse(text, "V2beta1Filter").predicates or []
    found = list(known.values())
    for one in asked:
        if one.operation not in ("EQUALS", 1):  # kfp's client sends the number
            raise Refused(501, f"this stub has no {one.operation}")
        found = [item for item in found if getattr(item, one.key) == one.string_value]
    if query.get("sort_by", "").endswith(" desc"):
        found.reverse()
    return {name: found[: int(query.get("page_size") or 10)] or None, "total_size": len(found)}


class _Handler(BaseHTTPRequestHandler):
    stub: KfpServerStub
    known: list[Route]

    def _answer(self) -> None:
        try:
            status, told = 200, api.ApiClient().sanitize_for_serialization(self._call())
        except Refused as error:
            status, told = error.status, {"code": error.status, "message": str(error)}
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = do_PATCH = _answer

    def _call(self) -> Any:
        body, split = self.rfile.read(int(self.headers.get("content-length") or 0)), urlsplit(self.path)
        for route in self.known:
            if self.command != route.method or not (found := route.path.match(split.path)):
                continue
            query = dict(parse_qsl(split.query))
            if unknown := set(query) - route.query:
                raise Refused(400, f"{route.name} takes no parameter {sorted(unknown)}")
            if (handler := getattr(self.stub, route.name, None)) is None:
                raise Refused(501, f"this stub has no {route.name}")
            given = [unquote(part) for part in found.groups()]
            if route.file:
                given.append(self._file(body))
            elif route.body:
                given.append(parse(body.decode(), route.body))
            made = handler(*given, **query)
            if route.name == "run_service_create_run":
                self.stub.bodies[made.run_id] = json.loads(body)
            return made
        raise Refused(404, f"no {self.command} {split.path}")

    def _file(self, body: bytes) -> bytes:
        """The one file of a multipart body."""
        boundary = self.headers["content-type"].partition("boundary=")[2].encode()
        (part,) = [part for part in body.split(b"--" + boundary) if b"filename=" in part]
        return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests' output is theirs."""


@contextmanager
def kfp_server_stub() -> Iterator[KfpServerStub]:
    """The stub on a free port of 127.0.0.1, for as long as a block lasts."""
    stub = KfpServerStub()
    handler = type("Handler", (_Handler,), {"stub": stub, "known": routes()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        stub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
