"""What a deployment changes: which objects, in which order, how they differ, what undoes them. Pure.

Objects go in three waves: definitions and namespaces, then the installation, then Models, since a wave needs the one
before it to be there.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from tidegate.deploy.owned import both, owned, pick
from tidegate.errors import UserError

Json = dict[str, Any]
Verb = Literal["apply", "delete", "keep"]

DIGEST = re.compile(r"^[^@\s]+@sha256:[0-9a-f]{64}$")
KEPT = frozenset({"CustomResourceDefinition", "Namespace", "PersistentVolumeClaim"})
"""Kinds that hold what others wrote: made by a deployment that is undone, they stay."""
SECRET = {"Secret": ("data", "stringData"), "Model": ("spec.alerts.webhook",)}
"""What a diff hides, by kind."""
NOISE = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")
_FIRST = frozenset({"CustomResourceDefinition", "Namespace"})


@dataclass(frozen=True, order=True)
class Key:
    """One object: its kind with group, its namespace (empty: the cluster's own) and name."""

    kind: str
    group: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Change:
    """What the API server says that an object becomes; `lines` is the diff, empty where it is new or the same.

    `later`: it can be asked about only when its definition or namespace is as wanted.
    """

    key: Key
    what: Literal["new", "changed", "same", "later"]
    lines: tuple[str, ...] = ()


def key_of(found: Mapping[str, Any]) -> Key:
    """The object's key."""
    group = found["apiVersion"].rpartition("/")[0]
    return Key(found["kind"], group, found["metadata"].get("namespace", ""), found["metadata"]["name"])


def by_key(objects: Iterable[Json]) -> dict[Key, Json]:
    """The objects by key, in their order."""
    return {key_of(one): one for one in objects}


def waves(objects: Iterable[Json]) -> tuple[list[Json], list[Json], list[Json]]:
    """Definitions and namespaces; the rest; Models."""
    found: tuple[list[Json], list[Json], list[Json]] = ([], [], [])
    for one in objects:
        found[0 if one["kind"] in _FIRST else 2 if one["kind"] == "Model" else 1].append(one)
    return found


def known(one: Json, first: Mapping[Key, Json], live: Mapping[Key, Json]) -> bool:
    """Whether the API server can be asked about it: what it needs of the first wave is in `live`."""
    group, kind, space = key_of(one).group, one["kind"], one["metadata"].get("namespace", "")
    for key, told in first.items():
        spec = told.get("spec", {})
        defines = spec.get("group") == group and spec.get("names", {}).get("kind") == kind
        if (defines or (key.kind == "Namespace" and key.name == space)) and key not in live:
            return False
    return True


def with_images(objects: Sequence[Json], images: Mapping[str, str]) -> list[Json]:
    """The objects with images by digest, by the last part of their name (``components``, ``serving``).

    Whatever text is such an image under any registry is replaced: containers, arguments, variables. Raises UserError
    for an image without a digest, or that no object names.
    """
    found = copy.deepcopy(list(objects))
    for name, image in images.items():
        if not DIGEST.match(image):
            raise UserError(f"image of {name}", image, "an image by digest, NAME@sha256:…")
        pattern = re.compile(rf"^(?:\S+/)?tidegate/{name}(?::[\w.-]+)?(?:@sha256:[0-9a-f]{{64}})?$")
        replaced = [_replaced(one, pattern, image) for one in found]
        if replaced == found:
            raise UserError(f"image of {name}", image, f"an overlay that names an image …/tidegate/{name}")
        found = replaced
    return found


def with_pipeline(model: Json, namespace: str, image: str | None) -> Json:
    """A Model file's document as it is applied: in its namespace, its runs with the component image of this digest."""
    found = copy.deepcopy(model)
    found["metadata"]["namespace"] = namespace
    if image:
        found["spec"].setdefault("pipeline", {})["image"] = image
    return found


def serving_image(objects: Iterable[Json]) -> str:
    """The image that the operator is told to serve with; empty where no object tells one."""
    for one in objects:
        if one["kind"] == "Deployment":
            for container in one["spec"]["template"]["spec"]["containers"]:
                words = container.get("args", [])
                if "operator" in words[:1] and "--image" in words:
                    return str(words[words.index("--image") + 1])
    return ""


def change(before: Json | None, after: Json) -> Change:
    """How the object differs from what is there; secrets are hidden."""
    key = key_of(after)
    if before is None:
        return Change(key, "new")
    old, new = (
        yaml.safe_dump(one, sort_keys=True, width=1000).splitlines() for one in _hidden(_plain(before), _plain(after))
    )
    lines = tuple(difflib.unified_diff(old, new, "is", "becomes", n=2, lineterm=""))
    return Change(key, "changed" if lines else "same", lines)


def undo(before: Json | None, now: Json | None) -> tuple[Verb, Json] | None:
    """What brings an object back to how it was before; None where there is nothing to do.

    It is what was applied to it then, and what of its fields has been applied since, as they were.
    """
    if before is None:
        return None if now is None else ("keep" if now["kind"] in KEPT else "delete", now)
    fields = both(owned(before), owned(now) if now else {})
    if not fields or (now is not None and _plain(before) == _plain(now)):
        return None
    identity = {"apiVersion": before["apiVersion"], "kind": before["kind"]}
    names = {name: before["metadata"][name] for name in ("name", "namespace") if name in before["metadata"]}
    picked = pick({name: one for name, one in before.items() if name != "status"}, fields)
    metadata = {**picked.pop("metadata", {}), **names}
    return "apply", {**identity, **picked, "metadata": metadata}


def _replaced(value: Any, pattern: re.Pattern[str], image: str) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(one, pattern, image) for name, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, pattern, image) for one in value]
    return image if isinstance(value, str) and pattern.match(value) else value


def _plain(found: Json) -> Json:
    """Without what the server alone writes."""
    metadata = {name: one for name, one in found["metadata"].items() if name not in NOISE}
    return copy.deepcopy({**{name: one for name, one in found.items() if name != "status"}, "metadata": metadata})


def _hidden(before: Json, after: Json) -> tuple[Json, Json]:
    """Both with their secrets hidden; that one differs is still seen."""
    for path in SECRET.get(after["kind"], ()):
        *way, last = path.split(".")
        holders = [_at(one, way) for one in (before, after)]
        values = [holder.get(last) if isinstance(holder, dict) else None for holder in holders]
        for holder, value, word in zip(holders, values, ("hidden", "hidden, another"), strict=True):
            if value is not None:
                holder[last] = "hidden" if values[0] == values[1] else word
    return before, after


def _at(found: Any, way: Sequence[str]) -> Any:
    for name in way:
        found = found.get(name) if isinstance(found, dict) else None
    return found
