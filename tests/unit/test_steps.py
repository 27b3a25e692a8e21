"""Running a step: cache, refusal handed on, its record, and what a DVC stage says of itself."""

import json
import subprocess
import sys

import pytest
import yaml

from tidegate import scratch, steps
from tidegate.errors import PlatformError, UserError
from tidegate.steps import FILES, STEPS, read_records, run_stage, run_step


class Calls(list):
    """Names of steps; `states`: the folder that each was given."""

    def __init__(self):
        super().__init__()
        self.states = []


@pytest.fixture
def calls(monkeypatch):
    """Every step's function replaced by one that writes its parameters; the list of the steps that were computed."""
    found = Calls()

    def fake(name):
        def call(parameters, ins, outs, state):
            found.append(name)
            found.states.append(state)
            for path in outs.values():
                path.write_text(json.dumps(parameters))
            return {}

        return call

    monkeypatch.setattr(steps, "_CALLS", {name: fake(name) for name in STEPS})
    return found


def version(tmp_path, run="", verdict="passed", text="rows"):
    (tmp_path / "valid").write_text(text)
    ins, outs = {"valid": str(tmp_path / "valid")}, {"data_version": str(tmp_path / "out")}
    return run_step("version", {}, ins, outs, str(tmp_path / "state"), run, verdict)


def test_equal_contents_are_computed_once(tmp_path, calls):
    assert version(tmp_path, "r1") == version(tmp_path, "r2") == "passed"
    assert calls == ["version"]
    version(tmp_path, text="other rows")
    assert calls == ["version"] * 2
    cached = [read_records(tmp_path / "state", run)[0].cached for run in ("r1", "r2")]
    assert cached == [False, True]


def test_a_record_tells_time_memory_and_verdict(tmp_path, calls):
    version(tmp_path, "r1")
    (record,) = read_records(tmp_path / "state", "r1")
    assert (record.step, record.verdict) == ("version", "passed")
    assert record.seconds > 0
    assert record.peak_mib > 5


def test_a_record_tells_the_bytes_of_its_artifacts_and_the_seconds_of_its_children(tmp_path, calls, monkeypatch):
    def computing(parameters, ins, outs, state):
        subprocess.run([sys.executable, "-c", "sum(i * i for i in range(3_000_000))"], check=True)
        (outs["data_version"]).mkdir()
        (outs["data_version"] / "a").write_bytes(bytes(300))
        return {}

    monkeypatch.setitem(steps._CALLS, "version", computing)
    version(tmp_path, "r1", text="x" * 1234)
    (record,) = read_records(tmp_path / "state", "r1")
    assert (record.bytes_in, record.bytes_out) == (1234, 300)
    assert record.cpu_seconds > 0.03
    version(tmp_path, "r2", text="x" * 1234)
    (cached,) = read_records(tmp_path / "state", "r2")
    assert (cached.cached, cached.bytes_in, cached.bytes_out) == (True, 1234, 300)


def test_a_record_of_an_older_release_counts_no_bytes(tmp_path):
    told = {"step": "train", "seconds": 1.0, "cpu_seconds": 1.0, "peak_mib": 9.0, "cached": False, "verdict": "passed"}
    path = tmp_path / "runs" / "r" / "steps" / "train.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**told, "result": {}}))
    assert read_records(tmp_path, "r")[0].bytes_in == 0


def test_a_run_whose_rows_are_not_retained_uses_no_cache_and_keeps_rows_in_its_scratch_folder(tmp_path, calls):
    run = tmp_path / "state" / "runs" / "r1"
    run.mkdir(parents=True)
    scratch.begin(run)
    version(tmp_path, "r1")
    version(tmp_path, "r1")
    assert calls == ["version"] * 2
    assert not (tmp_path / "state" / "cache").exists()
    assert calls.states == [run / "scratch" / "state"] * 2
    scratch.wipe(run)
    with pytest.raises(PlatformError, match="scratch folder is gone"):
        version(tmp_path, "r1")


def test_after_a_refusal_steps_only_record_it(tmp_path, calls):
    assert version(tmp_path, "r1", verdict="refused") == "refused"
    assert calls == []
    assert json.loads((tmp_path / "out").read_text())["verdict"] == "refused"


def test_a_refusal_is_read_from_the_artifacts_too(tmp_path, calls):
    assert version(tmp_path, text=json.dumps({"verdict": "refused", "step": "validate"})) == "refused"
    (tmp_path / "valid").unlink()
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "report.json").write_text(json.dumps({"ok": False}))
    ins, outs = {"valid": str(tmp_path / "valid")}, {"data_version": str(tmp_path / "out")}
    assert run_step("version", {}, ins, outs, str(tmp_path / "state")) == "refused"
    assert calls == []


def test_register_is_called_after_a_refusal_and_never_cached(tmp_path, calls):
    for name in STEPS["register"].inputs:
        (tmp_path / name).write_text('{"verdict": "refused"}')
    ins = {name: str(tmp_path / name) for name in STEPS["register"].inputs}
    for _ in range(2):
        answer = run_step("register", {}, ins, {"candidate": str(tmp_path / "c")}, str(tmp_path), "", "refused")
        assert answer == "refused"
    assert calls == ["register"] * 2


def test_a_stage_takes_its_parameters_from_the_file(tmp_path, calls):
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"workload": "no.such:w", "until": "2024-01-01", "state": str(tmp_path)})
    )
    assert run_stage("ingest", tmp_path / "params.yaml", tmp_path / "data").verdict == "passed"
    written = json.loads((tmp_path / "data" / FILES["arrivals"]).read_text())
    assert written == {"workload": "no.such:w", "until": "2024-01-01"}
    with pytest.raises(UserError, match=r"params\.yaml: champion: got None|params\.yaml: settings: got None"):
        run_stage("train", tmp_path / "params.yaml", tmp_path / "data")
    (tmp_path / "params.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="a mapping of parameters"):
        run_stage("ingest", tmp_path / "params.yaml", tmp_path / "data")


def test_every_artifact_comes_from_one_step_before_it_is_taken():
    given = set()
    for step in STEPS.values():
        assert set(step.inputs) <= given
        assert not set(step.outputs) & given
        given |= set(step.outputs)
    assert given == set(FILES)
