"""build.yml, deploy.yml and train.yml under act, with a kubectl that only notes what it was asked.

The real one, and all of it after one push, is in tests/cluster/test_push.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.workflows.act import Ran, act, skipped

pytestmark = [pytest.mark.workflows, pytest.mark.timeout(600)]
SECRET = "apiVersion: v1\nkind: Config\ntoken: planted-not-a-real-one"
KUBECTL = """#!/bin/sh
echo "$@" >> "{noted}"
stat --format='mode %a' "$KUBECONFIG" >> "{noted}"
cmp -s "$KUBECONFIG" "{given}" && echo "the kubeconfig is the secret" >> "{noted}"
case "$*" in
  *" get lease "*) printf leader-1 ;;
  *" get model "*) echo '{{"kind": "Model"}}' ;;
  *" exec "*) cat > /dev/null; echo "run flight-delay-3: {verdict}"; exit {status} ;;
  *) echo 'error: the server is not there' >&2; exit 1 ;;
esac
"""
IMAGES = {name: f"registry.example/tidegate/{name}@sha256:{'a' * 64}" for name in ("components", "serving")}


class Machine:
    """A kubectl before the others on the PATH, and what it was asked."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.noted, self._patch = folder, folder / "noted", patch
        (folder / "given").write_text(f"{SECRET}\n")
        patch.setenv("PATH", str(folder), prepend=":")
        patch.setenv("KUBECONFIG_TEXT", SECRET)

    def answers(self, verdict: str, status: int) -> None:
        text = KUBECTL.format(noted=self.noted, given=self.folder / "given", verdict=verdict, status=status)
        (self.folder / "kubectl").write_text(text)
        (self.folder / "kubectl").chmod(0o755)

    def runs(self, clone: Path, workflow: str, event: str, told: dict) -> Ran:
        (self.folder / "event.json").write_text(json.dumps(told))
        words = ("--secret", "KUBECONFIG_TEXT", "--eventpath", str(self.folder / "event.json"))
        ran = act(clone, workflow, "", event, *words)
        assert "planted-not-a-real-one" not in ran.said
        return ran


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    folder = tmp_path / "machine"
    folder.mkdir()
    return Machine(folder, monkeypatch)


@pytest.mark.parametrize(("verdict", "status"), [("passed v2", 0), ("refused", 1)])
def test_train_asks_the_leader_and_is_red_when_a_gate_refused(clone, machine, verdict, status):
    machine.answers(verdict, status)
    payload = {"model": "flight-delay", "until": "2013-07-01T00:00:00Z"}
    ran = machine.runs(
        clone, "train.yml", "repository_dispatch", {"action": "tidegate-train", "client_payload": payload}
    )
    assert ran.failed == bool(status)
    assert f"run flight-delay-3: {verdict}" in ran.said
    noted = machine.noted.read_text()
    words = "exec --stdin leader-1 -- tidegate run - --state /state/flight-delay --cause manual --until"
    assert f"{words} {payload['until']}" in noted
    assert "the kubeconfig is the secret" in noted
    assert set(re.findall(r"mode (\d+)", noted)) == {"600"}


def test_a_name_that_is_no_model_reaches_no_command(clone, machine):
    machine.answers("passed", 0)
    told = {"action": "tidegate-train", "client_payload": {"model": "x; touch /tmp/planted"}}
    ran = machine.runs(clone, "train.yml", "repository_dispatch", told)
    assert ran.failed
    assert "takes the name of a Model" in ran.said
    assert not machine.noted.exists()


def test_deploy_is_red_in_its_dry_run_where_the_server_refuses(clone, machine):
    machine.answers("", 1)
    inputs = {"environment": "staging", "overlay": "k8s/overlays/local", "image": IMAGES["components"]}
    told = {"inputs": {**inputs, "serving": IMAGES["serving"]}}
    ran = machine.runs(clone, "deploy.yml", "workflow_dispatch", told)
    assert ran.failed
    assert "tidegate: k8s/overlays/local: got" in ran.said
    assert "the server is not there" in ran.said
    assert "Run Main Deploy, or back to what was there" not in ran.said


def test_a_pull_request_builds_an_image_and_pushes_none(clone):
    ran = act(clone, "build.yml", "check", "pull_request", "--matrix", "target:serving")
    assert not ran.failed, ran.said[-4000:]
    assert re.search(r"serving: `sha256:[0-9a-f]{64}`, \d{3} packages", ran.said)


def test_what_is_skipped_needs_a_registry():
    assert skipped("build.yml") == [
        "build.yml: serving: ./.github/actions/publish",
        "build.yml: components: ./.github/actions/publish",
        "deploy.yml: deploy: Built here, and signed",
    ]
    assert skipped("train.yml") == []
