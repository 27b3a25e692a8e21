"""A pydantic model's JSON schema as the structural schema that a CustomResourceDefinition takes.

Structural means: one tree without ``$ref``, each node with one type; ``null`` is `nullable`, limits are those of
OpenAPI 3.0, and unknown fields are left to the API server, which prunes or refuses them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from tidegate.spec import SHARE_PATTERN, SPAN_PATTERN, format_span

Schema = dict[str, Any]
_DROPPED = ("title", "writeOnly", "format", "additionalProperties", "$defs", "const", "default")
_SPELLED = {SHARE_PATTERN: "A share, for example 0.5%.", SPAN_PATTERN: "A span, for example 24h."}
_ORDER = (
    "type", "nullable", "format", "description", "enum", "pattern", "minimum", "exclusiveMinimum", "maximum",
    "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems", "default", "required",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations", "properties",
    "additionalProperties", "items",
)  # fmt: skip
_LIMITS = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}


class _AsWritten(GenerateJsonSchema):
    """Defaults as a file spells them."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_span(dft)
        if isinstance(dft, BaseModel):
            return dft.model_dump(mode="json", by_alias=True)
        return super().encode_default(dft)


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of one pydantic model, defaults and descriptions included."""
    schema = model.model_json_schema(by_alias=True, schema_generator=_AsWritten)
    return _node(schema, schema.get("$defs", {}))


def seen(model: type[BaseModel]) -> Schema:
    """`structural` without defaults: a status says what was seen, and nothing is filled in."""
    return _bare(structural(model))


def _bare(schema: Schema) -> Schema:
    made = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in made:
        made["properties"] = {name: _bare(field) for name, field in made["properties"].items()}
    return made | ({"items": _bare(made["items"])} if "items" in made else {})


def _node(node: Schema, known: dict[str, Schema]) -> Schema:
    if "anyOf" in node:
        return _optional(node, known)
    if "$ref" in node:
        node = {**known[node["$ref"].rsplit("/", 1)[1]], **{key: v for key, v in node.items() if key != "$ref"}}
    made = {key: value for key, value in node.items() if key not in _DROPPED}
    if node.get("format") == "date-time":
        made["format"] = "date-time"
    for strict, limit in _LIMITS.items():
        if strict in made:
            made |= {limit: made[strict], strict: True}
    if "const" in node:
        made |= {"type": "string", "enum": [node["const"]]}
    said = f"{node.get('description', '')} {_SPELLED.get(node.get('pattern', ''), '')}"
    if said := " ".join(said.split()).replace("``", "`"):
        made["description"] = said
    if "items" in node:
        made["items"] = _node(node["items"], known)
    made |= _fields(node, known)
    if node.get("default") is not None:
        made["default"] = _least(node["default"], made)
    return {key: made[key] for key in sorted(made, key=_ORDER.index)}


def _optional(node: Schema, known: dict[str, Schema]) -> Schema:
    """A field that may be null. Where null is the default the API server drops it, which is the same as leaving it out;
    where the default is another, null has a meaning of its own and is kept.
    """
    (one,) = (option for option in node["anyOf"] if option.get("type") != "null")
    around = {key: value for key, value in node.items() if key != "anyOf"}
    kept = {"nullable": True} if node.get("default") is not None else {}
    return _node({**one, **around, **kept}, known)


def _fields(node: Schema, known: dict[str, Schema]) -> Schema:
    """Fields by name, else a mapping of any name."""
    if "properties" in node:
        return {"properties": {name: _node(field, known) for name, field in node["properties"].items()}}
    values = node.get("additionalProperties")
    return {"additionalProperties": _node(values, known)} if isinstance(values, dict) else {}


def _least(value: Any, schema: Schema) -> Any:
    """A default without what the fields inside it give themselves."""
    if not isinstance(value, dict):
        return value
    inside = {name: _least(part, schema["properties"][name]) for name, part in value.items()}
    return {name: part for name, part in inside.items() if part != schema["properties"][name].get("default")}
