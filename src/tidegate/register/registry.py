"""MLflow as the registry that people look at: it mirrors the journal and never leads it. Does I/O.

The journal's event is written first; a mirror that is missing (the process died in between) is made by the next try.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.train.model_file import canonical_json, sha256_text

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_TAGS = (
    "version", "digest", "parent", "mode", "mode_reason", "data_version", "code_commit", "parameters",
    "feature_service", "cause", "run", "reason",
)  # fmt: skip
"""Tags of an MLflow run as ``tidegate.<name>``, of a registered model version by their name."""


def _mark_of(state: Path, kind: str, data: Mapping[str, Any]) -> Path:
    """The file that says which MLflow run tells of this outcome; the same outcome again is told once."""
    told = [kind, data.get("digest"), data.get("data_version"), data.get("gate"), data.get("report")]
    return state / "mlflow-runs" / sha256_text(canonical_json(told)).removeprefix("sha256:")[:32]


def mirrored(state: Path, kind: str, data: Mapping[str, Any]) -> str | None:
    """The id of the MLflow run that tells of this outcome; None where it is not mirrored."""
    mark = _mark_of(state, kind, data)
    return mark.read_text(encoding="ascii") if mark.is_file() else None


def mirror(
    state: Path, model: str, kind: str, data: Mapping[str, Any], folder: Path | None, card: Path | None = None
) -> str:
    """Log one ended run with its model card, and the version when `folder` holds one; returns the MLflow run id.

    Idempotent: by run, and a run that came to what an earlier one came to (all from the cache) imports nothing heavy.
    """
    if (told := mirrored(state, kind, data)) is not None:
        return told
    client = client_of(state)
    experiment = _experiment(client, state, model)
    run_id = _run(client, experiment, data["run"])
    _log(client, run_id, kind, data)
    if card is not None:
        client.log_artifacts(run_id, str(card), "card")
    if table := _choice(data):
        client.log_table(run_id, table, "choice.json")
    if folder is not None:
        _model_version(client, run_id, model, data, folder)
    client.set_terminated(run_id, status="FINISHED" if kind == "register.candidate" else "FAILED")
    _mark(_mark_of(state, kind, data), run_id)
    return run_id


def tell_again(state: Path, model: str, data: Mapping[str, Any], folder: Path, card: Path | None) -> None:
    """`mirror` a candidate that MLflow lacks, whatever was noted of an earlier try."""
    _mark_of(state, "register.candidate", data).unlink(missing_ok=True)
    mirror(state, model, "register.candidate", data, folder, card)


def load() -> None:
    """Import MLflow, which takes seconds."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    importlib.import_module("mlflow.tracking")


def client_of(state: Path) -> MlflowClient:
    """MLflow's client for the store of a state folder, or for the one that MLflow's own variable names."""
    load()
    from mlflow.tracking import MlflowClient

    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{state / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _experiment(client: MlflowClient, state: Path, model: str) -> str:
    found = client.get_experiment_by_name(model)
    if found is not None:
        return str(found.experiment_id)
    artifacts = state / "mlflow-artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    return str(client.create_experiment(model, artifact_location=artifacts.as_uri()))


def _run(client: MlflowClient, experiment: str, run: str) -> str:
    """The run that an earlier try began, else a new one."""
    quoted = run.replace("'", "")
    begun = client.search_runs([experiment], f"tags.`tidegate.run` = '{quoted}'", max_results=1)
    if begun:
        return str(begun[0].info.run_id)
    return str(client.create_run(experiment, run_name=run, tags={"tidegate.run": quoted}).info.run_id)


def _log(client: MlflowClient, run_id: str, kind: str, data: Mapping[str, Any]) -> None:
    from mlflow.entities import Metric, Param, RunTag

    gate = data.get("gate", {})
    scores = gate.get("measurements", {}).get("candidate", {})
    numbers = {**data.get("metrics", {}), **{f"gate_{name}": value for name, value in scores.items()}}
    metrics = [Metric(name, float(value), 0, 0) for name, value in numbers.items() if value is not None]
    parameters = [Param(name, str(value)) for name, value in data.get("params", {}).items()]
    client.log_batch(run_id, metrics, parameters, [RunTag(name, value) for name, value in _tags(kind, data).items()])


def _choice(data: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The table of families and settings by column; empty where one alone was asked for."""
    choice = data.get("choice") or data.get("training", {}).get("choice")
    table = choice["table"] if choice else []
    flat = [{**entry, "setting": canonical_json(entry["setting"])} for entry in table]
    return {column: [entry[column] for entry in flat] for column in (flat[0] if flat else ())}


def _tags(kind: str, data: Mapping[str, Any]) -> dict[str, str]:
    code = data.get("code", {})
    told = {**data, "code_commit": code.get("commit") or code.get("tidegate")}
    if data.get("params"):
        told["parameters"] = canonical_json(data["params"])
    found = {f"tidegate.{name}": str(told[name]) for name in _TAGS if told.get(name) is not None}
    return {**found, "tidegate.outcome": kind}


def _model_version(client: MlflowClient, run_id: str, model: str, data: Mapping[str, Any], folder: Path) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {name.removeprefix("tidegate."): value for name, value in _tags("register.candidate", data).items()}
    if not client.search_model_versions(f"name = '{model}' and run_id = '{run_id}'"):
        client.create_model_version(model, folder.as_uri(), run_id=run_id, tags=tags)


def _mark(path: Path, run_id: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}-{os.getpid()}")
    made.write_text(run_id, encoding="ascii")
    made.replace(path)
