"""The OpenAPI document of one model version, made from the same types that decode its requests."""

from __future__ import annotations

from typing import Any

import msgspec

_REF = "#/components/schemas/{name}"


class ScoredRow(msgspec.Struct):
    """One row's answer: the probability of the positive class."""

    score: float


class PredictAnswer(msgspec.Struct):
    """The rows in the order asked; `model` is ``NAME@vN.M``."""

    model: str
    rows: list[ScoredRow]


class LookedUpRow(msgspec.Struct):
    """One row's answer; `fallback` is the coarsest level that stood in for a key that was not seen yet."""

    score: float
    fallback: str | msgspec.UnsetType = msgspec.UNSET


class PredictByKeyAnswer(msgspec.Struct):
    """The rows in the order asked; `model` is ``NAME@vN.M``. Rows asked by features have no `fallback`."""

    model: str
    rows: list[LookedUpRow]


class Failure(msgspec.Struct):
    """Names the field, what it got and what it takes."""

    error: str


def document(name: str, version: str, request: type[msgspec.Struct], by_key: bool = False) -> bytes:
    """OpenAPI 3.1 as JSON; `by_key`: the service also looks features up."""
    answered = PredictByKeyAnswer if by_key else PredictAnswer
    (asked, answer, failure), parts = msgspec.json.schema_components([request, answered, Failure], ref_template=_REF)
    refused = {str(status): _response(text, failure) for status, text in _REFUSALS.items()}
    predict = {
        "summary": "Score rows",
        "operationId": "predict",
        "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
        "responses": {"200": _response("Scores in the order asked", answer), **refused},
    }
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": name, "version": version},
            "paths": {"/predict": {"post": predict}, **{path: _probe(text) for path, text in _PROBES.items()}},
            "components": {"schemas": parts},
        }
    )


_REFUSALS = {400: "Bad input", 405: "Not POST", 413: "Body too large", 500: "The model failed"}
_PROBES = {
    "/livez": "Whether the process lives",
    "/readyz": "Whether the model answered its reference rows",
    "/metrics": "Prometheus text",
    "/openapi.json": "This document",
}


def _response(text: str, schema: Any) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _probe(text: str) -> dict[str, Any]:
    return {"get": {"summary": text, "responses": {"200": {"description": text}}}}
