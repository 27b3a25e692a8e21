"""The train step on drawn rows: mode and reason, determinism, leaks."""

import json
from datetime import timedelta

import polars as pl
import pytest
import synthetic

from tidegate.errors import PlatformError, UserError
from tidegate.evaluate.step import evaluate
from tidegate.train.model_file import digest_of
from tidegate.train.step import train


def run(folder, frame, day, settings, champion=None, name="model"):
    path = synthetic.write(frame, folder / f"{name}.parquet")
    trained = train(path, synthetic.NAME, synthetic.until(day), settings, champion, folder / name)
    return trained, json.loads((folder / name / "training.json").read_text())


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """v1, trained on 40 days; gone on from in the tests below."""
    folder = tmp_path_factory.mktemp("v1")
    _, training = run(folder, synthetic.rows(40), 40, synthetic.settings())
    return folder / "model", training


def test_the_first_version_is_trained_from_scratch_and_passes_the_gate(parent, tmp_path):
    model, training = parent
    assert (training["mode"], training["parent"]) == ("stateless", None)
    assert "no parent" in training["reason"]
    features = synthetic.write(synthetic.rows(40), tmp_path / "f.parquet")
    found = evaluate(
        model, features, synthetic.NAME, synthetic.until(40), synthetic.settings(), None, tmp_path / "gate.json"
    )
    assert (found.verdict, found.reason) == ("passed", "first_version")


def test_same_inputs_give_the_same_bytes(parent, tmp_path):
    again, _ = run(tmp_path, synthetic.rows(40), 40, synthetic.settings())
    assert again.digest == parent[1]["digest"] == digest_of(tmp_path / "model")


def test_another_seed_gives_another_digest(parent, tmp_path):
    assert run(tmp_path, synthetic.rows(40), 40, synthetic.settings(seed=8))[0].digest != parent[1]["digest"]


def test_training_on_that_does_not_pay_starts_a_new_major_and_says_so(parent, tmp_path):
    frame = synthetic.rows(70)
    settings = synthetic.settings(parent=synthetic.parent_of(parent[1]))
    _, training = run(tmp_path, frame, 70, settings, parent[0])
    assert training["mode"] == "stateless"
    assert training["reason"].startswith("no stateful setting beat the parent: best ")
    assert len(training["search"]["trials"]) == 4


def test_training_on_that_pays_is_a_minor(parent, tmp_path):
    frame = synthetic.rows(70, turn=34)
    settings = synthetic.settings(parent=synthetic.parent_of(parent[1]))
    trained, training = run(tmp_path, frame, 70, settings, parent[0])
    assert (trained.mode, trained.parent) == ("stateful", "v1")
    assert training["reason"].startswith("beats the parent")
    assert training["train_rows"] < training["rows"]
    found = evaluate(
        tmp_path / "model",
        tmp_path / "model.parquet",
        synthetic.NAME,
        synthetic.until(70),
        settings,
        parent[0],
        tmp_path / "g",
    )
    assert (found.verdict, found.reason) == ("passed", "not_worse")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"healthy": False}, "aborted or quarantined"),
        ({"feature_schema_digest": "sha256:x"}, "feature schema changed"),
        ({"architecture_digest": "sha256:x"}, "architecture changed"),
        ({"version": "v1.10"}, "10 generations"),
        ({"train_until": 2e9}, "0 rows are newer"),
    ],
)
def test_a_forbidden_minor_is_stateless_with_the_reason(parent, tmp_path, change, reason):
    facts = synthetic.parent_of(parent[1]).model_copy(update=change)
    settings = synthetic.settings({"mode": "stateful"}, facts)
    trained, _ = run(tmp_path, synthetic.rows(60), 60, settings, parent[0])
    assert trained.mode == "stateless"
    assert reason in trained.reason


def test_stateless_and_stateful_can_be_asked_for(parent, tmp_path):
    facts = synthetic.parent_of(parent[1])
    frame = synthetic.rows(70)
    asked, _ = run(tmp_path, frame, 70, synthetic.settings({"mode": "stateless"}, facts), parent[0], "a")
    assert asked.reason == "stateless was asked for"
    assert run(tmp_path, frame, 70, synthetic.settings({"mode": "stateful"}, facts), parent[0], "b")[0].parent == "v1"


def test_a_row_whose_label_came_too_late_is_left_out_and_counted(tmp_path):
    """Its model is the one of the same rows without it."""
    late = pl.when(pl.col("key").is_in(["17", "4000"])).then(timedelta(days=60)).otherwise(timedelta())
    frame = synthetic.rows(40)
    trained, training = run(tmp_path, frame.with_columns(pl.col("label_timestamp") + late), 40, synthetic.settings())
    without, _ = run(tmp_path, frame.filter(~pl.col("key").is_in(["17", "4000"])), 40, synthetic.settings(), name="b")
    assert (training["late_labels"], trained.train_rows) == (2, without.train_rows)
    assert (tmp_path / "model/model.txt").read_bytes() == (tmp_path / "b/model.txt").read_bytes()


def test_a_feature_younger_than_its_row_stops_the_run_with_row_and_column(tmp_path):
    young = pl.when(pl.col("key") == "17").then(timedelta(seconds=1)).otherwise(timedelta())
    frame = synthetic.rows(40).with_columns(x0_timestamp=pl.col("event_timestamp") + young)
    with pytest.raises(UserError, match="training row 17: x0_timestamp"):
        run(tmp_path, frame, 40, synthetic.settings())


def test_a_changed_parent_file_is_refused(parent, tmp_path):
    facts = synthetic.parent_of(parent[1]).model_copy(update={"digest": "sha256:" + "0" * 64})
    with pytest.raises(PlatformError, match="not the file that was registered"):
        run(tmp_path, synthetic.rows(40), 40, synthetic.settings(parent=facts), parent[0])


def test_too_few_rows_and_bad_settings_are_one_line(tmp_path):
    with pytest.raises(UserError, match="at least 1000 labelled rows"):
        run(tmp_path, synthetic.rows(40, per_day=10), 40, synthetic.settings())
    with pytest.raises(UserError, match=r"settings: training\.mode"):
        run(tmp_path, synthetic.rows(40), 40, '{"training": {"mode": "sometimes"}}')
    with pytest.raises(UserError, match=r"training\.families"):
        run(tmp_path, synthetic.rows(40), 40, synthetic.settings({"families": ["forest"]}))
