from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest
from contract.target import TargetContract, plan

from tidegate.errors import UserError
from tidegate.observations import Prediction, SegmentReader
from tidegate.targets.local import LocalTarget
from tidegate.targets.processes import wait_until


def ask(port: int, path: str = "/predict", headers: dict | None = None, body: str = '{"rows":[{}],"at":5}'):
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", path, body, headers or {})
    answer = connection.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return found


def rows(target: LocalTarget, state: Path) -> list[Prediction]:
    target.mark(10.0)
    return SegmentReader(state / "observations" / "predictions").read()


class TestLocalTarget(TargetContract):
    """The contract, on a real Envoy and real services."""


def test_forged_headers_change_nothing(target: LocalTarget, state: Path, digests: dict[str, str]) -> None:
    target.apply(plan(digests, {"v1": 1.0}, mirrors=("v2",), release="r1"))
    forged = {
        "x-request-id": "forged", "x-tidegate-arm": "v2", "x-tidegate-propensity": "0.001",
        "x-tidegate-release": "r0", "x-tidegate-other": "1", "x-envoy-retry-on": "5xx", "x-envoy-max-retries": "9",
    }  # fmt: skip
    status, headers, _ = ask(target.port, headers=forged)
    assert status == 200
    assert headers["x-request-id"] != "forged"
    assert wait_until(lambda: len(rows(target, state)) == 2, 30)
    found = {row.version: row for row in rows(target, state)}
    assert {row.request_id for row in found.values()} == {headers["x-request-id"] + "/0"}
    assert {(row.arm, row.propensity, row.release) for row in found.values()} == {("v1", 1.0, "r1")}


def test_a_release_header_is_taken_away_when_no_release_is_open(
    target: LocalTarget, state: Path, digests: dict[str, str]
) -> None:
    target.apply(plan(digests, {"v1": 1.0}))
    ask(target.port, headers={"x-tidegate-release": "r0"})
    assert [row.release for row in rows(target, state)] == [None]


def test_before_the_first_plan_predictions_are_503(target: LocalTarget) -> None:
    status, _, body = ask(target.port)
    assert (status, json.loads(body)) == (503, {"error": "no model is served yet"})


def test_control_paths_go_to_the_control_server_with_a_request_id_of_the_gateways(state: Path) -> None:
    class Echo(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps({key.lower(): value for key, value in self.headers.items()}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = LocalTarget(state, model="flight-delay", port=0, clock="events", control_port=server.server_port)
    try:
        target.start()
        for path in ("/labels", "/clock", "/status", "/console", "/console/page"):
            status, headers, body = ask(target.port, path, {"x-request-id": "mine", "authorization": "Bearer t"})
            seen = json.loads(body)
            assert status == 200
            assert seen["x-client-request-id"] == "mine"
            assert seen["x-request-id"] == headers["x-request-id"] != "mine"
            assert seen["authorization"] == "Bearer t"
    finally:
        target.stop()
        server.shutdown()
        server.server_close()


def test_a_port_in_use_is_the_users_to_know(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        target = LocalTarget(state, model="flight-delay", port=port, clock="events", control_port=9)
        with pytest.raises(UserError, match=f"port {port}: got 'in use'"):
            target.start()
    assert target._record.alive == ()


def test_what_a_dropped_target_left_running_is_adopted(
    target: LocalTarget, state: Path, digests: dict[str, str]
) -> None:
    target.apply(plan(digests, {"v1": 0.9, "v2": 0.1}, release="r1"))
    pids = {process.pid for process in target._record.alive}
    again = LocalTarget(state, model="flight-delay", port=target.port, clock="events", control_port=9)
    again.start()
    assert again.observe() == target.observe()
    again.apply(plan(digests, {"v1": 0.9, "v2": 0.1}, release="r1"))
    assert {process.pid for process in again._record.alive} == pids
    assert again.mark(7.0) == 7.0
    assert again.writers() == target.writers()


def test_traffic_goes_on_when_the_controller_is_killed(state: Path, digests: dict[str, str]) -> None:
    program = f"""
import os, signal
from pathlib import Path
from tidegate.release.plan import Backend, Plan
from tidegate.targets.local import LocalTarget
target = LocalTarget(Path({str(state)!r}), model="flight-delay", port=0, clock="events", control_port=9)
target.apply(Plan("flight-delay", (Backend("v1", {digests["v1"]!r}),), (("v1", 1.0),)))
print(target.port, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    target = LocalTarget(state, model="flight-delay", port=0, clock="events", control_port=9)
    try:
        assert ended.returncode == -signal.SIGKILL
        assert ask(int(ended.stdout))[0] == 200
        target.start()
        assert target.port == int(ended.stdout)
        assert target.observe().split == (("v1", 1.0),)
    finally:
        target.stop()
    assert target._record.alive == ()


def test_a_service_that_died_is_started_again_by_the_same_plan(
    target: LocalTarget, state: Path, digests: dict[str, str]
) -> None:
    wanted = plan(digests, {"v1": 1.0})
    target.apply(wanted)
    assert ask(target.port)[0] == 200
    target.mark(8.0)
    (service,) = target._services()
    os.kill(service.pid, signal.SIGKILL)
    assert wait_until(lambda: target.observe().running == (), 30)
    # a killed process stops answering a moment before it is gone
    assert wait_until(lambda: target.writers() == frozenset(), 30)
    target.apply(wanted)
    assert [running.ready for running in target.observe().running] == [1]
    assert ask(target.port)[0] == 200
    assert len(rows(target, state)) == 2
    reader = SegmentReader(state / "observations" / "predictions")
    reader.read()
    reader.expect(target.writers())
    assert reader.watermark == 10.0


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_shadow_that_is_dead_or_stands_still_harms_no_user(
    target: LocalTarget, digests: dict[str, str], fault: signal.Signals
) -> None:
    target.apply(plan(digests, {"v1": 1.0}, mirrors=("v2",), release="r1"))
    (shadow,) = [process for process in target._services() if process.version == "v2"]
    os.kill(shadow.pid, fault)
    try:
        assert {ask(target.port)[0] for _ in range(100)} == {200}
    finally:
        if shadow.alive:
            os.kill(shadow.pid, signal.SIGCONT)


def test_stopping_leaves_no_process_and_finished_segments(state: Path, digests: dict[str, str]) -> None:
    target = LocalTarget(state, model="flight-delay", port=0, clock="events", control_port=9)
    try:
        target.apply(plan(digests, {"v1": 0.5, "v2": 0.5}))
        for _ in range(20):
            ask(target.port)
        pids = [process.pid for process in target._record.alive]
    finally:
        target.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    reader = SegmentReader(state / "observations" / "predictions")
    assert len(reader.read()) == 20
    assert all(progress.ended for progress in reader._writers.values())


def test_a_gateway_that_died_is_started_again_on_its_routes(target: LocalTarget, digests: dict[str, str]) -> None:
    wanted = plan(digests, {"v1": 0.75, "v2": 0.25}, release="r1")
    target.apply(wanted)
    gateway = target._gateway.process
    assert gateway is not None
    os.kill(gateway.pid, signal.SIGKILL)
    assert wait_until(lambda: not gateway.alive, 30)
    assert target.observe().split == ()
    assert {running.version for running in target.observe().running} == {"v1", "v2"}
    target.start()
    assert target.observe().split == (("v1", 0.75), ("v2", 0.25))
    assert ask(target.port)[0] == 200
