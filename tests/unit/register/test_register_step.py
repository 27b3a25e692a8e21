"""The register step on real files: stored, signed, journaled once, mirrored in MLflow; also by many at once."""

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest

from tidegate.errors import PlatformError
from tidegate.journal.store import open_journal, verify
from tidegate.register import registry
from tidegate.register.models import profile_path, public_key
from tidegate.register.step import register
from tidegate.train import model_file
from tidegate.train.model_file import FILES, folder_name, write_manifest

UNTIL = "2024-02-01T00:00:00Z"


def made(folder: Path, text: str, verdict: str = "passed") -> dict[str, Path]:
    """The outputs of the steps before register, with a model whose digest depends on `text`."""
    model, valid = folder / "model", folder / "valid"
    model.mkdir(parents=True)
    valid.mkdir()
    for name in FILES:
        (model / name).write_text(text + name)
    training = {
        "digest": write_manifest(model),
        **{name: None for name in ("parent", "lineage", "search")},
        **{"mode": "stateless", "reason": "no parent", "rows": 10, "train_rows": 8, "train_from": 0.0},
        **{"train_until": 5.0, "metrics": {"train_log_loss": 0.4}, "params": {"trees": 3}, "seeds": {"train": 7}},
        **{"feature_schema_digest": "sha256:s", "architecture_digest": "sha256:r"},
    }
    (model / "training.json").write_text(json.dumps(training))
    (valid / "report.json").write_text(json.dumps({"ok": True}))
    (valid / "profile.json").write_text(text)
    (folder / "data_version.json").write_text(json.dumps({"version": "abc.dir"}))
    gate = {"verdict": verdict, "reason": "first_version" if verdict == "passed" else "gate_metric"}
    measurements = {"candidate": {"log_loss": 0.5, "roc_auc": None}}
    (folder / "gate.json").write_text(json.dumps({**gate, "measurements": measurements}))
    names = {"model": model, "valid": valid, "data_version": folder / "data_version.json", "gate": folder / "gate.json"}
    return names


def run(folder: Path, state: Path, inputs: dict[str, Path], name: str):
    return register(inputs, folder / f"{name}.json", state, "m", UNTIL, name, "manual")


def test_a_candidate_is_stored_signed_journaled_and_mirrored_once(tmp_path):
    state, inputs = tmp_path / "state", made(tmp_path, "one")
    first = run(tmp_path, state, inputs, "r1")
    again = run(tmp_path, state, inputs, "r1")
    equal = run(tmp_path, state, inputs, "r2")
    assert (first.outcome, first.version) == ("candidate", "v1")
    assert again == first
    assert (equal.outcome, equal.version) == ("unchanged", "v1")
    events = open_journal(state).read("m")
    assert [event.kind for event in events] == ["register.candidate", "register.unchanged"]
    assert profile_path(first.digest, state).read_text() == "one"
    stored = state / "models" / folder_name(first.digest)
    model_file.verify(stored, first.digest, [public_key(state)])
    client = registry.client_of(state)
    (version,) = client.search_model_versions("name = 'm'")
    assert version.tags["digest"] == first.digest
    assert {name: version.tags[name] for name in ("version", "data_version", "parameters", "run")} == {
        "version": "v1", "data_version": "abc.dir", "parameters": '{"trees":3}', "run": "r1",
    }  # fmt: skip
    assert version.tags["code_commit"]
    found = client.get_run(version.run_id).data
    assert (found.params["trees"], found.metrics["gate_log_loss"], found.tags["tidegate.run"]) == ("3", 0.5, "r1")
    record = json.loads((tmp_path / "r1.json").read_text())
    assert (record["version"], record["mlflow_run_id"]) == ("v1", version.run_id)


def test_a_mirror_that_is_missing_is_made_by_the_next_try(tmp_path):
    state, inputs = tmp_path / "state", made(tmp_path, "one")
    run(tmp_path, state, inputs, "r1")
    shutil.rmtree(state / "mlflow-runs")
    run(tmp_path, state, inputs, "r1")
    assert len(registry.client_of(state).search_model_versions("name = 'm'")) == 1
    assert len(open_journal(state).read("m")) == 1


def test_a_refused_model_is_recorded_and_not_stored(tmp_path):
    state = tmp_path / "state"
    found = run(tmp_path, state, made(tmp_path, "one", "refused"), "r1")
    assert (found.outcome, found.version, found.reason) == ("refused", "", "gate_metric")
    assert [event.kind for event in open_journal(state).read("m")] == ["evaluate.refused"]
    assert not (state / "models").exists()


def test_a_changed_file_is_not_registered(tmp_path):
    inputs = made(tmp_path, "one")
    (inputs["model"] / "model.onnx").write_text("another")
    with pytest.raises(PlatformError, match=r"model\.onnx"):
        run(tmp_path, tmp_path / "state", inputs, "r1")
    assert not (tmp_path / "state" / "journal.db").exists()


def _worker(folder: str, state: str, number: int, barrier) -> None:
    registry.mirror = lambda *_: "none"  # MLflow's database is made by one process at a time
    barrier.wait()
    for turn in range(4):
        mine = made(Path(folder) / f"{number}-{turn}", f"{number}-{turn}")
        run(Path(folder), Path(state), mine, f"r{number}-{turn}")
        shared = made(Path(folder) / f"shared-{number}-{turn}", f"shared-{turn}")
        run(Path(folder), Path(state), shared, f"s{number}-{turn}")


def test_many_at_once_leave_one_history(tmp_path):
    context, state = multiprocessing.get_context("fork"), tmp_path / "state"
    open_journal(state, create=True).close()
    barrier = context.Barrier(3)
    workers = [context.Process(target=_worker, args=(str(tmp_path), str(state), n, barrier)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    events = open_journal(state).read("m")
    verify(events)
    candidates = [event.data for event in events if event.kind == "register.candidate"]
    assert sorted(c["version"] for c in candidates) == sorted(f"v{n}" for n in range(1, 17))
    assert len({c["digest"] for c in candidates}) == 16
    assert len(events) == 24
    for candidate in candidates:
        model_file.verify(state / "models" / folder_name(candidate["digest"]), candidate["digest"], [public_key(state)])
