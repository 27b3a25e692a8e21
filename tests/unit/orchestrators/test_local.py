"""Local runs outlive whoever submitted them, and a run that died is failed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from contract.orchestrator import PACKAGE, ended

from tidegate import scratch
from tidegate.orchestrators import local
from tidegate.orchestrators.local import LocalOrchestrator, error_line

SUBMIT = """
import sys
from pathlib import Path
from tidegate.orchestrators.local import LocalOrchestrator
state, package, out = map(Path, sys.argv[1:])
LocalOrchestrator(state).submit(package, {"path": str(out), "word": "wait"}, "r1")
print("submitted", flush=True)
sys.stdin.read()
"""


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes_of(run_folder: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if str(run_folder) in (p.info["cmdline"] or [])]


@pytest.fixture
def waiting(tmp_path):
    """A run that has begun, waits, and was submitted by a process that was killed since."""
    state, out = tmp_path / "state", tmp_path / "out.txt"
    command = [sys.executable, "-c", SUBMIT, str(state), str(PACKAGE), str(out)]
    submitter = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert submitter.stdout.readline() == b"submitted\n"
    os.kill(submitter.pid, signal.SIGKILL)
    submitter.wait()
    submitter.stdin.close()
    submitter.stdout.close()
    wait_for(out.exists)
    yield LocalOrchestrator(state), out
    Path(f"{out}.go").touch()


def test_a_run_goes_on_when_its_submitter_is_killed(waiting):
    orchestrator, out = waiting
    assert orchestrator.status("r1").state == "running"
    assert orchestrator.submit(PACKAGE, {"path": str(out), "word": "wait"}, "r1") == "r1"
    Path(f"{out}.go").touch()
    assert ended(orchestrator, "r1").state == "succeeded"
    assert out.read_text() == "wait r1\n"


def test_a_run_whose_process_was_killed_is_failed_and_stays_so(waiting, tmp_path):
    orchestrator, out = waiting
    (runner,) = processes_of(tmp_path / "state" / "runs" / "r1")
    runner.kill()
    found = ended(orchestrator, "r1")
    assert (found.state, found.error) == ("failed", "the run's process ended without an end")
    orchestrator.submit(PACKAGE, {"path": str(out), "word": "wait"}, "r1")
    assert orchestrator.status("r1").state == "failed"


def test_a_run_that_was_noted_but_never_started_starts_with_its_next_submit(tmp_path, monkeypatch):
    orchestrator, out = LocalOrchestrator(tmp_path / "state"), tmp_path / "out.txt"
    with monkeypatch.context() as patch:
        patch.setattr("tidegate.orchestrators.local._start", lambda folder: None)
        orchestrator.submit(PACKAGE, {"path": str(out), "word": "hello"}, "r1")
    assert orchestrator.status("r1").error == "never started"
    orchestrator.submit(PACKAGE, {"path": str(out), "word": "hello"}, "r1")
    assert ended(orchestrator, "r1").state == "succeeded"


def test_a_condition_that_kfp_could_not_evaluate_fails_the_run(tmp_path):
    orchestrator = LocalOrchestrator(tmp_path / "state")
    run = orchestrator.submit(PACKAGE, {"path": str(tmp_path / "out.txt"), "word": "odd"}, "r1")
    found = ended(orchestrator, run)
    assert (found.state, found.error) == ("failed", "kfp.local: Condition evaluation failed")


def test_submits_at_once_run_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    orchestrator, out = LocalOrchestrator(tmp_path / "state"), tmp_path / "out.txt"
    with ThreadPoolExecutor(4) as pool:
        arguments = {"path": str(out), "word": "hello"}
        runs = list(pool.map(lambda _: orchestrator.submit(PACKAGE, arguments, "r1"), range(4)))
    assert set(runs) == {"r1"}
    assert ended(orchestrator, "r1").state == "succeeded"
    log = (tmp_path / "state" / "runs" / "r1" / "log.txt").read_text()
    assert log.count("Running pipeline") == 1


def test_the_last_error_of_ours_is_the_line():
    log = "noise\n    tidegate.errors.UserError: until: got 'x', takes a time\n\nRuntimeError: Pipeline failed\n"
    assert error_line(log) == "until: got 'x', takes a time"
    assert error_line("    Traceback\n    a.b.OddError: why\nRuntimeError: Pipeline failed\n") == "a.b.OddError: why"
    assert error_line("RuntimeError: no") == ""


def test_a_run_whose_rows_are_not_retained_ends_without_them_and_without_a_message_that_could_quote_one(
    tmp_path, monkeypatch
):
    scratch.begin(tmp_path)
    (tmp_path / "scratch" / "root" / "rows").write_text("N1")
    monkeypatch.setattr(local, "run_package", lambda folder: "feature hour: got 'N1', takes a number")
    local.main(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["not-retained", "status.json"]
    assert "N1" not in (tmp_path / "status.json").read_text()
    assert "a step failed" in (tmp_path / "status.json").read_text()
