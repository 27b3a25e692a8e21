"""Which orchestrator a Model file means, and what its pods are given by the environment. Does I/O.

TIDEGATE_IMAGE: the component image where the Model file names none. TIDEGATE_PODS: a YAML file of
`tidegate.orchestrators.pods.Pods`; none: the names of k8s/base in this pod's own namespace.
"""

from __future__ import annotations

import os
from pathlib import Path

from tidegate.errors import UserError
from tidegate.orchestrators.base import Orchestrator
from tidegate.orchestrators.pods import STATE, Pods, parse_pods
from tidegate.spec import Model, read_yaml

IMAGE, PODS = "TIDEGATE_IMAGE", "TIDEGATE_PODS"
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def orchestrator_of(model: Model, folder: Path, name: str = "auto") -> Orchestrator:
    """The orchestrator `name`, or where that is auto the Model file's.

    auto there too: job in a pod that is told which image runs have, else local.
    Raises UserError for an unknown name, or when what it needs is not there.
    """
    name = model.spec.pipeline.orchestrator if name == "auto" else name
    if name == "auto":
        name = "job" if {"KUBERNETES_SERVICE_HOST", IMAGE} <= set(os.environ) else "local"
    if name == "local":
        from tidegate.orchestrators.local import LocalOrchestrator

        return LocalOrchestrator(folder)
    if name == "job":
        from tidegate.orchestrators.job import JobOrchestrator

        if not (image := image_of(model)):
            raise UserError("spec.pipeline.image", None, f"the component image, here or in {IMAGE}")
        return JobOrchestrator(folder, image, pods_of(folder))
    if name == "kubeflow":
        from tidegate.orchestrators.kubeflow import KubeflowOrchestrator

        return KubeflowOrchestrator(folder, image_of(model), pods_of(folder))
    raise UserError("orchestrator", name, "auto, local, job or kubeflow")


def image_of(model: Model) -> str | None:
    """The component image that runs of a model use; None: the one that the package was compiled with."""
    return model.spec.pipeline.image or os.environ.get(IMAGE)


def pods_of(folder: Path) -> Pods:
    """The settings of pods of runs; they see of the shared volume what `folder` is here."""
    if path := os.environ.get(PODS):
        found = parse_pods(read_yaml(Path(path)), path)
    else:
        found = Pods(namespace=_NAMESPACE.read_text().strip()) if _NAMESPACE.is_file() else Pods()
    inside = folder.relative_to(STATE) if folder.is_relative_to(STATE) else Path()
    return found if inside == Path() else found.model_copy(update={"folder": str(inside)})
