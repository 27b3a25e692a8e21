"""The doctor: three projects of levels 0, 1 and 2, evidence that is no word in a comment, and this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3]))
from projects import NOTEBOOK, PIPELINE, write
from typer.testing import CliRunner

from tests.own_files import loans
from tidegate.cli import app
from tidegate.doctor import machine
from tidegate.doctor.levels import ITEMS, level_of, look
from tidegate.doctor.project import Project
from tidegate.new.project import create
from tidegate.new.propose import Roles

ROOT = Path(__file__).parents[3]


def held(folder: Path) -> dict[str, tuple[str, ...]]:
    return {one.item.name: one.evidence for one in look(Project(folder)) if one.holds}


def level(folder: Path) -> int | None:
    return level_of(look(Project(folder)))


def test_a_notebook_and_a_script_are_level_0(tmp_path):
    found = held(write(NOTEBOOK, tmp_path))
    assert level(tmp_path) == 0
    assert found == {"model": ("explore.ipynb:3 imports sklearn", "train.py:1 imports lightgbm")}


def test_an_automated_pipeline_alone_is_level_1(tmp_path):
    found = held(write(PIPELINE, tmp_path))
    assert level(tmp_path) == 1
    assert {item.name for item in ITEMS if item.level < 2} == set(found)
    assert found["pipeline"] == ("dvc.yaml: 4 steps, take to evaluate",)
    assert found["trigger"] == (".github/workflows/nightly.yml: on schedule",)


def test_this_repository_is_level_2_with_evidence_that_is_there():
    assert level(ROOT) == 2
    for item, evidence in held(ROOT).items():
        for one in evidence if item != "tests" else ():
            assert (ROOT / one.split(":")[0]).exists(), one


@pytest.mark.parametrize("gone", sorted(set(PIPELINE) - {"steps/validate.py"}))  # the stage of that name stays
def test_a_part_that_is_missing_costs_its_level(tmp_path, gone):
    assert level(write({path: text for path, text in PIPELINE.items() if path != gone}, tmp_path)) in (None, 0)


def test_the_commands_that_it_names_add_what_is_missing(tmp_path):
    roles = Roles("defaulted", "applied at", "customer", timedelta(days=1))
    create("loans", loans(tmp_path / "loans.csv", days=60), roles, write(NOTEBOOK, tmp_path))
    assert level(tmp_path) == 1
    for fix in dict.fromkeys(one.item.fix for one in look(Project(tmp_path)) if not one.holds):
        subprocess.run(["bash", "-euc", fix], cwd=tmp_path, check=True, capture_output=True)
    assert level(tmp_path) == 2


def test_nothing_that_trains_is_no_level(tmp_path):
    assert level(write({"README.md": "a model"}, tmp_path)) is None


def test_a_workflow_of_pushes_counts_by_what_its_make_target_runs(tmp_path):
    flow = "on: [push]\njobs: {test: {steps: [{run: make test}]}}\n"
    write({".github/workflows/ci.yml": flow, "Makefile": "test: setup\n\techo no tests\n"}, tmp_path)
    assert "CI of code" not in held(tmp_path)
    write({"Makefile": "test: setup\n\tpython -m pytest\n"}, tmp_path)
    assert held(tmp_path)["CI of code"] == (".github/workflows/ci.yml: runs make test",)


def test_a_workflow_delivers_by_the_script_that_its_make_target_calls(tmp_path):
    flow = "on: {workflow_dispatch: }\njobs: {deploy: {steps: [{run: make deploy}]}}\n"
    files = {".github/workflows/deploy.yml": flow, "Makefile": "deploy: setup  ## X=1 shows it\n\t@.ci/deploy\n"}
    write({**files, ".ci/deploy": "echo nothing\n"}, tmp_path)
    assert "delivery" not in held(tmp_path)
    write({".ci/deploy": "tidegate deploy k8s/overlays/production\n"}, tmp_path)
    assert held(tmp_path)["delivery"] == (".github/workflows/deploy.yml: runs make deploy",)


def test_files_that_nobody_can_read_are_passed_over(tmp_path):
    write({"broken.py": "def (", "broken.yaml": "a: [", "odd.yaml": "a: !tag {b: 1}\n", "x.ipynb": "{"}, tmp_path)
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\0")
    assert held(tmp_path) == {}


def test_every_item_without_evidence_has_its_command(tmp_path):
    done = CliRunner().invoke(app, ["doctor", str(write(NOTEBOOK, tmp_path)), "--json"])
    told = json.loads(done.stdout)
    assert (told["level"], told["score"]) == (0, {"held": 1, "of": len(ITEMS)})
    assert all(bool(one["evidence"]) != bool(one["fix"]) for one in told["items"])
    assert told["next"].startswith("tidegate new ")


@pytest.mark.parametrize(("level", "status"), [("0", 0), ("1", 1), ("2", 1), ("3", 2)])
def test_the_exit_status_says_whether_a_level_is_reached(tmp_path, monkeypatch, level, status):
    monkeypatch.setattr(machine, "check", lambda folder: [])
    done = CliRunner().invoke(app, ["doctor", str(write(NOTEBOOK, tmp_path)), "--level", level])
    assert done.exit_code == status, done.output


def test_a_folder_that_is_not_there_is_one_line():
    words = [sys.executable, "-m", "tidegate.cli", "doctor", "/no/such/folder"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tidegate: PATH: got '/no/such/folder', takes a project's folder\n"


def test_a_missing_package_stops_the_machine_and_says_what_to_install(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", {"serving": ("polars", "no-such-package-at-all")})
    (found,) = [one for one in machine._packages()]
    assert (found.state, "no-such-package-at-all missing" in found.seen) == ("fault", True)
    assert found.fix.startswith("pip install")


def test_a_port_in_use_is_seen(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(machine, "PORT", taken.getsockname()[1])
        assert (machine._port().state, machine._port().seen) == ("warn", "in use")


CONFIG = """contexts: [{name: c, context: {cluster: k}}]
clusters: [{name: k, cluster: {server: "https://127.0.0.1:%d"}}]
current-context: %s
"""


def test_a_cluster_is_asked_whether_it_is_there(tmp_path, monkeypatch):
    place = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(place))
    assert machine._kubeconfig().seen.startswith("none")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        place.write_text(CONFIG % (port, "c"))
        assert machine._kubeconfig() == machine.Checked("kubeconfig", "ok", f"https://127.0.0.1:{port} answers")
    assert (machine._kubeconfig().state, machine._kubeconfig().fix) == ("warn", "kubectl cluster-info")
    place.write_text(CONFIG % (port, "other"))
    assert machine._kubeconfig().fix == "kubectl config use-context NAME"
