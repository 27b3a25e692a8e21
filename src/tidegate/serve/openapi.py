"""The OpenAPI document of one model version, made from the same types that decode its requests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

_REF = "#/components/schemas/{name}"
PARAMETER = re.compile(r"\{(\w+)\}")
"""A part of a path that stands for anything without a slash."""


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


class RankedRow(msgspec.Struct):
    """One alternative: its score and its rank, 1 for the lowest score; of equal scores the one asked first."""

    score: float
    rank: int
    fallback: str | msgspec.UnsetType = msgspec.UNSET


class RankAnswer(msgspec.Struct):
    """The rows in the order asked; `model` is ``NAME@vN.M``."""

    model: str
    rows: list[RankedRow]


class Well(msgspec.Struct):
    """A probe's answer."""

    ok: Literal[True]


class Failure(msgspec.Struct):
    """Names the field, what it got and what it takes."""

    error: str


@dataclass(frozen=True)
class Operation:
    """What one path takes and answers. `path` may hold parameters in braces.

    `answer` is the type of the 200's JSON, or the media type of what is not JSON; `refusals` says why by status, each
    with a `failure` as its body. `token`: it needs the bearer token.
    """

    path: str
    method: Literal["GET", "POST"]
    summary: str
    answer: Any
    request: Any = None
    refusals: Mapping[int, str] = field(default_factory=dict)
    failure: Any = Failure
    token: bool = False
    values: Mapping[str, str] = field(default_factory=dict)
    """Parameters of the path that take one value only."""
    one_of: Sequence[str] = ()
    """Fields of the request of which it has exactly one."""

    @property
    def types(self) -> list[Any]:
        """The types of its bodies."""
        given = [self.answer, self.request, self.failure if self.refusals else None]
        return [one for one in given if one is not None and not isinstance(one, str)]


def document(name: str, version: str, operations: Sequence[Operation]) -> bytes:
    """OpenAPI 3.1 as JSON."""
    types = list(dict.fromkeys(kind for one in operations for kind in one.types))
    found, parts = msgspec.json.schema_components(types, ref_template=_REF)
    schemas = dict(zip(types, found, strict=True))
    bearer = {"bearer": {"type": "http", "scheme": "bearer"}}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": name, "version": version},
            "paths": {one.path: {one.method.lower(): _described(one, schemas)} for one in operations},
            "components": {"schemas": parts, "securitySchemes": bearer},
        }
    )


def _described(one: Operation, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    refused = {str(status): _response(text, schemas[one.failure]) for status, text in one.refusals.items()}
    good = {"description": one.summary, "content": {one.answer: {}}} if isinstance(one.answer, str) else None
    described: dict[str, Any] = {
        "summary": one.summary,
        "operationId": re.sub(r"\W+", "_", f"{one.method.lower()}{one.path}").strip("_"),
        "responses": {"200": good or _response(one.summary, schemas[one.answer]), **refused},
    }
    if one.request is not None:
        either = {"oneOf": [{"required": [name]} for name in one.one_of]} if one.one_of else {}
        asked = {**schemas[one.request], **either}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": asked}}}
    if names := PARAMETER.findall(one.path):
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": _parameter(one.values.get(name))} for name in names
        ]
    if one.token:
        described["security"] = [{"bearer": []}]
    return described


def _parameter(only: str | None) -> dict[str, Any]:
    return {"type": "string", "minLength": 1} if only is None else {"type": "string", "enum": [only]}


def _response(text: str, schema: Any) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}
