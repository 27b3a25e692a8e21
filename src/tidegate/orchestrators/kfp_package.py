"""A compiled package as Kubeflow is given it: nothing changed but the image, and pod settings as a second document.

`with_image` and `version_name` are pure text; `platform_document` goes through kfp-kubernetes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import yaml

from tidegate.errors import UserError
from tidegate.orchestrators.pods import KEYS, OPTIONAL, SECRET_ENV, STATE, Pods, Resources

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

SIGNS = "exec-register"
"""The executor that is given the signing key; no other pod of the run is."""


def with_image(package: str, image: str) -> str:
    """The package's text with `image`, which must have a digest, in place of its executors' images; no other byte.

    Raises UserError when `image` has no digest.
    """
    if "@sha256:" not in image:
        raise UserError("spec.pipeline.image", image, "an image by digest, NAME@sha256:…")
    for old in sorted({container["image"] for container in _containers(yaml.safe_load(package)).values()}):
        package = package.replace(f"\n        image: {old}\n", f"\n        image: {image}\n")
    return package


def with_resources(package: str, resources: Resources) -> str:
    """The package with requests and limits in every executor; its text is written anew."""
    document = yaml.safe_load(package)
    for container in _containers(document).values():
        container["resources"] = {
            "resourceCpuRequest": resources.cpu,
            "resourceMemoryRequest": resources.memory,
            "resourceMemoryLimit": resources.memory_limit,
        }
    return yaml.safe_dump(document, sort_keys=True)


def with_pods(package: str, pods: Pods) -> str:
    """The package with what its pods are given: a second YAML document, as the kfp compiler writes it."""
    package = with_resources(package, pods.resources) if pods.resources else package
    executors = _containers(yaml.safe_load(package))
    settings = {name: _settings(pods, name == SIGNS) for name in executors}
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": settings}}}}
    return f"{package}---\n{yaml.safe_dump(platform, sort_keys=True)}"


def version_name(package: str) -> str:
    """The name of the pipeline version with this content: the same text is the same version."""
    return "sha256-" + hashlib.sha256(package.encode()).hexdigest()[:16]


def _containers(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    executors = document["deploymentSpec"]["executors"]
    return {name: executor["container"] for name, executor in executors.items() if "container" in executor}


def _settings(pods: Pods, signs: bool) -> dict[str, Any]:
    """The Kubernetes part of one executor's platform settings."""
    from kfp import kubernetes

    task = _task()
    kubernetes.mount_pvc(task, pods.claim, STATE, pods.folder)
    for key, name in SECRET_ENV.items() if pods.database_secret else ():
        kubernetes.use_secret_as_env(task, pods.database_secret, {key: name}, optional=key in OPTIONAL)
    if signs:
        kubernetes.use_secret_as_volume(task, pods.signing_secret, KEYS)
    for one in pods.tolerations:
        kubernetes.add_toleration(task, **one.model_dump())
    for label, value in pods.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    kubernetes.set_timeout(task, int(pods.deadline.total_seconds()))
    return dict(task.platform_config["kubernetes"])


def _task() -> PipelineTask:
    """A task of no pipeline, for kfp-kubernetes to set up: the package's own tasks are compiled already."""
    from kfp.components import load_component_from_text
    from kfp.dsl import PipelineTask

    text = "name: step\nimplementation: {container: {image: none, command: [none]}}"
    return PipelineTask(load_component_from_text(text).component_spec, args={})
