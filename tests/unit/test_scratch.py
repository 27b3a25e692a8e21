"""Runs whose rows are not retained: one folder for them, gone at the end, and no text that could quote one."""

from __future__ import annotations

import json
import struct

import pytest

from tests.simulated_loop import quick
from tidegate import runs, scratch, up
from tidegate.errors import PlatformError, UserError
from tidegate.features.logged import check_parity
from tidegate.observations import Prediction, SegmentReader
from tidegate.serve.by_key import Found
from tidegate.serve.prediction_log import Heard, PredictionLog
from tidegate.serve.rows import Rows

FORGETFUL = {"retain": False, "replay": 0.0}


def test_rows_are_retained_unless_the_settings_say_otherwise():
    for settings in ({}, {"training": {}}, {"training": {"retain": True}}):
        assert scratch.retains({"settings": json.dumps(settings)})
    assert scratch.retains({})
    assert not scratch.retains({"settings": json.dumps({"training": {"retain": False}})})


def test_a_scratch_folder_is_there_until_it_is_wiped_and_then_no_step_goes_on(tmp_path):
    run = tmp_path / "runs" / "r1"
    run.mkdir(parents=True)
    assert scratch.scratch_of(tmp_path, "r1") is None
    assert scratch.scratch_of(tmp_path, "") is None
    scratch.begin(run)
    assert scratch.scratch_of(tmp_path, "r1") == run / "scratch"
    (run / "scratch" / "root" / "rows").write_text("row")
    for _ in range(2):
        scratch.wipe(run)
    assert [path.name for path in run.iterdir()] == ["not-retained"]
    with pytest.raises(PlatformError, match="its scratch folder is gone"):
        scratch.scratch_of(tmp_path, "r1")


def test_results_and_reports_keep_counts_and_no_examples():
    result = {"rows": 3, "verdict": "passed", "reason": "tailnum 'N1'", "features": ["a"], "ok": True}
    assert scratch.without_rows(result) == {"rows": 3, "verdict": "passed", "ok": True}
    violation = {"table": "t", "check": "range", "column": "x", "rows": 2, "examples": ["N1"]}
    report = {
        "ok": False,
        "rows": 9,
        "violations": [violation],
        "reasons": ["N1"],
        "guards": {"t": "N1", "u": "not assessed: no last good version"},
    }
    kept = scratch.report_without_rows(report)
    assert kept == {
        "ok": False, "rows": 9, "violations": [{"table": "t", "check": "range", "column": "x", "rows": 2}],
        "guards": {"u": "not assessed: no last good version"},
    }  # fmt: skip


@pytest.mark.parametrize("retain", [True, False])
def test_the_prediction_log_keeps_features_and_keys_only_where_rows_are_retained(tmp_path, retain):
    log = PredictionLog(tmp_path, "w", "v1", "sha256:a", retain)
    found = Found([["N1", 2.5]], [{"tailnum": "N1"}], [7.0], [None])
    log.record(Heard("q1"), 5.0, Rows(2, struct.pack("<2d", 0, 2.5), {0: ["N1"]}), [0.25], 1.0, found)
    log.close()
    (told,) = [one for one in SegmentReader(tmp_path).read() if isinstance(one, Prediction)]
    assert (told.request_id, told.score, told.version) == ("q1/0", 0.25, "v1")
    assert (told.features, told.keys) == ((["N1", 2.5], {"tailnum": "N1"}) if retain else ([], None))
    assert any(b"N1" in path.read_bytes() for path in tmp_path.iterdir()) == retain


def test_a_replay_buffer_of_rows_that_are_not_kept_is_refused():
    runs.check_retention(quick(training=FORGETFUL))
    with pytest.raises(UserError, match=r"spec\.training\.replay: got 0\.2, takes 0 where training\.retain is false"):
        runs.check_retention(quick(training={"retain": False}))


def test_nothing_of_a_stream_is_kept_and_services_log_no_features(tmp_path):
    model = quick(training=FORGETFUL)
    assert up._service_arguments(model, tmp_path) == ("--no-features",)
    assert up._streams(model, tmp_path, "events", None) is None
    with pytest.raises(UserError, match="retain is false"):
        up._streams(model, tmp_path, "events", "nats://x")


def test_parity_says_that_features_are_not_retained(tmp_path):
    with pytest.raises(UserError, match="features of predictions are not retained"):
        check_parity(quick(training=FORGETFUL), tmp_path, 10)
