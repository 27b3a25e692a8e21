"""The evaluate step: measurements of the files as they would be served."""

import json
import shutil

import polars as pl
import pytest
import synthetic

from tidegate.errors import PlatformError, UserError
from tidegate.evaluate.gate import Policy, gate
from tidegate.evaluate.metrics import log_loss
from tidegate.evaluate.step import evaluate
from tidegate.train.families import predict
from tidegate.train.model_file import FeatureSchema, write_manifest
from tidegate.train.step import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    features = synthetic.write(synthetic.rows(45), folder / "f.parquet")
    for name, seed in (("champion", 7), ("candidate", 8)):
        settings = synthetic.settings(seed=seed)
        train(features, synthetic.NAME, synthetic.until(45), settings, None, folder / name)
    return folder


def facts(trained):
    return synthetic.parent_of(json.loads((trained / "champion" / "training.json").read_text()))


def run(trained, out, settings, name="candidate"):
    args = (trained / "f.parquet", synthetic.NAME, synthetic.until(45), settings, trained / "champion", out)
    found = evaluate(trained / name, *args)
    return found, json.loads(out.read_text())


def test_an_equal_model_of_another_seed_passes_and_replays(trained, tmp_path):
    settings = synthetic.settings(parent=facts(trained), margin=0.02)
    found, record = run(trained, tmp_path / "gate.json", settings)
    assert (found.verdict, record["reason"]) == ("passed", "not_worse")
    again = gate(Policy(**record["policy"]), record["measurements"])
    assert (again.verdict, again.reason) == (record["verdict"], record["reason"])
    assert {"log_loss", "reference", "origin=EWR", "origin=JFK", "origin=LGA"} == set(record["checks"])


def test_the_difference_is_that_of_the_trained_models_on_the_gate_window(trained, tmp_path):
    _, record = run(trained, tmp_path / "gate.json", synthetic.settings(parent=facts(trained), margin=0.02))
    frame = synthetic.rows(45)
    time = (frame["event_timestamp"].dt.timestamp("us") / 1e6).to_numpy()
    end = synthetic.START.timestamp() + 44 * 86_400
    gate_rows = frame.filter((time > end - 7 * 86_400) & (time <= end))
    labels = gate_rows["label"].cast(float).to_numpy()

    def losses(name):
        encoded = FeatureSchema.load(trained / name).encode_frame(gate_rows)
        return log_loss(labels, predict((trained / name / "model.txt").read_text(), encoded))

    assert record["measurements"]["rows"] == len(labels)
    wanted = (losses("candidate") - losses("champion")).mean()
    assert record["checks"]["log_loss"]["estimate"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("metric", ["brier", "roc_auc"])
def test_other_metrics_are_turned_so_that_higher_is_worse(trained, tmp_path, metric):
    settings = synthetic.settings(parent=facts(trained), margin=0.05, metric=metric)
    found, record = run(trained, tmp_path / "gate.json", settings)
    assert found.verdict == "passed"
    values = {who: record["measurements"][who][metric] for who in ("candidate", "champion")}
    sign = -1 if metric == "roc_auc" else 1
    difference = sign * (values["candidate"] - values["champion"])
    assert record["checks"][metric]["estimate"] == pytest.approx(difference, abs=2e-3)


def test_a_worse_model_is_refused(trained, tmp_path):
    turned = synthetic.write(synthetic.rows(45, turn=0), tmp_path / "turned.parquet")
    train(turned, synthetic.NAME, synthetic.until(45), synthetic.settings(), None, trained / "turned")
    found, record = run(trained, tmp_path / "gate.json", synthetic.settings(parent=facts(trained)), "turned")
    assert (found.verdict, found.reason) == ("refused", "gate_metric")
    assert record["checks"]["log_loss"]["lower"] > 0.1


def test_a_model_that_answers_its_reference_rows_otherwise_is_refused(trained, tmp_path):
    made = shutil.copytree(trained / "candidate", trained / "shifted")
    reference = json.loads((made / "reference.json").read_text())
    reference["scores"][3] += 1e-3
    (made / "reference.json").write_text(json.dumps(reference))
    training = json.loads((made / "training.json").read_text())
    (made / "training.json").write_text(json.dumps({**training, "digest": write_manifest(made)}))
    found, _ = run(trained, tmp_path / "gate.json", synthetic.settings(parent=facts(trained)), "shifted")
    assert found.reason == "reference_rows"


def test_a_flipped_byte_is_refused_by_its_file(trained, tmp_path):
    made = shutil.copytree(trained / "candidate", tmp_path / "flipped")
    content = bytearray((made / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (made / "model.onnx").write_bytes(content)
    args = (trained / "f.parquet", synthetic.NAME, synthetic.until(45), synthetic.settings(), None, tmp_path / "g")
    with pytest.raises(PlatformError, match=r"model\.onnx"):
        evaluate(made, *args)


def test_an_unknown_slice_is_named(trained, tmp_path):
    with pytest.raises(UserError, match=r"gate\.slices: got 'planet'"):
        run(trained, tmp_path / "gate.json", synthetic.settings(parent=facts(trained), slices=("planet",)))


def test_rows_without_a_label_are_left_out(trained, tmp_path):
    frame = synthetic.rows(45)
    label = pl.when(pl.col("origin") == "EWR").then(None).otherwise(pl.col("label"))
    features = synthetic.write(frame.with_columns(label=label), tmp_path / "f.parquet")
    args = (features, synthetic.NAME, synthetic.until(45), synthetic.settings(), None, tmp_path / "g")
    evaluate(trained / "candidate", *args)
    measurements = json.loads((tmp_path / "g").read_text())["measurements"]
    assert 0 < measurements["rows"] < 7 * 150 * 0.75
    assert "EWR" not in measurements["slices"]["origin"]
