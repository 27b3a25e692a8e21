"""docs/reference/model.md is made from the Model file's own schema; TIDEGATE_GOLDEN=write makes it again."""

from __future__ import annotations

import os
import re
import types
import typing
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tidegate import spec

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reference/model.md"
HEAD = """# The Model file

Made from `src/tidegate/spec.py` by `tests/golden/test_reference.py`; `TIDEGATE_GOLDEN=write` makes it again.

One file, `k8s/models/<name>.yaml`, is all that is set. Unknown fields are refused by name. A *share* is a string with %
(`0.5%`), a *span* a string with its unit (`50ms`, `30s`, `10m`, `24h`, `7d`), everything else a plain value. A field
marked **no effect yet** is read and checked, and nothing uses it so far; one marked **refused yet** is refused when
`tidegate up` or `run` starts.
"""
NO_EFFECT = {
    "exploration",
}  # fmt: skip
SPELLED = {float: "number", int: "whole number", str: "text", SecretStr: "text", bool: "true or false"}
LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "no fewer than"}


def parts(kind: Any) -> Iterator[type[BaseModel]]:
    """The models in a type, in order."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in typing.get_args(kind):
        yield from parts(inner)


def spelled(kind: Any, metadata: list[Any]) -> str:
    """A type in words."""
    serializer = [getattr(one, "func", None) for one in metadata]
    if spec.format_share in serializer or kind is spec.Share:
        return "share"
    if spec.format_span in serializer or kind is spec.Span:
        return "span"
    origin, inner = typing.get_origin(kind), [one for one in typing.get_args(kind) if one is not type(None)]
    if origin in (typing.Union, types.UnionType) or origin is typing.Annotated:
        return spelled(inner[0], list(typing.get_args(kind)[1:]) if origin is typing.Annotated else metadata)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        return f"list of {spelled(inner[0], [])}"
    if origin is dict:
        return f"mapping of {spelled(inner[0], [])} to {spelled(inner[1], [])}"
    return SPELLED.get(kind, "section below")


def limits(metadata: list[Any]) -> str:
    found = [f"{LIMITS[name]} {getattr(one, name):g}" for one in metadata for name in LIMITS if hasattr(one, name)]
    return "".join(f", {text}" for text in found)


def default_of(field: FieldInfo) -> str:
    value = field.default
    if field.is_required() or value is PydanticUndefined:
        return "required"
    if value is None or value == ():
        return "none"
    if isinstance(value, timedelta):
        return f"`{spec.format_span(value)}`"
    if isinstance(value, BaseModel):
        return "its defaults" if any(not f.is_required() for f in type(value).model_fields.values()) else "as below"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def mark(path: str) -> str:
    return "**no effect yet**" if path in NO_EFFECT else ""


def row(path: str, name: str, field: FieldInfo) -> str:
    alias = field.alias or name
    full = f"{path}.{alias}" if path else alias
    kind = spelled(field.annotation, field.metadata) + limits(field.metadata)
    said = " ".join((field.description or "").split()).replace("``", "`")
    meaning = " ".join(text for text in (mark(full), said) if text)
    return f"| `{alias}` | {kind} | {default_of(field)} | {meaning} |"


def sections(kind: type[BaseModel], path: str, title: str) -> Iterator[str]:
    """The section of one model and those of the models in it, each with its own path."""
    said = (kind.__doc__ or "").strip()
    rows = [row(path, name, field) for name, field in kind.model_fields.items()]
    head = [f"## {title}", *([said] if said else []), "| field | takes | default | |", "|---|---|---|---|"]
    yield "\n".join([*head, *rows])
    for name, field in kind.model_fields.items():
        alias = field.alias or name
        full = f"{path}.{alias}" if path else alias
        for inner in dict.fromkeys(parts(field.annotation)):
            if inner.model_fields:
                yield from sections(inner, full, f"spec.{full}")


def render() -> str:
    return HEAD + "\n" + "\n\n".join(sections(spec.ModelSpec, "", "spec")) + "\n"


def test_the_reference_page_is_the_schemas():
    if os.environ.get("TIDEGATE_GOLDEN") == "write":
        PAGE.write_text(render(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == render(), "run this test with TIDEGATE_GOLDEN=write"


def known(kind: type[BaseModel] = spec.ModelSpec, path: str = "") -> Iterator[str]:
    for name, field in kind.model_fields.items():
        full = f"{path}.{field.alias or name}" if path else field.alias or name
        yield full
        for inner in parts(field.annotation):
            yield from known(inner, full)


def test_every_marked_field_is_one_of_the_schema():
    assert set(known()) >= NO_EFFECT


USED = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py") if path.name != "spec.py")


@pytest.mark.parametrize("path", sorted(NO_EFFECT - {"triggers.schedule.events.release"}))
def test_a_field_marked_without_effect_is_used_nowhere(path):
    """By its name at the end of a path of attributes: ``training.search_trials``."""
    *before, last = (re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), part) for part in path.split("."))
    owner = before[-1] if before else "spec"
    assert not re.search(rf"\b{owner}\.{last}\b", USED), f"{path} is used: take its mark away"
