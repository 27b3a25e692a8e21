"""What pods of runs are given on a cluster: one set of settings for ``job`` and ``kubeflow``. Pure.

The defaults are the names of k8s/base; a YAML file, named by TIDEGATE_PODS, changes what differs.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, ValidationError

from tidegate.errors import UserError
from tidegate.spec import Span, Strict, describe

STATE, KEYS = "/state", "/state/keys"
"""Where the shared volume and, over a folder of it, the signing key are mounted in a pod of a run."""

SECRET_ENV = {"url": "TIDEGATE_JOURNAL", "mlflow": "MLFLOW_TRACKING_URI"}
"""Keys of the database Secret and the variables that they become: journal and MLflow."""
OPTIONAL = frozenset({"mlflow"})
"""Without this key MLflow's store is on the shared volume."""


class Resources(Strict):
    cpu: str = "500m"
    """Requested; there is no limit, so that a run uses what is free."""
    memory: str = "1Gi"
    memory_limit: str = "4Gi"


class Toleration(Strict):
    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Pods(Strict):
    namespace: str = "tidegate"
    service_account: str = "tidegate-run"
    claim: str = "tidegate-state"
    """PersistentVolumeClaim of the shared state folder."""
    folder: str = ""
    """Path inside it of the state folder that a run sees; empty: all of it."""
    signing_secret: str = "tidegate-signing"  # noqa: S105 - a name
    """Secret with `signing.key` and `signing.pub`: mounted in pods of runs and in no other."""
    database_secret: str | None = "tidegate-database"  # noqa: S105 - a name
    """Secret with the journal's `url` and, where it has a database, MLflow's `mlflow`; none: both on the volume."""
    resources: Resources | None = None
    """None: of the container of a job `Resources()`, of a Kubeflow step what its package says."""
    tolerations: tuple[Toleration, ...] = ()
    node_selector: dict[str, str] = Field(default_factory=dict)
    deadline: Span = timedelta(hours=6)
    """A run that has not ended by then is ended, and has failed."""
    keep: Span = timedelta(days=7)
    """How long the Job of a run that ended stays to be read; its record stays on the shared volume."""


def parse_pods(document: Any, where: str) -> Pods:
    """Settings from a YAML document; UserError names the field that is wrong."""
    if not isinstance(document, dict):
        raise UserError(where, type(document).__name__, "a mapping of pod settings; see docs/pipelines.md")
    try:
        return Pods.model_validate(document)
    except ValidationError as error:
        raise describe(error, where) from None
