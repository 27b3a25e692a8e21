"""The API server's reading of a structural schema, in small: what makes it refuse an object, by field.

It knows what the two definitions use. `tests/cluster/test_manifests.py` has the same faults refused by a real one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from cel_expr_python import cel

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}


def faults(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """Each fault of a written value as ``path: what``."""
    yield from of_node(schema, stored(schema, value), path)


def of_node(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    if value is None and schema.get("nullable"):
        return
    kind = TYPES[schema["type"]]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        yield f"{path}: must be of type {schema['type']}"
        return
    yield from (f"{path}: {fault}" for fault in limits(schema, value))
    if isinstance(value, dict):
        yield from of_object(schema, value, path)
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from of_node(schema["items"], item, f"{path}[{at}]")
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and not compiled(rule["rule"]).eval(data={"self": value}).value():
            yield f"{path}: {rule['message']}"


def limits(schema: dict[str, Any], value: Any) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield "unsupported value"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value, re.ASCII):
        yield "does not match"
    if isinstance(value, (int, float)):
        low, high = schema.get("minimum", -float("inf")), schema.get("maximum", float("inf"))
        if value < low or value > high:
            yield "out of range"
        if (value == low and schema.get("exclusiveMinimum")) or (value == high and schema.get("exclusiveMaximum")):
            yield "out of range"
    if isinstance(value, list) and not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield "number of items"


def of_object(schema: dict[str, Any], value: dict[str, Any], path: str) -> Iterator[str]:
    known, of_any = schema.get("properties", {}), schema.get("additionalProperties")
    yield from (f"{path}.{name}: required" for name in schema.get("required", ()) if name not in value)
    for name, inner in value.items():
        if name in known or of_any:
            yield from of_node(known.get(name, of_any), inner, f"{path}.{name}")
        else:
            yield f"{path}.{name}: unknown field"


def stored(schema: dict[str, Any], value: Any) -> Any:
    """A value as it is stored: nulls that mean nothing dropped, then defaults in place of what is left out."""
    if isinstance(value, list) and "items" in schema:
        return [stored(schema["items"], item) for item in value]
    known = schema.get("properties", {})
    if not isinstance(value, dict) or not known:
        return value
    left = {n: part for n, part in value.items() if part is not None or n not in known or known[n].get("nullable")}
    given = {name: field["default"] for name, field in known.items() if "default" in field and name not in left}
    return {name: stored(known.get(name, {}), part) for name, part in {**left, **given}.items()}


@lru_cache
def compiled(rule: str) -> Any:
    return cel.NewEnv(variables={"self": cel.Type.DYN}).compile(rule)
