"""An API server in memory: server-side apply with field ownership, kinds and namespaces that must be there first.

Lists of objects with a name are merged by it, as of containers or variables; every other list is one value.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from tidegate.deploy.changes import Key, by_key, key_of
from tidegate.deploy.owned import MANAGER
from tidegate.errors import PlatformError

Json = dict[str, Any]
IDENTITY = ("f:name", "f:namespace")


def fields_of(value: Any) -> Json:
    """The field set of a value that is applied."""
    if isinstance(value, dict):
        return {f"f:{name}": fields_of(one) for name, one in value.items()} or {}
    if is_keyed(value):
        return {f"k:{json.dumps({'name': one['name']})}": {".": {}, **fields_of(one)} for one in value}
    return {}


def is_keyed(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "name" in one for one in value)


def applied_fields(config: Json) -> Json:
    found = fields_of({name: one for name, one in config.items() if name not in ("apiVersion", "kind")})
    found["f:metadata"] = {name: one for name, one in found["f:metadata"].items() if name not in IDENTITY}
    return {name: one for name, one in found.items() if name != "f:metadata" or one}


def merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: merged(old.get(name), one) for name, one in new.items()}}
    if is_keyed(old) and is_keyed(new):
        mine = {one["name"]: one for one in new}
        kept = [merged(one, mine.pop(one["name"], {})) for one in old]
        return [*kept, *copy.deepcopy(list(mine.values()))]
    return copy.deepcopy(new)


def without(value: Any, gone: Json, kept: Json) -> Any:
    """The value without fields of `gone` that `kept` does not have; None where nothing is left of it."""
    if isinstance(value, dict):
        found = {}
        for name, one in value.items():
            field = f"f:{name}"
            if field not in gone or (field in kept and not gone[field]):
                found[name] = one
            elif field in kept or gone[field]:
                rest = without(one, gone[field], kept.get(field, {}))
                if rest or field in kept:
                    found[name] = rest
        return found
    if is_keyed(value):
        items = []
        for one in value:
            name = f"k:{json.dumps({'name': one['name']})}"
            if name not in gone:
                items.append(one)
            elif name in kept:
                items.append(without(one, gone[name], kept[name]))
        return items
    return value


class ApiServer:
    """`sick` says of an object why it does not become healthy; `refuse` why it is not taken."""

    def __init__(self) -> None:
        self.objects: dict[Key, Json] = {}
        self.writes: list[str] = []
        self.sick: Callable[[Json], str] = lambda found: ""
        self.refuse: Callable[[Json], str] = lambda found: ""

    def get(self, objects: Sequence[Json]) -> list[Json]:
        for one in objects:
            self._check(one, namespace=False)
        return [self._shown(self.objects[key]) for key in by_key(objects) if key in self.objects]

    def labelled(self, resource: str, namespace: str, labels: str) -> list[Json]:
        assert resource == "deployments"
        found = [one for key, one in self.objects.items() if (key.kind, key.namespace) == ("Deployment", namespace)]
        return [self._shown(one) for one in found if labels in one["metadata"].get("labels", {})]

    def apply(self, objects: Sequence[Json], *, dry: bool) -> list[Json]:
        found = []
        for one in objects:
            self._check(one, namespace=True)
            if why := self.refuse(one):
                raise PlatformError(f"{key_of(one)}: {why}")
            made = self._made(one)
            if not dry:
                if self.objects.get(key_of(one)) != made:
                    self.writes.append(f"apply {key_of(one)}")
                self.objects[key_of(one)] = made
            found.append(self._shown(made))
        return found

    def delete(self, objects: Sequence[Json]) -> None:
        for one in objects:
            self.writes.append(f"delete {key_of(one)}")
            self.objects.pop(key_of(one), None)

    def _check(self, one: Json, *, namespace: bool) -> None:
        key = key_of(one)
        if key.group == "tidegate.dev" and not any(key.kind == "CustomResourceDefinition" for key in self.objects):
            raise PlatformError(f'no matches for kind "{key.kind}"')
        spaces = {key.name for key in self.objects if key.kind == "Namespace"}
        if namespace and key.namespace and key.namespace not in spaces:
            raise PlatformError(f'namespaces "{key.namespace}" not found')

    def _made(self, config: Json) -> Json:
        live = self.objects.get(key_of(config))
        fields = applied_fields(config)
        if live is None:
            found = copy.deepcopy(config)
            generation = 1
        else:
            mine = live["metadata"]["managedFields"][0]["fieldsV1"]
            bare = {name: one for name, one in live.items() if name != "metadata"}
            bare["metadata"] = {k: v for k, v in live["metadata"].items() if k not in ("managedFields", "generation")}
            found = merged(without(bare, mine, fields), config)
            generation = live["metadata"]["generation"] + (found.get("spec") != live.get("spec"))
        entry = {"manager": MANAGER, "operation": "Apply", "fieldsV1": fields}
        found["metadata"] = {**found["metadata"], "generation": generation, "managedFields": [entry]}
        return found

    def _shown(self, one: Json) -> Json:
        return {**copy.deepcopy(one), "status": self._status(one)}

    def _status(self, one: Json) -> Json:
        generation, why = one["metadata"]["generation"], self.sick(one)
        said = {"status": "False" if why else "True", "message": why, "observedGeneration": generation}
        conditions = [{"type": kind, **said} for kind in ("Established", "Accepted", "Programmed", "Complete")]
        replicas = one.get("spec", {}).get("replicas", 1)
        ready = 0 if why else replicas
        counts = {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": ready, "readyReplicas": ready}
        return {"observedGeneration": generation, "conditions": conditions, "phase": "Bound", **counts}
