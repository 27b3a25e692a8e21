"""The evaluate step: measurements of the files as they would be served."""

import json
import shutil
from dataclasses import replace

import polars as pl
import pytest
import synthetic

from tidegate.errors import PlatformError, UserError
from tidegate.evaluate.gate import Policy, again, gate
from tidegate.evaluate.metrics import log_loss
from tidegate.evaluate.step import evaluate
from tidegate.spec import FairnessSpec, ForgettingSpec, Objective
from tidegate.train.boosting import log_odds, probability
from tidegate.train.model_file import FeatureSchema, write_manifest
from tidegate.train.step import train

MARGINS = {
    **{"log_loss": 0.05, "brier": 0.05, "roc_auc": 0.05, "calibration": 0.1},
    **{"latency": 100, "size": 1e6, "training_cost": 1},
}


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
    served = {"service reference rows", "service window rows"}
    assert {"log_loss", "reference", *served, "origin=EWR", "origin=JFK", "origin=LGA"} == set(record["checks"])
    assert [record["measurements"]["infrastructure"][name]["rows"] for name in ("reference", "window")] == [32, 512]
    assert max(record["checks"][name]["estimate"] for name in served) < 1e-6
    assert found.service_seconds > 0
    assert set(record["curves"]["roc"]) == {"candidate", "champion"}
    assert record["curves"]["contributions"][0][0] == "x0"


def test_the_difference_is_that_of_the_trained_models_on_the_gate_window(trained, tmp_path):
    _, record = run(trained, tmp_path / "gate.json", synthetic.settings(parent=facts(trained), margin=0.02))
    frame = synthetic.rows(45)
    time = (frame["event_timestamp"].dt.timestamp("us") / 1e6).to_numpy()
    end = synthetic.START.timestamp() + 44 * 86_400
    gate_rows = frame.filter((time > end - 7 * 86_400) & (time <= end))
    labels = gate_rows["label"].cast(float).to_numpy()

    def losses(name):
        encoded = FeatureSchema.load(trained / name).encode_frame(gate_rows)
        return log_loss(labels, probability(log_odds((trained / name / "model.txt").read_text(), encoded)))

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
    found, record = run(trained, tmp_path / "gate.json", synthetic.settings(parent=facts(trained)), "shifted")
    assert found.reason == "reference_rows"
    assert {"reference", "service reference rows", "service window rows"} <= set(record["failed"])
    assert record["measurements"]["infrastructure"]["error"] == "the service ended or did not answer"


def test_the_same_inputs_give_the_same_bytes(trained, tmp_path):
    settings = synthetic.settings(parent=facts(trained), margin=0.02)
    made = [tmp_path / f"{number}.json" for number in range(2)]
    for out in made:
        run(trained, out, settings)
    assert made[0].read_bytes() == made[1].read_bytes()


