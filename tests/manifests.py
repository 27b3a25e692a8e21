"""Kustomizations as `kubectl kustomize` builds them, in small, so that manifests are checked where there is no kubectl.

It knows what ours use: resources, patches (strategic by file, JSON by value) and images.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]
OVERLAYS = ("local", "production")
INTEGRATIONS = ("argo-rollouts", "argo-rollouts/controller", "argo-rollouts-plugin")
KEYS = ("name", "topologyKey")
"""By what items of a list are the same in a strategic merge."""


def overlay(name: str) -> list[Json]:
    """Every object of an overlay."""
    return build(ROOT / "k8s/overlays" / name)


def integration(name: str) -> list[Json]:
    """Every object of an integration."""
    return build(ROOT / "k8s/integrations" / name)


def kubectl() -> str | None:
    """A kubectl of this machine, or the test cluster's."""
    here = os.environ.get("TIDEGATE_CLUSTER") or Path.home() / ".cache/tidegate/cluster"
    return shutil.which("kubectl", path=str(Path(here) / "bin")) or shutil.which("kubectl")


def build(folder: Path) -> list[Json]:
    """The objects of one kustomization; raises KeyError on what it does not know."""
    told = yaml.safe_load((folder / "kustomization.yaml").read_text())
    told = {key: value for key, value in told.items() if key not in ("apiVersion", "kind")}
    found: list[Json] = []
    for name in told.pop("resources"):
        path = folder / name
        found += build(path) if path.is_dir() else documents(path)
    for patch in told.pop("patches", ()):
        change(found, folder, patch)
    for image in told.pop("images", ()):
        for container in (one for each in found for one in containers(each)):
            before, _, tag = container["image"].partition(":")
            if before == image["name"]:
                container["image"] = f"{image['newName']}:{tag}"
    if told:
        raise KeyError(f"{folder}: {sorted(told)}")
    return found


def documents(path: Path) -> list[Json]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def pod_of(found: Json) -> Json | None:
    """The pod's spec in an object that makes pods."""
    if found["kind"] == "Pod":
        return found["spec"]
    if found["kind"] in ("Deployment", "StatefulSet", "Job", "DaemonSet", "Rollout"):
        return found["spec"].get("template", {}).get("spec")
    return None


def containers(found: Json) -> Iterator[Json]:
    """Every container of an object that makes pods, those before it included."""
    pod = pod_of(found) or {}
    yield from (*pod.get("initContainers", ()), *pod.get("containers", ()))


def change(found: list[Json], folder: Path, patch: Json) -> None:
    if "path" in patch:
        (said,) = documents(folder / patch["path"])
        (one,) = (x for x in found if x["kind"] == said["kind"] and x["metadata"]["name"] == said["metadata"]["name"])
        one.update(merged(one, said))
        return
    target = patch["target"]
    (one,) = (x for x in found if x["kind"] == target["kind"] and x["metadata"]["name"] == target["name"])
    for step in yaml.safe_load(patch["patch"]):
        *before, last = step["path"].strip("/").split("/")
        node: Any = one
        for name in before:
            node = node[int(name) if isinstance(node, list) else name]
        if step["op"] not in ("replace", "add") or (step["op"] == "replace") != (
            isinstance(node, list) or last in node
        ):
            raise KeyError(step)
        node[int(last) if isinstance(node, list) else last] = step["value"]


def merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
    key = next((k for k in KEYS if isinstance(new, list) and new and isinstance(new[0], dict) and k in new[0]), None)
    if not isinstance(old, list) or key is None:
        return copy.deepcopy(new)
    mine = {item[key]: item for item in new}
    kept = [merged(item, mine.pop(item[key], {})) for item in old]
    return [*mine.values(), *kept]
