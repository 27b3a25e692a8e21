"""A push, and what the workflow files make of it on a cluster: deployed, trained, a candidate, released.

act runs build.yml, which calls deploy.yml and train.yml; nothing else is done by hand, and users go on asking. The
second push adds a model family.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cluster.installation import ROOT, Installation
from cluster.told import phase, tell

from k8s.cluster import machine
from k8s.cluster.places import BIN, KUBECONFIG
from tests.live_traffic import Traffic
from tests.pushes import FAMILY, MODEL, new_family, quick_installation
from tests.workflows.act import Ran, act, skipped

pytestmark = [pytest.mark.workflows, pytest.mark.timeout(3600)]
FIRST, SECOND = "2013-04-01T00:00:00Z", "2013-04-08T00:00:00Z"
RATE = 50.0


def push(clone: Path, until: str) -> Ran:
    """What a push to main starts; training uses what had arrived by `until`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG_TEXT", KUBECONFIG.read_text())
        patch.setenv("PATH", str(BIN), prepend=":")
        began = time.monotonic()
        words = ("--secret", "KUBECONFIG_TEXT", "--var", f"UNTIL={until}")
        ran = act(clone, "build.yml", "", "push", *words, show=lambda line: print(line, flush=True))
    tell(f"push: {time.monotonic() - began:.0f} s { {job: round(spent) for job, spent in ran.seconds.items()} }")
    assert not ran.failed, ran.said[-8000:]
    assert "PRIVATE KEY" not in ran.said
    assert KUBECONFIG.read_text().splitlines()[-1].strip() not in ran.said
    return ran


class Pushed:
    """Two pushes one after the other, and users from the first on."""

    def __init__(self, clone: Path) -> None:
        self.clone, self.found = clone, Installation()
        self.first = self.second = Ran()
        self.traffic: Traffic

    def play(self) -> None:
        found = self.found
        found.remove()
        with phase("first push: images, deployed, trained"):
            quick_installation(self.clone)
            self.first = push(self.clone, FIRST)
        with phase("its version serves"):
            found.kubectl("wait", "--for=condition=Ready", "--timeout=180s", f"model/{MODEL}")
            found.until(lambda: self.split() == {"v1": "100%"}, 120)
        with phase("second push, which adds a model family"):
            new_family(self.clone)
            self.second = push(self.clone, SECOND)
        with phase("its candidate released, under load"):
            self.traffic = Traffic(asked(), found.gateway, found.token, RATE)
            self.traffic.start()
            found.until(lambda: found.shown("model", MODEL).get("champion", {}).get("version") == "v2", 600)

    def split(self) -> dict[str, str]:
        traffic = self.found.shown("model", MODEL).get("traffic", {})
        return {one["version"]: one["share"] for one in traffic.get("split", ())}


def asked() -> list:
    from flights.requests import load_traffic, questions

    since = datetime.fromisoformat(SECOND).astimezone(UTC)
    return list(questions(load_traffic(since, since.replace(month=6))))


@pytest.fixture(scope="module")
def pushed(up: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    if machine.road() == "kind":
        pytest.skip("images are loaded into the built cluster's node")
    clone = tmp_path_factory.mktemp("push") / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    made = Pushed(clone)
    made.play()
    yield made
    made.traffic.stop()


def test_each_push_is_deployed_by_digest(pushed: Pushed) -> None:
    assert "deployed: " in pushed.first.said
    assert "deployed: " in pushed.second.said
    found = pushed.found
    image = json.loads(found.kubectl("get", "model", MODEL, "--output", "json"))["spec"]["pipeline"]["image"]
    assert image.startswith("localhost/tidegate/components@sha256:")
    told = found.kubectl("get", "deployment", "tidegate-operator", "--output", "json")
    assert told.count(image) == 2  # the operator's own, and what its runs have
    assert f"+    image: {image}" in pushed.second.said  # the diff that was shown before


def test_training_waited_for_its_verdict(pushed: Pushed) -> None:
    assert "passed v1" in pushed.first.said
    assert "passed v2" in pushed.second.said


def test_the_new_family_went_the_whole_way(pushed: Pushed) -> None:
    events = pushed.found.journal(MODEL)
    causes = [event.data["causes"] for event in events if event.kind == "trigger.started"]
    assert causes[:2] == [["code"], ["code"]]
    versions = [event.data["version"] for event in events if event.kind == "register.candidate"]
    assert versions[:2] == ["v1", "v2"]
    assert {"release.opened", "release.promoted"} <= {event.kind for event in events}
    digest = pushed.found.shown("model", MODEL)["champion"]["digest"].removeprefix("sha256:")
    program = f"print(open('/state/{MODEL}/models/{digest}/model.txt').read())"
    text = pushed.found.kubectl("exec", pushed.found.leader(), "--", "python", "-c", program)
    assert f'"family":"{FAMILY}"' in text


def test_no_user_saw_it(pushed: Pushed) -> None:
    answers = pushed.traffic.answers
    assert len(answers) > 1000
    assert [answer for answer in answers if answer.status != 200] == []


def test_what_was_skipped_is_named(pushed: Pushed) -> None:
    found = skipped("build.yml", pushed.clone)
    assert {one.rsplit(": ", 1)[-1] for one in found} == {"./.github/actions/publish", "Built here, and signed"}
