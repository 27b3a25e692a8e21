"""Whether an object is what its spec asks for, by what its status says. Pure.

A status speaks of the generation that it names: an older one says nothing yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Json = Mapping[str, Any]
State = Literal["healthy", "waiting", "failed"]


@dataclass(frozen=True)
class Health:
    """`failed` will not come right by waiting; `why` is empty where it is healthy."""

    state: State
    why: str = ""


HEALTHY = Health("healthy")


def health(found: Json | None) -> Health:
    """How an object does; one that is not there is waited for, one without a rule here is healthy by being there."""
    if found is None:
        return Health("waiting", "is not there")
    rule = _RULES.get(found["kind"])
    return rule(found, found.get("status") or {}) if rule else HEALTHY


def serves(found: Json, image: str) -> Health:
    """How the Deployment of a model version does, once it has the serving image `image`."""
    pod = found["spec"]["template"]["spec"]
    if any(one["image"] != image for one in (*pod.get("initContainers", ()), *pod["containers"])):
        return Health("waiting", "has the serving image of before")
    return health(found)


def _deployment(found: Json, status: Json) -> Health:
    wanted, done = found["spec"].get("replicas", 1), status.get("updatedReplicas", 0)
    if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
        return Health("waiting", "its change is not seen yet")
    for one in status.get("conditions", ()):
        if one["type"] == "Progressing" and one["status"] == "False":
            return Health("failed", one.get("message") or one.get("reason", "does not progress"))
    if done < wanted or status.get("replicas", 0) > done:
        return Health("waiting", f"{done} of {wanted} replicas are new")
    ready = status.get("availableReplicas", 0)
    return HEALTHY if ready >= wanted else Health("waiting", f"{ready} of {wanted} replicas are available")


def _stateful_set(found: Json, status: Json) -> Health:
    wanted, ready = found["spec"].get("replicas", 1), status.get("readyReplicas", 0)
    if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
        return Health("waiting", "its change is not seen yet")
    if status.get("updateRevision") != status.get("currentRevision"):
        return Health("waiting", f"{status.get('updatedReplicas', 0)} of {wanted} replicas are new")
    return HEALTHY if ready >= wanted else Health("waiting", f"{ready} of {wanted} replicas are ready")


def _job(found: Json, status: Json) -> Health:
    ended = {one["type"]: one for one in status.get("conditions", ()) if one["status"] == "True"}
    if "Failed" in ended:
        return Health("failed", ended["Failed"].get("message", "has failed"))
    return HEALTHY if "Complete" in ended else Health("waiting", "has not ended")


def _claim(found: Json, status: Json) -> Health:
    phase = status.get("phase", "Pending")
    return HEALTHY if phase == "Bound" else Health("failed" if phase == "Lost" else "waiting", f"is {phase}")


def _condition(kind: str, final: bool = False) -> Any:
    """A rule: condition `kind` is True for this generation; `final`: False for it stays False."""

    def rule(found: Json, status: Json) -> Health:
        generation = found["metadata"].get("generation", 0)
        for one in status.get("conditions", ()):
            if one["type"] != kind or one.get("observedGeneration", generation) < generation:
                continue
            if one["status"] == "True":
                return HEALTHY
            return Health("failed" if final else "waiting", one.get("message") or f"is not {kind}")
        return Health("waiting", f"is not {kind} yet")

    return rule


_RULES = {
    "CustomResourceDefinition": _condition("Established"),
    "Deployment": _deployment,
    "Gateway": _condition("Programmed"),
    "GatewayClass": _condition("Accepted"),
    "Job": _job,
    "Model": _condition("Accepted", final=True),
    "PersistentVolumeClaim": _claim,
    "StatefulSet": _stateful_set,
}
