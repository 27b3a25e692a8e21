"""The golden package on Kubeflow, by kfp's own command and by ours; the server is a stub that runs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp_server_stub import KfpServerStub, kfp_server_stub

from tidegate import runs
from tidegate.errors import PlatformError, UserError
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.store import open_journal
from tidegate.orchestrators.choose import orchestrator_of
from tidegate.orchestrators.kubeflow import KubeflowOrchestrator
from tidegate.orchestrators.pods import Pods
from tidegate.register.decide import Facts, decide
from tidegate.spec import Model, load_model

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "pipelines" / "continuous_training.yaml"
GOLDEN = PACKAGE.read_text()
IMAGE = "registry.example/components@sha256:" + "0" * 64
COMPILED = "ghcr.io/tidegate/components-python:0.1.0"
UNTIL = "2013-03-01"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServerStub]:
    with kfp_server_stub() as stub:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", stub.url)
        monkeypatch.chdir(ROOT)
        yield stub


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The committed Model file with an image by digest in it, as deploy sets it."""
    document = yaml.safe_load((ROOT / "k8s/models/flight-delay.yaml").read_text())
    document["spec"]["pipeline"] = {"image": IMAGE, "orchestrator": "kubeflow"}
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def model(file: Path) -> Model:
    return load_model(file)


def begun(server: KfpServerStub) -> Any:
    """The one run that was created, once it is."""
    deadline = time.monotonic() + 60
    while not server.bodies:
        assert time.monotonic() < deadline, "no run was submitted"
        time.sleep(0.01)
    (run,) = server.runs.values()
    return run


def refuse(server: KfpServerStub, model: Model, state: Path) -> None:
    """Do what the pods of a run do that the data gate refuses: its last step writes so, and the run succeeds."""
    run, journal = begun(server).display_name, open_journal(state)
    facts = Facts(run, "manual", time.time(), "", {"ok": False, "rows": 9, "violations": []}, {}, {}, {})
    events = journal.read(model.name)
    journal.append(model.name, [decide(events, facts).draft], events[-1].seq)
    server.finish(run, "SUCCEEDED", steps=("ingest", "validate", "register"))


def test_kfps_own_command_submits_the_golden_package(server: KfpServerStub) -> None:
    given = ("workload=flights.workload:flight_delay", "model=flight-delay", f"until={UNTIL}", "state=/state",
             "run=by-hand-1", 'settings="{}"')  # fmt: skip
    kfp = str(Path(sys.executable).with_name("kfp"))
    command = (kfp, "run", "create", "-e", "flight-delay", "-f", str(PACKAGE), *given)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (body,) = server.bodies.values()
    assert body["pipeline_spec"] == yaml.safe_load(GOLDEN)
    sent = dict(pair.split("=", 1) for pair in given) | {"settings": "{}"}  # kfp reads a value as JSON where it is
    assert body["runtime_config"]["parameters"] == sent
    (experiment,) = server.experiments.values()
    assert (experiment.display_name, body["experiment_id"]) == ("flight-delay", experiment.experiment_id)


def test_tidegate_run_submits_it_with_nothing_changed_but_the_image(
    server: KfpServerStub, file: Path, model: Model, tmp_path: Path
) -> None:
    command = (sys.executable, "-m", "tidegate.cli", "run", str(file), "--state", str(tmp_path / "state"), "--until",
               UNTIL, "--orchestrator", "kubeflow", "--json")  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})
    refuse(server, model, tmp_path / "state")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    found = yaml.safe_load(output)
    assert (found["run"], found["verdict"], found["version"]) == ("flight-delay-1", "refused", "")
    assert [step["step"] for step in found["steps"]] == ["ingest", "validate", "register"]
    (uploaded,) = server.uploads.values()
    first, _, second = uploaded.decode().partition("---\n")
    assert first == GOLDEN.replace(COMPILED, IMAGE)
    assert list(yaml.safe_load(second)) == ["platforms"]
    (body,) = server.bodies.values()
    assert "pipeline_spec" not in body
    assert body["runtime_config"]["parameters"]["state"] == "/state"
    (version,) = server.versions.values()
    assert body["pipeline_version_reference"] == {
        "pipeline_id": version.pipeline_id, "pipeline_version_id": version.pipeline_version_id,
    }  # fmt: skip


