"""The merge service between two real services: mixed lists, the log, and what a fault of one model does to users."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tidegate.observations import Prediction, SegmentReader
from tidegate.release.interleave import by_rank, team_draft
from tidegate.release.plan import Backend, Plan
from tidegate.targets.gatewayd import http
from tidegate.targets.local import LocalTarget
from tidegate.targets.processes import free_port, wait_until
from tidegate.train.model_file import folder_name

ITEMS = [{"distance": value, "carrier": carrier} for value in (3.0, -1.0, 0.5) for carrier in ("AA", "UA")]
GATEWAY = {"x-tidegate-arm": "merge", "x-tidegate-propensity": "1.0", "x-tidegate-release": "r1"}


@dataclass
class Trio:
    """Two services and the merge service between them."""

    state: Path
    ports: dict[str, int]
    processes: dict[str, subprocess.Popen[bytes]]

    def rank(self, request_id: str, rows: object = ITEMS, at: float | None = 5.0, to: str = "merge"):
        """(status, headers, document) of one request."""
        connection = HTTPConnection("127.0.0.1", self.ports[to], timeout=20)
        body = json.dumps({"rows": rows, **({} if at is None else {"at": at})})
        connection.request("POST", "/rank", body, {"x-request-id": request_id, **GATEWAY})
        answer = connection.getresponse()
        found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(answer.read())
        connection.close()
        return found

    def shown(self, request_id: str) -> list[Prediction]:
        """What the merge service logged of a request, in the order asked."""
        token = (self.state / "token").read_text()
        assert http(self.ports["merge"], "/clock", "POST", b'{"now": 100}', token)[0] == 200
        rows = [row for row in SegmentReader(self.state / "rows").read() if isinstance(row, Prediction) and row.shown]
        return [row for row in rows if row.request_id.startswith(f"{request_id}/")]

    def owners(self, request_id: str) -> list[str | None]:
        return [row.shown.credit for row in self.shown(request_id)]


@pytest.fixture
def trio(steep: dict[str, str], state: Path) -> Iterator[Trio]:
    ports = {name: free_port() for name in ("v1", "v2", "merge")}
    common = ["--observations", str(state / "rows"), "--clock", "events", "--token-file", str(state / "token")]
    python = [sys.executable, "-m"]
    commands = {
        name: [
            *python, "tidegate.serve.service", "--model-dir", str(state / "models" / folder_name(steep[name])),
            "--name", "m", "--version", name, "--port", str(ports[name]), *common,
        ]
        for name in ("v1", "v2")
    }  # fmt: skip
    sides = ["--champion", f"v1={ports['v1']}", "--challenger", f"v2={ports['v2']}"]
    commands["merge"] = [
        *python, "tidegate.serve.merge", "--name", "m", "--port", str(ports["merge"]), *sides, *common
    ]  # fmt: skip
    started = Trio(state, ports, {name: subprocess.Popen(command) for name, command in commands.items()})
    try:
        for port in ports.values():
            assert wait_until(lambda port=port: http(port, "/readyz")[0] == 200, 60)
        yield started
    finally:
        for process in started.processes.values():
            process.kill()
            process.wait()


def test_a_mixed_list_is_the_team_draft_of_the_two_lists(trio: Trio, steep: dict[str, str]) -> None:
    alone = [[row["rank"] for row in trio.rank("q", to=side)[2]["rows"]] for side in ("v1", "v2")]
    assert alone[0] != alone[1]
    first = set()
    for number in range(8):
        name = f"q-{number}"
        status, headers, document = trio.rank(name)
        assert status == 200
        assert (headers["x-tidegate-model"], headers["x-tidegate-digest"]) == ("m@v1", steep["v1"])
        assert headers["x-request-id"] == name
        assert document["model"] == "m@v1"
        mixed = team_draft(*map(by_rank, alone), name)
        assert [row["rank"] for row in document["rows"]] == mixed.ranks()
        rows = trio.shown(name)
        assert [row.request_id for row in rows] == [f"{name}/{item}" for item in range(len(ITEMS))]
        assert [row.shown.credit for row in rows] == [("v1", "v2")[owner] for owner in mixed.owners()]
        assert [row.shown.rank for row in rows] == mixed.ranks()
        assert {(row.version, row.arm, row.release, row.endpoint, row.time) for row in rows} == {
            ("merge", "merge", "r1", "rank", 5.0)
        }
        assert all(None not in row.shown.took for row in rows)
        first.add(mixed.owner[0])
    assert first == {0, 1}, "both begin now and then"


def test_the_models_own_rows_are_no_evidence(trio: Trio) -> None:
    trio.rank("q")
    assert wait_until(lambda: len(SegmentReader(trio.state / "rows").read()) == 3 * len(ITEMS), 30)
    own = [r for r in SegmentReader(trio.state / "rows").read() if isinstance(r, Prediction) and not r.shown]
    assert {(row.version, row.arm, row.release, row.endpoint) for row in own} == {
        ("v1", None, None, "rank"),
        ("v2", None, None, "rank"),
    }


@pytest.mark.parametrize(("fault", "broken", "whole"), [(signal.SIGKILL, "v1", "v2"), (signal.SIGSTOP, "v2", "v1")])
def test_one_that_fails_or_stands_still_costs_no_user_an_answer(
    trio: Trio, fault: signal.Signals, broken: str, whole: str
) -> None:
    os.kill(trio.processes[broken].pid, fault)
    expected = [row["rank"] for row in trio.rank("q", to=whole)[2]["rows"]]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(trio.rank, [f"q-{number}" for number in range(24)]))
    assert {status for status, _, _ in answers} == {200}
    assert {headers["x-tidegate-model"] for _, headers, _ in answers} == {f"m@{whole}"}
    assert all([row["rank"] for row in document["rows"]] == expected for _, _, document in answers)
    for row in trio.shown("q-7"):
        assert row.shown.credit is None
        assert [took is None for took in row.shown.took] == [broken == "v1", broken == "v2"]


def test_bad_input_is_refused_as_the_model_refuses_it_and_is_nobodys_fault(trio: Trio) -> None:
    status, headers, document = trio.rank("q", rows=[{"distance": "far"}])
    assert (status, document) == (400, trio.rank("q", rows=[{"distance": "far"}], to="v1")[2])
    assert headers["x-tidegate-model"] == "m@v1"
    assert trio.shown("q") == []
    status, _, document = trio.rank("q", at=None)
    assert (status, document["error"].split(":")[0]) == (400, "at")
    for method, path, expected in (("GET", "/rank", 405), ("POST", "/predict", 404), ("GET", "/metrics", 200)):
        assert http(trio.ports["merge"], path, method, b"{}" if method == "POST" else None)[0] == expected


def test_without_both_models_it_is_503_and_logged_as_an_error(trio: Trio) -> None:
    for name in ("v1", "v2"):
        trio.processes[name].kill()
        trio.processes[name].wait()
    status, _, document = trio.rank("q")
    assert (status, document) == (503, {"error": "neither model answered"})
    (row,) = trio.shown("q")
    assert (row.error, row.shown.took) == (True, (None, None))


def test_sigterm_ends_it_with_a_finished_log(trio: Trio) -> None:
    trio.rank("q")
    trio.processes["merge"].send_signal(signal.SIGTERM)
    assert trio.processes["merge"].wait(30) == 0
    reader = SegmentReader(trio.state / "rows")
    assert sum(row.shown is not None for row in reader.read() if isinstance(row, Prediction)) == len(ITEMS)


@pytest.mark.parametrize(
    ("more", "line"),
    [(("--champion", "v1"), "version: got 'v1', takes VERSION=PORT"), (("--token-file", "/nowhere"), "--token-file")],
)
def test_a_wrong_start_is_one_line_and_status_2(tmp_path: Path, more: tuple[str, ...], line: str) -> None:
    words = [
        "--name",
        "m",
        "--champion",
        "v1=1",
        "--challenger",
        "v2=2",
        "--observations",
        str(tmp_path),
        "--port",
        "0",
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "tidegate.serve.merge", *words, "--port", "0", *more],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, len(ended.stderr.strip().splitlines())) == (2, 1)
    assert line in ended.stderr


def merged(digests: dict[str, str]) -> Plan:
    backends = tuple(Backend(version, digests[version]) for version in ("v1", "v2"))
    return Plan("m", backends, (("v1", 1.0),), release="r1", merge=("v1", "v2"))


def ask(port: int, path: str):
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", path, json.dumps({"rows": ITEMS, "at": 5}), {"x-tidegate-arm": "v2"})
    answer = connection.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(answer.read())
    connection.close()
    return found


def test_the_target_starts_it_routes_only_rank_to_it_and_starts_it_again(
    steep: dict[str, str], state: Path, target: LocalTarget
) -> None:
    target.apply(merged(steep))
    assert target.observe().merge == ("v1", "v2")
    status, headers, _ = ask(target.port, "/rank")
    assert ask(target.port, "/predict")[0] == status == 200
    assert target.mark(10.0) == 10.0
    rows = [row for row in SegmentReader(state / "observations" / "predictions").read() if isinstance(row, Prediction)]
    shown = [row for row in rows if row.shown]
    assert {(row.request_id.rpartition("/")[0], row.arm, row.release) for row in shown} == {
        (headers["x-request-id"], "merge", "r1")
    }
    assert {(row.version, row.arm, row.release) for row in rows if row.endpoint is None} == {("v1", "v1", None)}
    (merge,) = target._of("merge")
    os.kill(merge.pid, signal.SIGKILL)
    assert wait_until(lambda: target.observe().merge == (), 30)
    target.apply(merged(steep))
    assert target.observe().merge == ("v1", "v2")
    assert ask(target.port, "/rank")[0] == 200
    target.apply(Plan("m", (Backend("v1", steep["v1"]),), (("v1", 1.0),)))
    assert (target._of("merge"), target.observe().merge) == ([], ())
    assert ask(target.port, "/rank")[1]["x-tidegate-model"].endswith("@v1")
