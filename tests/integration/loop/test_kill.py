"""``kill -9`` of ``tidegate up`` in the middle of a canary, while users go on asking."""

from __future__ import annotations

import json

import pytest

from tests.integration.loop.conftest import journaled, named, tidegate
from tests.live_traffic import Traffic
from tidegate.journal.fold import ModelState
from tidegate.journal.store import open_journal
from tidegate.observations import Label, Prediction, SegmentReader
from tidegate.targets import envoy
from tidegate.targets.gatewayd import http
from tidegate.targets.processes import wait_until


def in_force(state) -> tuple[dict[str, float], list[str], str]:
    """The traffic by Envoy's own account."""
    processes = json.loads((state / "target" / "processes.json").read_text())
    (port,) = [process["admin_port"] for process in processes if process["role"] == "gateway"]
    found = json.loads(http(port, "/config_dump?resource=dynamic_route_configs")[2])["configs"]
    seen = envoy.read_routes(found[0]["route_config"])
    return dict(seen.split), list(seen.mirrors), seen.release


def told(traffic: dict) -> tuple[dict[str, float], list[str], str]:
    """The same by a serve.traffic event."""
    return dict(map(tuple, traffic["split"])), traffic["mirrors"], traffic["release"]


def at_weight(weight: float):
    """Whether the release is in canary at this weight, and so is the traffic."""

    def reached(found: ModelState) -> bool:
        release = found.release or {}
        return (release.get("state"), release.get("weight")) == ("canary", weight) and bool(
            found.traffic["split"][-1][1] == weight
        )

    return reached


def pids(state) -> set[int]:
    return {process["pid"] for process in json.loads((state / "target" / "processes.json").read_text())}


def stages(state) -> list[tuple[str, str, float]]:
    """The way of the release, as the journal has it."""
    events = open_journal(state).read("quick")
    way = [event for event in events if event.kind.startswith("release.") and event.kind != "release.looked"]
    found = [(event.kind, event.data["release"]) for event in way if "release" in event.data]
    return [(kind, release["state"], release["weight"]) for kind, release in found]


@pytest.fixture
def canary(up, questions):
    """(up, traffic): v2 has 20 % of a stream of a hundred requests a second."""
    running = up().serving()
    running.until(lambda found: found.traffic["mirrors"] == ["v2"])
    traffic = Traffic(questions, running.gateway, running.token)
    traffic.start()
    running.until(at_weight(0.2))
    yield running, traffic
    traffic.stop()


def test_the_release_goes_on_from_its_stage_and_no_request_fails(canary, up, state):
    killed, traffic = canary
    before, answered = pids(state), len(traffic.answers)
    killed.process.kill()
    killed.process.wait()
    assert wait_until(lambda: len(traffic.answers) > answered + 100 and traffic.refused[503] > 0, 20)
    assert set(traffic.models(answered)) == {"v1", "v2"}
    assert in_force(state) == told(journaled(state).traffic) == ({"v1": 0.8, "v2": 0.2}, [], "quick-r1")

    again = up().serving()
    assert (again.gateway, pids(state)) == (killed.gateway, before)
    status = again.ask("/status").json()
    assert (status["release"]["state"], status["champion"]["version"]) == ("canary", "v1")
    assert in_force(state) == told(status["traffic"]) == told(journaled(state).traffic)

    again.until(at_weight(0.5))
    assert in_force(state) == ({"v1": 0.5, "v2": 0.5}, [], "quick-r1")
    ended = again.until(lambda found: found.release["state"] == "promoted")
    traffic.stop()
    assert again.end() == 0
    assert ended.champion.version == "v2"
    assert stages(state) == [
        ("release.opened", "shadow", 0.0),
        ("release.stage", "canary", 0.2),
        ("release.stage", "canary", 0.5),
        ("release.promoted", "watch", 1.0),
        ("release.ended", "promoted", 1.0),
    ]
    check_nothing_is_lost(traffic, state)
    assert tidegate("replay", "--state", state, "--evidence").stdout.startswith("reproduced: ")
    # the killed one's copy to MLflow runs at a low priority, which on a busy machine is slow, and ends by itself
    assert wait_until(lambda: not named(state), 180), named(state)


def check_nothing_is_lost(traffic: Traffic, state) -> None:
    """Requests sent = answers received = rows in the log; labels that met a 503 came again."""
    assert {answer.status for answer in traffic.answers} == {200}
    rows = [r for r in SegmentReader(state / "observations" / "predictions").read() if isinstance(r, Prediction)]
    users = sorted(row.request_id.removesuffix("/0") for row in rows if row.arm == row.version)
    assert users == sorted(answer.request_id for answer in traffic.answers)
    assert len(users) == traffic.sent
    labels = [r for r in SegmentReader(state / "observations" / "labels").read() if isinstance(r, Label)]
    assert len({label.request_id for label in labels}) == len(labels) == traffic.told > 0