def test_a_model_as_the_cluster_has_it_is_read_from_stdin_and_a_change_of_the_code_is_its_cause(
    server: KfpServerStub, file: Path, model: Model, tmp_path: Path
) -> None:
    document = {**yaml.safe_load(file.read_text()), "status": {"runs": []}}
    document["metadata"] |= {"uid": "1", "managedFields": []}
    state = tmp_path / "state"
    command = (sys.executable, "-m", "tidegate.cli", "run", "-", "--state", str(state), "--until", UNTIL, "--json")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen((*command, "--cause", "code"), text=True, **pipes) as process:
        process.stdin.write(json.dumps(document))
        process.stdin.close()
        refuse(server, model, state)
        assert process.wait(60) == 1
    (started,) = (event for event in open_journal(state).read(model.name) if event.kind == "trigger.started")
    assert started.data["causes"] == ["code"]
    with pytest.raises(UserError, match=r"--cause: got 'drift', takes manual or code"):
        runs.run_once(model, state, UNTIL, "auto", quiet=True, cause="drift")


def test_a_failed_run_comes_back_with_its_steps_error(server: KfpServerStub, model: Model, tmp_path: Path) -> None:
    ending = threading.Thread(
        target=lambda: server.finish(begun(server).display_name, "FAILED", "OOMKilled", ("ingest", "train"))
    )
    ending.start()
    with pytest.raises(UserError, match="run flight-delay-1: got 'train: OOMKilled'"):
        runs.run_once(model, tmp_path / "state", UNTIL, "auto", quiet=True)
    ending.join()
    state = fold(open_journal(tmp_path / "state").read(model.name), ModelState(model=model.name))
    assert not state.running


def test_the_same_content_is_one_version_and_another_image_is_another(server: KfpServerStub, tmp_path: Path) -> None:
    arguments = {"workload": "w:w", "model": "m", "until": UNTIL, "settings": "{}"}
    for key, image in (("r1", IMAGE), ("r2", IMAGE), ("r3", IMAGE.replace("0", "1"))):
        KubeflowOrchestrator(tmp_path, image, Pods()).submit(PACKAGE, arguments, key)
    assert len(server.pipelines) == 1
    used = [run.pipeline_version_reference.pipeline_version_id for run in server.runs.values()]
    assert used[0] == used[1] != used[2]
    assert len(server.versions) == 2


def test_a_recurring_run_has_the_models_schedule_and_is_replaced(
    server: KfpServerStub, model: Model, tmp_path: Path
) -> None:
    first = runs.schedule(model, tmp_path / "state", "kubeflow")
    second = runs.schedule(model, tmp_path / "state", "kubeflow")
    assert list(server.recurring) == [second] != [first]
    made = server.recurring[second]
    assert (made.display_name, made.trigger.cron_schedule.cron) == (model.name, "0 0 4 1 * *")
    assert made.runtime_config.parameters["until"] == "[[ScheduledTime.2006-01-02T15:04:05Z]]"
    assert made.runtime_config.parameters["cause"] == "schedule"
    assert (made.no_catchup, made.max_concurrency) == (True, "1")


@pytest.mark.parametrize(("name", "named"), [("local", "--recurring"), ("carrier", "orchestrator: got 'carrier'")])
def test_what_has_no_recurring_runs_says_so(server: KfpServerStub, model: Model, name: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        runs.schedule(model, Path("state"), name)


def test_a_server_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, model: Model, tmp_path: Path) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PlatformError, match="Kubeflow does not answer"):
        orchestrator_of(model, tmp_path)
