"""The part of an object that a field manager applied, read off `metadata.managedFields`. Pure.

A field set is the API server's own form (FieldsV1): ``f:NAME`` is a field, ``k:{...}`` the item of a list with these
keys, ``v:...`` an item by its value, ``.`` the thing itself. What has nothing below it is taken whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
Fields = Mapping[str, Any]

MANAGER = "kubectl"
"""The field manager of ``kubectl apply --server-side``: what is deployed and what is applied by hand is one set."""


def owned(found: Mapping[str, Any], manager: str = MANAGER) -> Json:
    """The fields that `manager` applied to this object, empty where it applied none."""
    union: Json = {}
    for entry in found["metadata"].get("managedFields", ()):
        if entry["manager"] == manager and entry["operation"] == "Apply" and not entry.get("subresource"):
            union = both(union, entry["fieldsV1"])
    return union


def both(left: Fields, right: Fields) -> Json:
    """The fields of either; what one of them takes whole is taken whole."""
    found = {**left, **right}
    for name in left.keys() & right.keys():
        found[name] = both(left[name], right[name]) if left[name] and right[name] else {}
    return found


def pick(value: Any, fields: Fields) -> Any:
    """What `value` has at these fields; those that it does not have are left out."""
    if not fields:
        return value
    if isinstance(value, list):
        picked = (_item(one, fields) for one in value)
        return [one for one in picked if one is not None]
    if not isinstance(value, dict):
        return value
    return {name: pick(one, fields[f"f:{name}"]) for name, one in value.items() if f"f:{name}" in fields}


def _item(item: Any, fields: Fields) -> Any:
    """An item of a list with what is to be picked of it; None where nothing is."""
    for name, inner in fields.items():
        kind, _, text = name.partition(":")
        if kind == "v" and json.loads(text) == item:
            return item
        if kind == "k" and isinstance(item, dict):
            keys = json.loads(text)
            if all(item.get(key) == wanted for key, wanted in keys.items()):
                return {**keys, **pick(item, inner)}
    return None
