"""What ``tidegate deploy`` does: read and check, ship pipelines, then the cluster. Does I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.deploy.changes import DIGEST, by_key, with_images, with_pipeline
from tidegate.deploy.kubectl import Json, Kubectl
from tidegate.deploy.run import Deployment, Done
from tidegate.errors import UserError
from tidegate.orchestrators.choose import pods_of
from tidegate.orchestrators.package import parse_package
from tidegate.orchestrators.pods import STATE
from tidegate.spec import Model, load_model, parse_span, read_yaml


@dataclass(frozen=True)
class Wanted:
    """The options of the command."""

    overlay: Path
    models: tuple[Path, ...]
    image: str | None
    serving: str | None
    orchestrator: str
    namespace: str
    timeout: str
    dry_run: bool


def deploy_all(wanted: Wanted, say: Callable[[str], None]) -> dict[str, Any]:
    """Deploy, telling `say` each change; the document of the command.

    Raises UserError for what is wrong before anything is asked, PlatformError where the dry run is refused: in both
    cases nothing was changed.
    """
    began, models = time.monotonic(), _models(wanted)
    seconds = _seconds(wanted.timeout)
    kubectl = Kubectl()
    objects = [*_installation(kubectl, wanted), *_applied(wanted)]
    if len(by_key(objects)) != len(objects):
        raise UserError("--model", "two objects of one name", "each Model once")
    pipelines = [_shipped(wanted, model, say) for model in models if _on_kubeflow(wanted, model)]
    done = Deployment(kubectl, objects, seconds, say).run(wanted.dry_run)
    return {
        "overlay": str(wanted.overlay),
        "image": wanted.image,
        "serving": wanted.serving,
        "pipelines": pipelines,
        **done.to_json(),
        "sentence": _sentence(done),
        "seconds": round(time.monotonic() - began, 2),
    }


def _seconds(text: str) -> float:
    try:
        found: Any = parse_span(text)
    except ValueError:
        raise UserError("--timeout", text, "a span such as 10m") from None
    return float(found.total_seconds())


def _models(wanted: Wanted) -> list[Model]:
    """The Model files, checked with their packages."""
    if wanted.orchestrator not in ("auto", "job", "kubeflow"):
        raise UserError("--orchestrator", wanted.orchestrator, "auto, job or kubeflow")
    if wanted.image and not DIGEST.match(wanted.image):
        raise UserError("--image", wanted.image, "an image by digest, NAME@sha256:…")
    models = [load_model(path) for path in wanted.models]
    for model in models:
        package = model.spec.pipeline.package
        parse_package(read_yaml(Path(package)), package)
    return models


def _installation(kubectl: Kubectl, wanted: Wanted) -> list[Json]:
    images = {"components": wanted.image, "serving": wanted.serving}
    return with_images(kubectl.build(wanted.overlay), {name: one for name, one in images.items() if one})


def _applied(wanted: Wanted) -> Iterator[Json]:
    for path in wanted.models:
        found = with_pipeline(read_yaml(path), wanted.namespace, wanted.image)
        if wanted.orchestrator != "auto":
            found["spec"].setdefault("pipeline", {})["orchestrator"] = wanted.orchestrator
        yield found


def _on_kubeflow(wanted: Wanted, model: Model) -> bool:
    return "kubeflow" in (wanted.orchestrator, model.spec.pipeline.orchestrator) and wanted.orchestrator != "job"


def _shipped(wanted: Wanted, model: Model, say: Callable[[str], None]) -> Json:
    """The pipeline's version on Kubeflow: what the operator will submit for this model, byte for byte."""
    from tidegate.orchestrators.kfp_package import version_name
    from tidegate.orchestrators.kubeflow import KubeflowOrchestrator, filled

    package, folder = Path(model.spec.pipeline.package), Path(STATE) / model.name
    image, pods = wanted.image or model.spec.pipeline.image, pods_of(folder)
    name, version = read_yaml(package)["pipelineInfo"]["name"], version_name(filled(package, image, pods))
    found = {"model": model.name, "package": str(package), "pipeline": name, "version": version}
    say(f"pipeline {name}: version {version}")
    if wanted.dry_run:
        return found
    return {**found, "version_id": KubeflowOrchestrator(folder, image, pods).ship(package)}


def _sentence(done: Done) -> str:
    counted = {what: sum(one.what == what for one in done.changes) for what in ("new", "changed", "same", "later")}
    told = ", ".join(f"{count} {what}" for what, count in counted.items() if count)
    if not done.applied:
        return f"dry run: {told}; nothing was changed"
    if done.ok:
        return f"deployed: {told}; healthy"
    again = "healthy again" if done.healthy_again else "not healthy again yet"
    kept = f"; kept, for what is in them: {', '.join(done.kept)}" if done.kept else ""
    return f"not deployed: {done.trouble}; back to what was there, {again}{kept}"
