"""The real service, started by the gate and asked over HTTP."""

import os
import signal

import numpy as np
import psutil
import pytest
import synthetic

from tidegate.evaluate.infrastructure import reference, sampled, served
from tidegate.train.export import score
from tidegate.train.model_file import TOLERANCE, FeatureSchema, digest_of
from tidegate.train.step import train


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    features = synthetic.write(synthetic.rows(45), folder / "f.parquet")
    train(features, synthetic.NAME, synthetic.until(45), synthetic.settings(), None, folder / "model")
    return folder / "model"


def window(model, rows):
    """`rows` as a client sends them, with the scores of the file."""
    schema = FeatureSchema.load(model)
    return sampled(rows, schema, score((model / "model.onnx").read_bytes(), schema.encode_frame(rows)))


def children():
    """The services among this process's children: another test may have left helpers, or a zombie."""
    alive = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in alive if "tidegate.serve.service" in one.cmdline()]


def test_it_answers_as_the_file_was_scored_and_a_shifted_score_is_seen(model):
    questions = window(model, synthetic.rows(10, seed=3))
    shifted = questions[0], [*questions[1][:-1], questions[1][-1] + 1e-3]
    with served(model, digest_of(model), True) as service:
        (process,) = children()
        assert os.getsid(process.pid) == os.getsid(0)  # so that a run that is killed takes it along
        found = service.answers({"reference": reference(model), "window": questions})
        moved = service.answers({"window": shifted})
    assert (found["reference"]["rows"], found["window"]["rows"], found["error"]) == (32, 512, "")
    assert max(found[name]["distance"] for name in ("reference", "window")) < TOLERANCE
    assert moved["window"]["distance"] == pytest.approx(1e-3, abs=TOLERANCE)
    assert not children()


def test_a_row_that_it_refuses_is_told(model):
    with served(model, digest_of(model), True) as service:
        found = service.answers({"reference": reference(model), "window": ([{"planet": "Mars"}], [0.5])})
    assert found["error"] == "the service answered with status 400"
    assert (found["reference"]["distance"] is None, found["window"]["distance"]) == (False, None)


def test_one_that_dies_is_told_at_once(model):
    with served(model, digest_of(model), True) as service:
        os.kill(children()[0].pid, signal.SIGKILL)
        found = service.answers({"reference": reference(model)})
    assert found == {"reference": {"rows": 32, "distance": None}, "error": "the service ended or did not answer"}


def test_one_for_other_files_does_not_answer(model):
    with served(model, "sha256:" + "0" * 64, True) as service:
        assert service.answers({"reference": reference(model)})["error"] == "the service ended or did not answer"


def test_no_rows_are_no_questions(model):
    rows, scores = sampled(synthetic.rows(1).head(0), FeatureSchema.load(model), np.empty(0))
    assert (rows, scores) == ([], [])