def test_a_flipped_byte_is_refused_by_its_file(trained, tmp_path):
    made = shutil.copytree(trained / "candidate", tmp_path / "flipped")
    content = bytearray((made / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (made / "model.onnx").write_bytes(content)
    args = (trained / "f.parquet", synthetic.NAME, synthetic.until(45), synthetic.settings(), None, tmp_path / "g")
    with pytest.raises(PlatformError, match=r"model\.onnx"):
        evaluate(made, *args)


def test_fairness_forgetting_and_objectives_are_measured_and_replay(trained, tmp_path):
    objectives = [Objective(metric=name, margin=margin) for name, margin in MARGINS.items()]
    spec = {
        "fairness": FairnessSpec(protected="origin", max_gap=0.5),
        "forgetting": ForgettingSpec(max_loss=0.05),
        "objectives": (*objectives, Objective(metric="decision_cost", margin=1, false_positive=1, false_negative=3)),
    }
    parent = facts(trained).model_copy(update={"train_cpu_seconds": 2.0})
    made = shutil.copytree(trained / "candidate", trained / "costed")
    (made / "cost.json").write_text('{"cpu_seconds": 2.5}')
    found, record = run(
        trained, tmp_path / "gate.json", synthetic.settings(parent=parent, margin=0.05, **spec), "costed"
    )
    assert (found.verdict, record["failed"]) == ("passed", [])
    wanted = {*(f"objective {name}" for name in (*MARGINS, "decision_cost")), "past month=2024-01"}
    assert wanted <= set(record["checks"])
    assert record["checks"]["objective training_cost"]["estimate"] == 0.5
    sizes = [(trained / name / "model.onnx").stat().st_size for name in ("costed", "champion")]
    assert record["checks"]["objective size"]["estimate"] == sizes[0] - sizes[1]
    assert record["measurements"]["objectives"]["latency"]["candidate_ms"] > 0
    answer = json.loads(json.dumps(again(record)))
    assert answer == {name: record[name] for name in answer}


def test_a_model_over_its_training_cost_is_refused(trained, tmp_path):
    parent = facts(trained).model_copy(update={"train_cpu_seconds": 2.0})
    made = shutil.copytree(trained / "candidate", trained / "dear")
    (made / "cost.json").write_text('{"cpu_seconds": 2.5}')
    objectives = (Objective(metric="training_cost", margin=0.4),)
    settings = synthetic.settings(parent=parent, margin=0.05, objectives=objectives)
    found, record = run(trained, tmp_path / "gate.json", settings, "dear")
    assert (found.reason, record["failed"]) == ("gate_objective", ["objective training_cost"])


def test_a_model_over_its_size_is_refused(trained, tmp_path, monkeypatch):
    """The candidate has twice the trees of the champion."""
    hints = {"lightgbm": {**synthetic.drawn.params["lightgbm"], "num_boost_round": 60}}
    monkeypatch.setattr(synthetic, "large", replace(synthetic.drawn, params=hints), raising=False)
    features, until = trained / "f.parquet", synthetic.until(45)
    train(features, "synthetic:large", until, synthetic.settings(), None, trained / "large")
    objectives = (Objective(metric="size", margin=5000),)
    settings = synthetic.settings(parent=facts(trained), margin=0.05, objectives=objectives)
    found, record = run(trained, tmp_path / "gate.json", settings, "large")
    assert (found.reason, record["failed"]) == ("gate_objective", ["objective size"])


def test_a_model_over_its_latency_is_refused(trained, tmp_path):
    """Trees against a champion that is one sum; what they take more is measured, not made up."""
    features, until = trained / "f.parquet", synthetic.until(45)
    linear = synthetic.settings({"families": ("logistic_regression",)})
    train(features, synthetic.NAME, until, linear, None, tmp_path / "champion")
    parent = synthetic.parent_of(json.loads((tmp_path / "champion" / "training.json").read_text()))
    objectives = (Objective(metric="latency", margin=0.001),)
    settings = synthetic.settings(parent=parent, margin=5, slices=(), objectives=objectives)
    evaluate(
        trained / "candidate", features, synthetic.NAME, until, settings, tmp_path / "champion", tmp_path / "gate.json"
    )
    record = json.loads((tmp_path / "gate.json").read_text())
    assert (record["reason"], record["failed"]) == ("gate_objective", ["objective latency"])


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


@pytest.mark.parametrize(("family", "by"), [("hist_gradient_boosting", "dealt"), ("logistic_regression", "terms")])
def test_the_features_of_every_family_are_told_apart(trained, tmp_path, family, by):
    """x0 has by far the largest effect; of a family that keeps no trees it is found by asking its ONNX file."""
    arguments = (trained / "f.parquet", synthetic.NAME, synthetic.until(45))
    train(*arguments, synthetic.settings({"families": (family,)}), None, tmp_path / "model")
    evaluate(tmp_path / "model", *arguments, synthetic.settings(), None, tmp_path / "gate.json")
    curves = json.loads((tmp_path / "gate.json").read_text())["curves"]
    sizes = [size for _, size in curves["contributions"]]
    assert (curves["contributions"][0][0], curves["contributions_by"]) == ("x0", by)
    assert sizes[0] > 2 * sizes[1] > 0
    assert len(sizes) == 8
