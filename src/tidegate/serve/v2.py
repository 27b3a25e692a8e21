"""The Open Inference Protocol, V2 over HTTP: what clients of KServe, MLServer and Triton call.

A row of an inference request is a prediction like one of /predict, scored and logged by the same code. `id` of the
answer is the request's own, else the request id; the log knows rows by ``x-request-id``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import msgspec

from tidegate.errors import UserError
from tidegate.serve.http import JSON, Answer, Receive, Route, Scope, read_body, refuse
from tidegate.serve.openapi import Operation
from tidegate.serve.prediction_log import Heard
from tidegate.serve.scoring import Scorer
from tidegate.serve.tensors import SCORE, Datatype, Request, TensorRows, decode, score_tensor

_BINARY = (b"content-type", b"application/octet-stream")
_JSON_BYTES = b"inference-header-content-length"
_UNKNOWN = {404: "Another model or version than the one that this process serves", 405: "Another method"}
_REFUSALS = {400: "Bad input", **_UNKNOWN, 413: "Body too large", 500: "The model failed"}


class Server(msgspec.Struct):
    """The server and the extensions of the protocol that it knows."""

    name: str
    version: str
    extensions: list[str]


class Live(msgspec.Struct):
    """A live server."""

    live: bool


class Ready(msgspec.Struct):
    """A server whose model answered its reference rows."""

    ready: bool


class ModelReady(msgspec.Struct):
    """A model that answered its reference rows."""

    name: str
    ready: bool


class Tensor(msgspec.Struct):
    """A tensor's name, type and shape; -1: any size."""

    name: str
    datatype: Datatype
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """The one version that this process serves; each input is a feature, all of them may be null."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class ScoreTensor(msgspec.Struct):
    """Scores of N rows."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class InferAnswer(msgspec.Struct):
    """The rows in the order asked; as bytes behind the JSON where the request wants it so."""

    model_name: str
    model_version: str
    id: str
    outputs: list[ScoreTensor]


class InferenceProtocol:
    """The routes of one model version."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer, self._rows = scorer, TensorRows(scorer.model.schema)
        self._name, self._version = scorer.who.name, scorer.who.version
        who = {"model_name": self._name, "model_version": self._version}
        self._open = msgspec.json.encode(who)[:-1] + b',"id":'

    def routes(self) -> Iterator[tuple[Operation, Route]]:
        """What `tidegate.serve.request_path.RequestPath.add` takes."""
        wrong = {405: "Another method"}
        server = msgspec.json.encode(Server("tidegate", _release(), ["binary_tensor_data"]))
        yield Operation("/v2", "GET", "The server", Server, None, wrong), _told(server)
        yield Operation("/v2/health/live", "GET", "Live", Live, None, wrong), _told(b'{"live":true}')
        yield Operation("/v2/health/ready", "GET", "Ready", Ready, None, wrong), _told(b'{"ready":true}')
        ready = msgspec.json.encode(ModelReady(self._name, True))
        metadata, only = msgspec.json.encode(self._metadata()), {"name": self._name, "version": self._version}
        for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            model = Operation(path, "GET", "The model's tensors", ModelMetadata, None, _UNKNOWN, values=only)
            yield model, self._only_mine(_told(metadata))
            probe = Operation(f"{path}/ready", "GET", "A ready model", ModelReady, None, _UNKNOWN, values=only)
            yield probe, self._only_mine(_told(ready))
            scores = "Scores as a tensor"
            infer = Operation(f"{path}/infer", "POST", scores, InferAnswer, Request, _REFUSALS, values=only)
            yield infer, self._only_mine(self._infer)

    def _metadata(self) -> ModelMetadata:
        inputs = [
            Tensor(one.name, "FP32" if one.categories is None else "BYTES", [-1])
            for one in self._scorer.model.schema.features
        ]
        return ModelMetadata(self._name, [self._version], "onnx", inputs, [Tensor(SCORE, "FP32", [-1])])

    def _only_mine(self, route: Route) -> Route:
        """`route` for this model and version, 404 for others."""

        async def checked(scope: Scope, receive: Receive, heard: Heard) -> Answer:
            asked = scope["path_params"]
            if asked["name"] != self._name:
                return refuse(404, f"model: got {asked['name'][:80]!r}, takes {self._name}")
            if asked.get("version", self._version) != self._version:
                return refuse(404, f"version: got {asked['version'][:80]!r}, takes {self._version}")
            return await route(scope, receive, heard)

        return checked

    async def _infer(self, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        body = await read_body(scope, receive)
        started = time.perf_counter()
        request, binary, numbers = decode(body, _json_bytes(scope))
        rows = self._rows.rows(request, binary, numbers)
        scored = await self._scorer.score(rows, self._scorer.time(None), heard, started)
        tensor, data = score_tensor(scored.scores, request.binary)
        asked, outputs = msgspec.json.encode(request.id or heard.request_id), msgspec.json.encode(tensor)
        head = b"".join((self._open, asked, b',"outputs":[', outputs, b"]}"))
        if not request.binary:
            return Answer(200, head)
        return Answer(200, head + data, _BINARY, ((_JSON_BYTES, b"%d" % len(head)),))


def _json_bytes(scope: Scope) -> int | None:
    """How much of the body is JSON, where the client says so."""
    given = next((value for key, value in scope["headers"] if key == _JSON_BYTES), None)
    if given is None:
        return None
    if not given.isdigit() or len(given) > 9:
        raise UserError(_JSON_BYTES.decode(), given.decode("latin-1")[:40], "bytes of the JSON")
    return int(given)


def _told(body: bytes) -> Route:
    """A route that always answers `body`."""
    answer = Answer(200, body, JSON)

    async def told(scope: Scope, receive: Receive, heard: Heard) -> Answer:
        return answer

    return told


def _release() -> str:
    try:
        return version("tidegate")
    except PackageNotFoundError:
        return "0"
