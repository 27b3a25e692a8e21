"""The workflow files: least rights, pinned actions, limits, one gate; what zizmor and actionlint say of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))
ACTIONLINT = "v1.7.7"


def read(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text())
    found["on"] = found.pop(True, None)  # YAML 1.1 reads `on` so
    return found


def jobs() -> list[tuple[str, str, dict[str, Any]]]:
    return [(path.name, name, job) for path in WORKFLOWS for name, job in read(path)["jobs"].items()]


def steps() -> list[tuple[str, dict[str, Any]]]:
    found = [(f"{file}: {name}", step) for file, name, job in jobs() for step in job.get("steps", ())]
    return found + [(path.parent.name, step) for path in ACTIONS for step in read(path)["runs"]["steps"]]


def test_the_four_are_there():
    assert [path.stem for path in WORKFLOWS] == ["build", "ci", "deploy", "train"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_right_but_what_a_job_names(path):
    assert read(path)["permissions"] == {}
    assert {"pull_request_target", "workflow_run"}.isdisjoint(read(path)["on"])


@pytest.mark.parametrize(("file", "name", "job"), jobs(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_job_names_its_rights_and_its_limit(file, name, job):
    assert "permissions" in job
    assert "uses" in job or 0 < job["timeout-minutes"] < 360
    if name not in ("serving", "components", "comment"):
        assert "write" not in job["permissions"].values()


def test_what_may_write_does_not_run_for_a_pull_request_of_a_fork():
    for file, name, job in jobs():
        if "packages" in job["permissions"] and job["permissions"]["packages"] == "write":
            assert job["if"] == "${{ github.event_name == 'push' && !github.event.repository.fork }}", (file, name)


def test_every_action_is_ours_or_pinned_by_commit():
    for where, step in steps():
        if "uses" in step and not step["uses"].startswith("./"):
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", step["uses"]), where


def test_a_gate_needs_every_other_job():
    for path in WORKFLOWS:
        found = read(path)["jobs"]
        if "passed" in found:
            assert set(found["passed"]["needs"]) == set(found) - {"passed"}
            assert found["passed"]["if"] == "${{ always() }}"


def test_no_expression_stands_in_a_script():
    """Text from outside reaches a script through its environment, never by being pasted into it."""
    assert [where for where, step in steps() if "${{" in step.get("run", "")] == []


def test_steps_are_skipped_under_act_by_one_switch_and_need_a_registry_or_github():
    switched = [step for _, step in steps() if "ACT" in step.get("if", "")]
    assert {step["if"] for step in switched} == {"${{ !env.ACT }}", "${{ env.ACT }}"}
    for where, step in steps():  # act fetches an action of another repository before it looks at conditions
        if "uses" in step and not step["uses"].startswith(("./", "actions/checkout@")):
            assert where == "publish"


def test_zizmor_finds_nothing_of_medium_or_higher():
    program = Path(sys.executable).with_name("zizmor")
    words = ("--offline", "--no-progress", "--format=json", "--min-severity=medium", str(GITHUB))
    told = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert json.loads(told.stdout) == [], told.stdout


def actionlint() -> Path:
    """The program, compiled once from Go's module proxy."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        pytest.skip("no Go on this machine to compile actionlint with")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate" / f"actionlint-{ACTIONLINT}"
    if not (folder / "actionlint").exists():
        env = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-mod=mod"}
        words = (go, "install", f"github.com/rhysd/actionlint/cmd/actionlint@{ACTIONLINT}")
        made = subprocess.run(words, env=env, cwd="/", capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"actionlint could not be compiled: {made.stderr.strip().splitlines()[-1]}")
    return folder / "actionlint"


def test_actionlint_finds_nothing():
    told = subprocess.run([actionlint(), "-no-color"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.stdout == ""
    assert told.returncode == 0, told.stderr
