"""The compiled package through kfp.local: a passing run, the same again, refused data, a refused model."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from contract.orchestrator import ended

from tidegate.journal.store import Journal, open_journal, verify
from tidegate.orchestrators.local import LocalOrchestrator
from tidegate.register.models import public_key
from tidegate.spec import GateSpec, TrainingSpec
from tidegate.steps import STEPS, read_records
from tidegate.train.model_file import folder_name
from tidegate.train.model_file import verify as verify_model
from tidegate.train.settings import ParentFacts, RunSettings

PACKAGE = Path(__file__).parents[3] / "pipelines" / "continuous_training.yaml"
MODEL = "flight-delay"


def arguments(
    run: str, workload: str = "flights.workload:flight_delay", parent: ParentFacts | None = None
) -> dict[str, str]:
    settings = RunSettings(
        training=TrainingSpec(mode="stateless"),
        gate=GateSpec(margin=0.0, slices=("origin",)),
        gate_window=timedelta(days=7),
        seed=9 if parent else 7,
        parent=parent,
    )
    named = {"workload": workload, "model": MODEL, "until": "2013-02-08T00:00:00Z", "cause": "manual", "run": run}
    return {**named, "settings": settings.text(), "champion": parent.digest if parent else ""}


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> Path:
    """Four runs, one after the other, on a state folder of their own."""
    state = tmp_path_factory.mktemp("state")
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    open_journal(state, create=True).close()
    orchestrator = LocalOrchestrator(state)

    def run(name: str, **other: object) -> None:
        status = ended(orchestrator, orchestrator.submit(PACKAGE, arguments(name, **other), name), 240)
        assert (status.state, status.error) == ("succeeded", "")

    run("passing")
    run("again")
    run("refused-data", workload="broken_flights:flight_delay")
    first = open_journal(state).read(MODEL)[0].data
    names = ("version", "digest", "feature_schema_digest", "architecture_digest", "train_until")
    run("refused-model", parent=ParentFacts(**{name: first[name] for name in names}))
    return state


@pytest.fixture
def journal(state) -> Journal:
    return open_journal(state)


def test_only_the_passing_run_registered_a_version(journal):
    events = journal.read(MODEL)
    verify(events)
    assert [(event.kind, event.data["run"], event.data.get("version")) for event in events] == [
        ("register.candidate", "passing", "v1"),
        ("register.unchanged", "again", "v1"),
        ("validate.refused", "refused-data", None),
        ("evaluate.refused", "refused-model", None),
    ]


def test_the_version_is_stored_signed_and_has_its_sources(state, journal):
    data = journal.read(MODEL)[0].data
    verify_model(state / "models" / folder_name(data["digest"]), data["digest"], [public_key(state)])
    assert [path.name for path in (state / "models").iterdir()] == [folder_name(data["digest"])]
    assert data["data_version"].endswith(".dir")
    assert data["gate"]["measurements"]["candidate"]["roc_auc"] > 0.6
    assert set(data["cost"]) == set(STEPS) - {"register"}


def test_an_unchanged_run_comes_from_the_cache(state):
    cached = {record.step: record.cached for record in read_records(state, "again")}
    assert cached == {name: step.cached for name, step in STEPS.items()}


def test_refused_data_stops_at_the_first_gate_and_says_what_was_wrong(state, journal):
    data = journal.read(MODEL)[2].data
    assert data["reason"] == "data_refused"
    assert any(v["column"] == "carrier" and v["rows"] > 1000 for v in data["report"]["violations"])
    verdicts = {record.step: record.verdict for record in read_records(state, "refused-data")}
    assert verdicts == {name: "passed" if name == "ingest" else "refused" for name in STEPS}


def test_a_refused_model_has_every_number_and_no_version(state, journal):
    data = journal.read(MODEL)[3].data
    assert (data["reason"], data["gate"]["measurements"]["compared_with"]) == ("gate_metric", "champion")
    assert data["gate"]["checks"]["log_loss"]["upper"] >= 0.0
    assert not (state / "models" / folder_name(data["digest"])).exists()


def test_runs_are_in_mlflow_and_only_the_version_is_registered(state, journal):
    from tidegate.register import registry

    client = registry.client_of(state)
    (version,) = client.search_model_versions(f"name = '{MODEL}'")
    assert (version.tags["version"], version.tags["run"]) == ("v1", "passing")
    outcomes = {json.loads((state / "runs" / run / "status.json").read_text())["error"] for run in ("passing", "again")}
    assert outcomes == {""}
    experiment = client.get_experiment_by_name(MODEL)
    runs = client.search_runs([experiment.experiment_id])
    assert {run.data.tags["tidegate.outcome"] for run in runs} == {
        "register.candidate",
        "validate.refused",
        "evaluate.refused",
    }
