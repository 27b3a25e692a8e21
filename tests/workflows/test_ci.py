"""ci.yml run for real by act: each planted fault turns its own job red, with the message that says what it is.

act copies a clone for each job and runs its steps on this machine; checkout is its own part. The green case is what
`.ci/run` runs.
"""

from __future__ import annotations

import pickle
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflows.act import act

pytestmark = [pytest.mark.workflows, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clone of this tree's last commit."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    return folder


def changed(name: str, old: str, new: str) -> Callable[[Path], None]:
    """A fault by one word of a file."""

    def plant(clone: Path) -> None:
        before = (clone / name).read_text()
        assert before.count(old) == 1, f"{name}: {old!r} is there {before.count(old)} times"
        (clone / name).write_text(before.replace(old, new))

    return plant


def written(name: str, content: bytes) -> Callable[[Path], None]:
    """A fault by a new file."""

    def plant(clone: Path) -> None:
        (clone / name).write_bytes(content)

    return plant


FAULTS = {
    "a failing unit test": (
        "test",
        written("tests/unit/trigger/test_planted.py", b"def test_planted():\n    assert 1 == 2, 'planted'\n"),
        r"AssertionError: planted.*1 failed",
    ),
    "a contract violation in the data": (
        "data",
        changed(
            "src/flights/source.py",
            'return {name: table.filter(pl.col("event_time") <= until) for name, table in self._tables().items()}',
            'found = {name: table.filter(pl.col("event_time") <= until) for name, table in self._tables().items()}\n'
            '        return {**found, "flights": found["flights"].with_columns(distance=-pl.col("distance"))}',
        ),
        r"validate: refused: flights: 165832 of 165832 rows are bad",
    ),
    "a model worse than the champion": (
        "model",
        changed("src/flights/workload.py", '"learning_rate": 0.05', '"learning_rate": 0.0005'),
        r"evaluate: refused: gate_metric",
    ),
    "a stale compiled package": (
        "definitions",
        changed("pipelines/continuous_training.py", "why the run was started.", "why the run was begun."),
        r"pipelines/continuous_training\.yaml is stale: run make golden",
    ),
    "an invalid Model file": (
        "definitions",
        changed("k8s/models/flight-delay.yaml", "margin: 0.002, slices", "margn: 0.002, slices"),
        r"spec\.gate\.margn",
    ),
    "a pickle in the tree": ("tree", written("docs/weights.bin", pickle.dumps({"a": 1.0})), r"a pickle runs code"),
    "a leaked secret": (
        "tree",
        written("docs/notes.md", b"the key is AKI" + b"AQ7ZK3X5M2P9RTB4W\n"),
        r"docs/notes\.md:1: AWS Access Key.*take it out|take it out.*docs/notes\.md:1: AWS Access Key",
    ),
}
ONLY = {"test": "tests/unit/trigger"}
"""What `make test` is asked for where a red case would else run everything."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_turns_its_job_red_and_says_what_it_is(clone, name):
    job, plant, message = FAULTS[name]
    plant(clone)
    subprocess.run(["git", "-C", str(clone), "add", "-A"], check=True)
    ran = act(clone, "ci.yml", job=job, env={"TESTS": ONLY[job]} if job in ONLY else {})
    assert ran.failed
    assert re.search(message, ran.said, re.DOTALL), ran.said[-4000:]


def test_nothing_is_skipped_under_act():
    """All that ci.yml does is run here."""
    assert "env.ACT" not in (ROOT / ".github/workflows/ci.yml").read_text()
