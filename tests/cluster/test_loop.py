"""The whole loop on real flights, on a cluster, in event time: what `make demo` does on a laptop, with kubectl alone.

v1 is trained by a Job and serves behind the Gateway; new data triggers a retraining that nobody starts; its version
goes through shadow and canary under load to all of the traffic; a sabotaged candidate is aborted and quarantined.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from concurrent.futures import Future
from datetime import UTC, datetime

import pytest
from cluster.installation import ROOT, Installation
from cluster.loop_story import FILE, RATE, SHARE, SINCE, UNTIL, model, setting
from cluster.told import phase, tell

from demo.check import check, decisions, to_all_traffic
from demo.story import Played
from flights.requests import load_traffic, questions
from tidegate.targets.processes import wait_until
from tidegate.traffic.questions import share_of
from tidegate.traffic.replay import Replay

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
MODEL = "flight-delay"


@pytest.fixture(scope="module")
def played(up: None, told_here: Future[Played]) -> tuple[Installation, Played]:
    """The story, told by the journal."""
    found, story = Installation(), Played(setting(FILE, ROOT))
    found.remove()
    with phase("overlay applied, operator leads, Gateway programmed"):
        found.install()
    with phase("v1 trained by a Job on real flights"):
        found.kubectl("apply", "--server-side", "--filename", "-", stdin=model().encode())
        file = found.put("model.yaml", model())
        found.tidegate("run", file, "--until", SINCE.isoformat(), "--state", f"/state/{MODEL}", "--orchestrator", "job")
    with phase("v1 serves behind the Gateway"):
        found.kubectl("wait", "--for=condition=Ready", "--timeout=120s", f"model/{MODEL}")
        found.until(lambda: found.shown("model", MODEL).get("traffic", {}).get("summary") == "v1 100%")
    asked = share_of(list(questions(load_traffic(SINCE, UNTIL))), SHARE, story.setting.seed)
    with phase(f"{len(asked)} requests at {RATE:g}/s, retrained, promoted, sabotage aborted"):
        replay = Replay(asked, found.gateway, found.token, RATE, Sabotage(found))
        story.tally = asyncio.run(replay.run())
    story.events = found.journal(MODEL)
    story.rows = found.rows(MODEL)[0]
    with phase("journal replayed"):
        story.replayed = found.tidegate("replay", "--state", f"/state/{MODEL}").strip()
    tell(f"stood still {story.tally.stood_still:.1f} s; latency p50 {story.tally.latency(0.5):.1f} ms, "
         f"p99 {story.tally.latency(0.99):.1f} ms; by model {dict(story.tally.models)}")  # fmt: skip
    return found, story


class Sabotage(threading.Thread):
    """Hands the sabotaged candidate in, once, when a challenger has 5 % of the traffic; true while its run works.

    It looks with kubectl, beside the load: a look takes a tenth of a second.
    """

    def __init__(self, installation: Installation) -> None:
        super().__init__(daemon=True)
        self._installation, self._now = installation, 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, now: float, done: float) -> bool:
        if not self._now:
            self.start()
        self._now = now
        return self._process is not None and self._process.poll() is None

    def run(self) -> None:
        while not self._is_on_canary():
            time.sleep(0.5)
        until = datetime.fromtimestamp(self._now, UTC).isoformat()
        words = ("run", "demo/sabotaged.yaml", "--until", until, "--orchestrator", "job")
        self._process = self._installation.start_tidegate(*words, "--state", f"/state/{MODEL}")

    def _is_on_canary(self) -> bool:
        name = self._installation.shown("model", MODEL).get("release")
        release = self._installation.shown("release", name) if name else {}
        return release.get("stage") == "canary" and float(release["weight"].rstrip("%")) >= 5


def test_every_claim_of_the_demo_holds_on_the_cluster(played: tuple[Installation, Played]) -> None:
    claims = check(played[1])
    for claim in claims:
        tell(f"{'yes' if claim.holds else 'NO '} {claim.claim} | {claim.seen}")
    assert [claim.claim for claim in claims if not claim.holds] == []


def test_a_local_run_on_the_same_data_decides_the_same(
    played: tuple[Installation, Played], told_here: Future[Played]
) -> None:
    (_, story), here = played, told_here.result()
    tell(f"{len(decisions(here.events))} decisions compared")
    for name, events in (("cluster", story.events), ("local", here.events)):
        tell(f"{name}: a run's start to 100 % of traffic: {to_all_traffic(events)}")
    assert decisions(story.events) == decisions(here.events)
    assert trained(story) == trained(here)


def trained(story: Played) -> dict[str, str]:
    """Digest by version, of those that triggers trained from scratch: a person's run begins at a moment of its own."""
    found = story.state.versions.values()
    return {one["version"]: one["digest"] for one in found if one["cause"] != "manual" or one["version"] == "v1"}


def test_everything_is_read_with_kubectl(played: tuple[Installation, Played]) -> None:
    found, story = played
    status, state = found.shown("model", MODEL), story.state
    assert status["champion"]["version"] == state.champion.version
    assert {one["digest"] for one in status["quarantined"]} == set(state.quarantined)
    names = {event.data["release"]["name"] for event in story.events if event.kind == "release.opened"}
    ended = {name: found.shown("release", name)["stage"] for name in names}
    assert {"promoted", "aborted"} <= set(ended.values()), ended
    reasons = found.kubectl("get", "events", "--output", "jsonpath={.items[*].reason}")
    assert {"ReleasePromoted", "ReleaseAborted", "RegisterCandidate"} <= set(reasons.split())
    print(found.kubectl("get", "models,releases,jobs"))


def test_a_model_that_is_deleted_is_drained_and_leaves_nothing(played: tuple[Installation, Played]) -> None:
    found, _ = played
    found.kubectl("delete", "model", MODEL, "--timeout=120s")
    left = "deployments,services,httproutes,poddisruptionbudgets,horizontalpodautoscalers,releases"
    named = ("--selector", f"tidegate.dev/model={MODEL},tidegate.dev/version")
    assert wait_until(lambda: not found.kubectl("get", left, *named, "--output", "name").strip(), 60, every=0.5)
