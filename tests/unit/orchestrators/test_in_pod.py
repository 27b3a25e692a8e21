"""What a Job's pod does, as a process: one local run, its log and its end shown, stopped by SIGTERM."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from contract.orchestrator import PACKAGE

from tidegate.orchestrators.local import LocalOrchestrator


@pytest.fixture
def request_of(tmp_path):
    """Makes the folder that a pod finds its package and arguments in."""

    def make(word):
        folder = tmp_path / "request"
        folder.mkdir()
        (folder / "package.yaml").write_bytes(PACKAGE.read_bytes())
        arguments = {"path": str(tmp_path / "out.txt"), "word": word, "state": str(tmp_path / "state"), "run": "r1"}
        (folder / "arguments.json").write_text(json.dumps(arguments))
        return [sys.executable, "-m", "tidegate.orchestrators.in_pod", str(folder), str(tmp_path / "state")]

    return make


@pytest.mark.parametrize(("word", "status", "error"), [("hello", 0, ""), ("fail", 1, "word: got 'fail', takes")])
def test_the_run_is_a_local_one_and_its_end_the_pods(request_of, tmp_path, word, status, error):
    done = subprocess.run(request_of(word), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert error in done.stderr
    assert LocalOrchestrator(tmp_path / "state").status("r1").state == ("failed" if error else "succeeded")
    assert (tmp_path / "state/runs/r1/log.txt").read_text() in done.stdout


def test_sigterm_ends_the_run_and_the_pod(request_of, tmp_path):
    process = subprocess.Popen(request_of("wait"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    found = LocalOrchestrator(tmp_path / "state").status("r1")
    assert (found.state, found.error) == ("failed", "the run's process ended without an end")
