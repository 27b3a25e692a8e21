"""ci.yml run for real by act: each planted fault turns its own job red, with the message that says what it is.

act copies a clone for each job and runs its steps on this machine; checkout is its own part.
"""

from __future__ import annotations

import pickle
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflows.act import act, skipped

pytestmark = [pytest.mark.workflows, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
NOBODY = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.com")


@pytest.mark.timeout(3000)
def test_the_whole_of_it_is_green_on_a_clean_clone(clone):
    ran = act(clone, "ci.yml")
    assert not ran.failed, ran.said[-8000:]
    assert re.match(r"\d{4,} passed", ran.closing), ran.closing
    print(*(f"{seconds / 60:5.1f} min  {job}" for job, seconds in ran.seconds.items()), sep="\n")
    assert sum(ran.seconds.values()) < 18 * 60


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


def test_only_the_comment_is_skipped_under_act():
    assert skipped("ci.yml") == ["ci.yml: comment: Write it, over the one before"]


DEFINITION = changed("src/flights/views.py", "timedelta(days=28)", "timedelta(days=7)")
SCHEMA = changed("src/flights/workload.py", '*("distance", "hour", "weekday"),', '*("distance", "hour"),')
REPORTS = {
    "a feature's definition alone shows its effect on the metrics": (
        DEFINITION,
        r"may be a minor: feature schema and architecture are as they were\. (Proved|No metric).*"
        r"carrier_late_28d \| \d+\.\d% of rows differ.*log_loss \| 0\.\d+ \| 0\.\d+ \| -?[\d.e-]+ \| -?[\d.e-]+ to",
    ),
    "the feature schema says that the next version is a new major": (
        SCHEMA,
        r"The next version will be a new major: the feature schema changed\..*weekday \| gone",
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_change_of(clone, name):
    plant, message = REPORTS[name]
    plant(clone)
    subprocess.run(["git", "-C", str(clone), *NOBODY, "commit", "-qam", "a change"], check=True)
    ran = act(clone, "ci.yml", job="report")
    assert not ran.failed, ran.said[-4000:]
    assert re.search(message, ran.said, re.DOTALL), ran.said[-6000:]
