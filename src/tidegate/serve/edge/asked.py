"""From a request's bytes to values, as `tidegate.serve.decoder` takes them, without a library. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidegate.errors import UserError
from tidegate.serve.edge.bundle import Fields
from tidegate.train.model_file import Feature, FeatureSchema, canonical_json

MOST_ROWS = 1000
_LARGEST = float(np.finfo(np.float32).max)
_ROWS, _NUMBER, _TEXT, _KEY = "an array of 1 to 1000 objects", "float | null", "str | null", "str | int | null"

Value = float | str | None


@dataclass(frozen=True)
class Asked:
    """Rows of raw values in the schema's order, or entities: exactly one of the two is not empty."""

    rows: list[dict[str, Value]]
    keys: list[dict[str, Value]]


def parse(body: bytes, schema: FeatureSchema, fields: Fields | None) -> Asked:
    """Raises UserError that names the field, what it got and what it takes. An absent feature is null."""
    try:
        found = json.loads(body, parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:
        raise UserError("body", str(error)[:120], "a JSON object") from None
    if not isinstance(found, dict):
        raise UserError("body", type(found).__name__, "a JSON object")
    for name in found:
        if name not in ("rows", "keys", "at") or (name == "keys" and fields is None):
            raise UserError("body: field", name, "rows and at" if fields is None else "rows or keys, and at")
    if ("rows" in found) == ("keys" in found):
        raise UserError("body", "both" if "rows" in found else "neither", "rows (features) or keys (entities)")
    if "rows" in found or fields is None:
        takes = {feature.name: _kind(feature) for feature in schema.features}
        rows = _list("rows", found["rows"])
        return Asked([_entry(f"rows[{i}]", one, takes, ()) for i, one in enumerate(rows)], [])
    takes, keys = entity_kinds(schema, fields), _list("keys", found["keys"])
    return Asked([], [_entry(f"keys[{i}]", one, takes, fields.keys) for i, one in enumerate(keys)])


def entity_kinds(schema: FeatureSchema, fields: Fields) -> dict[str, str]:
    """What each field of an entity takes."""
    of = {feature.name: _kind(feature) for feature in schema.features}
    return {name: of.get(name, _KEY) for name in (*fields.keys, *fields.inputs)}


def entity(fields: Fields, entry: Mapping[str, Value]) -> str:
    """One text for one entity: keys as text, numbers as float32; null and absent are the same."""
    keys = [None if entry.get(name) is None else str(entry[name]) for name in fields.keys]
    return canonical_json([*keys, *(_rounded(entry.get(name)) for name in fields.inputs)])


def _rounded(value: Value) -> Value:
    return float(np.float32(value)) if isinstance(value, int | float) else value


def _kind(feature: Feature) -> str:
    return _NUMBER if feature.kind == "numeric" else _TEXT


def _list(name: str, found: Any) -> Sequence[Any]:
    if not isinstance(found, list) or not 1 <= len(found) <= MOST_ROWS:
        raise UserError(name, len(found) if isinstance(found, list) else type(found).__name__, _ROWS)
    return found


def _entry(where: str, found: Any, takes: Mapping[str, str], required: Sequence[str]) -> dict[str, Value]:
    if not isinstance(found, dict):
        raise UserError(where, type(found).__name__, "an object")
    for name in found:
        if name not in takes:
            raise UserError(f"{where}: field", name[:80], f"one of {', '.join(takes)}")
    for name in required:
        if name not in found:
            raise UserError(f"{where}.{name}", None, "a value; it is required")
    return {name: _value(f"{where}.{name}", found.get(name), kind) for name, kind in takes.items()}


def _value(where: str, value: Any, kind: str) -> Value:
    if value is None or (isinstance(value, str) and kind != _NUMBER):
        return value
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind == _KEY and whole:
        return int(value)
    if kind != _NUMBER or not (whole or isinstance(value, float)):
        raise UserError(where, type(value).__name__, kind)
    if not -_LARGEST <= value <= _LARGEST:
        raise UserError(where, "a value out of range", "a finite float32")
    return float(value)


def _not_a_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
