"""Model cards are kept with the version, shown in MLflow, and written for a model that was refused, too."""

import json
from dataclasses import asdict

from tidegate.evaluate.gate import Policy, gate
from tidegate.register import registry
from tidegate.register.cards import MARKDOWN, PAGE, card_path, store_card
from tidegate.register.models import store_model
from tidegate.register.step import logger, register
from tidegate.train.model_file import FILES, write_manifest
from tidegate.train.search import Entry

UNTIL = "2024-02-01T00:00:00Z"


def record(mean: float) -> dict:
    days = {"rows": [900] * 14, "sums": [900 * (mean + (0.001 if day % 2 else -0.001)) for day in range(14)]}
    values = dict.fromkeys(("log_loss", "brier", "roc_auc"), 0.5)
    found = {"compared_with": "champion", "reference_distance": 1e-7, "days": days, "slices": {"origin": {"JFK": days}}}
    found |= {"candidate": values, "champion": values, "rows": 12_600}
    policy = Policy("log_loss", 0.002)
    answer = gate(policy, found)
    checks = {name: vars(check) for name, check in answer.checks.items()}
    told = {**vars(answer), "checks": checks, "policy": vars(policy), "measurements": found}
    return json.loads(json.dumps(told))


def made(folder, mean):
    """The outputs of the steps before register."""
    model, valid = folder / "model", folder / "valid"
    model.mkdir(parents=True)
    valid.mkdir()
    for name in FILES:
        (model / name).write_text(name)
    training = {
        "digest": write_manifest(model),
        **{name: None for name in ("parent", "lineage", "search")},
        **{"mode": "stateless", "reason": "no parent", "rows": 10, "train_rows": 8, "train_from": 0.0},
        **{"train_until": 5.0, "metrics": {"train_log_loss": 0.4}, "params": {"trees": 3}, "seeds": {"train": 7}},
        **{"feature_schema_digest": "sha256:s", "architecture_digest": "sha256:r"},
    }
    (model / "training.json").write_text(json.dumps(training))
    (valid / "report.json").write_text(json.dumps({"ok": True}))
    (valid / "profile.json").write_text("{}")
    (folder / "data_version.json").write_text(json.dumps({"version": "abc.dir"}))
    (folder / "gate.json").write_text(json.dumps(record(mean)))
    return {"model": model, "valid": valid, "data_version": folder / "data_version.json", "gate": folder / "gate.json"}


def test_the_card_of_a_candidate_is_kept_and_logged(tmp_path):
    state, inputs = tmp_path / "state", made(tmp_path / "r", 0.0)
    found = register(inputs, tmp_path / "candidate.json", state, "m", UNTIL, "r1", "manual")
    folder = card_path(found.digest, state)
    assert "passed this model" in (folder / MARKDOWN).read_text()
    run_id = json.loads((tmp_path / "candidate.json").read_text())["mlflow_run_id"]
    logged = registry.client_of(state).list_artifacts(run_id, "card")
    assert {entry.path for entry in logged} == {f"card/{MARKDOWN}", f"card/{PAGE}"}


def test_a_refused_model_has_a_card_that_says_why(tmp_path):
    state, inputs = tmp_path / "state", made(tmp_path / "r", 0.01)
    found = register(inputs, tmp_path / "candidate.json", state, "m", UNTIL, "r1", "manual")
    text = next((state / "cards").rglob(MARKDOWN)).read_text()
    assert found.outcome == "refused"
    assert "not proved to be within the margin of the champion" in text


def test_the_card_of_a_version_stays_when_the_same_files_are_refused_later(tmp_path):
    state, inputs = tmp_path / "state", made(tmp_path / "r", 0.0)
    training = json.loads((inputs["model"] / "training.json").read_text())
    store_model(inputs["model"], training["digest"], state)
    folder = store_card("m", record(0.0), training, state)
    before = (folder / MARKDOWN).read_text()
    store_card("m", record(0.01), training, state)
    assert (folder / MARKDOWN).read_text() == before


def test_no_card_without_a_gate(tmp_path):
    assert store_card("m", {"verdict": "refused", "reason": "an earlier gate refused"}, {}, tmp_path) is None


def test_the_choice_of_a_candidate_is_a_table_in_mlflow(tmp_path):
    state, inputs = tmp_path / "state", made(tmp_path / "r", 0.0)
    training = json.loads((inputs["model"] / "training.json").read_text())
    table = [asdict(Entry(name, {"trees": 3}, 0.4, 0.3, 0.5, 1.0, 99, 1.0, reason="tried")) for name in ("a", "b")]
    training["choice"] = {"reason": "the lowest", "table": table}
    (inputs["model"] / "training.json").write_text(json.dumps(training))
    register(inputs, tmp_path / "candidate.json", state, "m", UNTIL, "r1", "manual")
    run_id = json.loads((tmp_path / "candidate.json").read_text())["mlflow_run_id"]
    logged = json.loads(next((state / "mlflow-artifacts" / run_id).rglob("choice.json")).read_text())
    assert logged["columns"] == list(table[0])
    assert [row[0] for row in logged["data"]] == ["a", "b"]


def test_an_mlflow_that_fails_costs_no_candidate(tmp_path, caplog):
    state, inputs = tmp_path / "state", made(tmp_path / "r", 0.0)
    state.mkdir()
    (state / "mlflow.db").write_text("this is no database" * 100)
    found = register(inputs, tmp_path / "candidate.json", state, "m", UNTIL, "r1", "manual")
    assert (found.outcome, found.version) == ("candidate", "v1")
    assert json.loads((tmp_path / "candidate.json").read_text())["mlflow_run_id"] is None
    (told,) = [record for record in caplog.records if record.name == logger.name]
    assert "run r1" in told.message
