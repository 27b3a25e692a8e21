"""A/B/C with cookies, a canary region by region and a client that forges, through a real Envoy and real services.

What the services log is folded as the controller folds it, and the machine decides on it.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path

from tiny_models import write_model

from tidegate.controller.evidence import ReleaseEvidence
from tidegate.observations import Label, Prediction, SegmentReader
from tidegate.release import actions, commands
from tidegate.release.evidence import Evidence
from tidegate.release.machine import command, open_release, step
from tidegate.release.stages import Release, Version
from tidegate.release.traffic import wanted
from tidegate.spec import ReleaseSpec
from tidegate.targets.local import LocalTarget
from tidegate.targets.processes import wait_until

HOUR = 3600.0
JUDGE = {"loss": {"margin": 0.05}, "errors": {"margin": "10%"}}


def opened(digests: Mapping[str, str], *stages: dict, names: Sequence[str]) -> Release:
    spec = ReleaseSpec.model_validate(
        {"stages": stages, "block": None, "minDuration": "1h", "labelDeadline": "1h", "judge": JUDGE}
    )
    champion, *challengers = (Version(name, digests[name]) for name in names)
    return open_release("r1", "flight-delay", champion, tuple(challengers), spec, 0.0)


class Client:
    """A browser, as far as it matters: one connection, its cookies, its headers. Time goes on with every request."""

    clock = itertools.count(1)

    def __init__(self, port: int, distance: float = 0.5, **headers: str) -> None:
        self.connection, self.distance = HTTPConnection("127.0.0.1", port, timeout=20), distance
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.cookies: dict[str, str] = {}
        self.seen: list[tuple[int, str, str]] = []

    def ask(self, at: float | None = None, path: str = "/predict", rows: int = 1, **more: str) -> tuple[int, str, str]:
        """(status, version, request id) of one request about `rows` equal rows."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {**self.headers, **{k.replace("_", "-"): v for k, v in more.items()}}
        row = {"distance": self.distance, "carrier": "UA", "dep hour": 7}
        body = json.dumps({"rows": [row] * rows, "at": next(self.clock) if at is None else at})
        self.connection.request("POST", path, body, {**headers, **({"cookie": cookie} if cookie else {})})
        answer = self.connection.getresponse()
        answer.read()
        if brought := answer.getheader("set-cookie"):
            name, _, value = brought.partition(";")[0].partition("=")
            self.cookies[name] = value
        version = (answer.getheader("x-tidegate-model") or "").rpartition("@")[2]
        self.seen.append((answer.status, version, answer.getheader("x-request-id") or ""))
        return self.seen[-1]


class Log:
    """What was logged and told so far, as evidence of a release."""

    def __init__(self, target: LocalTarget, state: Path, release: Release) -> None:
        self.target, self.reader = target, SegmentReader(state / "observations" / "predictions")
        self.gathered, self.rows, self.now = ReleaseEvidence(release.to_json()), [], 0.0

    def look(self, served: int, copies: int = 0) -> tuple[Evidence, float]:
        """The evidence once `served` answers to users and `copies` are logged; every outcome is 1, all of them mature.

        A copy that came only after its request has matured would count as missing.
        """

        def complete() -> bool:
            self.target.mark(1e6)
            new = [row for row in self.reader.read() if isinstance(row, Prediction)]
            self.rows += new
            labels = [Label(row.request_id, row.time, row.time, 1.0, "observed") for row in new]
            self.gathered.add([row for row in new if row.release], labels)
            answers = sum(row.version == row.arm for row in self.rows)
            return answers >= served and len(self.rows) - answers >= copies

        assert wait_until(complete, 30, every=0.05)
        self.now = max(row.time for row in self.rows) + 2 * HOUR
        return Evidence.from_json(self.gathered.at(self.now)), self.now


ABC = {
    "ab": {
        "arms": {"champion": "40%", "a": "30%", "b": "30%"}, "sticky": {"cookie": "tidegate-arm"}, "requests": 400,
    }
}  # fmt: skip


def test_three_arms_keep_their_clients_and_the_better_of_two_is_promoted_by_a_person(
    target: LocalTarget, state: Path, digests: dict[str, str]
) -> None:
    # every outcome is 1: v1.1 is better than v1, and v2 better than both
    release = opened(digests, ABC, {"approval": {}}, names=("v1", "v2", "v1.1"))
    target.apply(wanted(release))
    log, clients = Log(target, state, release), []
    while True:
        for _ in range(300):
            clients.append(client := Client(target.port))
            for _ in range(2):
                assert client.ask()[0] == 200
            client.connection.close()
        evidence, now = log.look(sum(len(client.seen) for client in clients))
        release, done, _ = step(release, evidence, now)
        if done or len(clients) > 2500:
            break
    assert [type(action) for action in done] == [actions.Supersede, actions.EnterStage]
    assert (done[0].version, done[0].by, release.state) == ("v1.1", "v2", "approval")

    by_id = {row.request_id: row for row in log.rows}
    drawn = Counter()
    for client in clients:
        assert len({version for _, version, _ in client.seen}) == 1, "a client changed its arm"
        first, *later = (by_id[f"{name}/0"] for _, _, name in client.seen)
        assert (first.returning, {row.returning for row in later}) == (False, {True})
        assert {(row.arm, row.propensity, row.weights) for row in (first, *later)} == {
            (first.version, {"v1": 0.4, "v2": 0.3, "v1.1": 0.3}[first.version], "v1=0.4,v2=0.3,v1.1=0.3")
        }
        drawn[first.version] += 1
    for version, share in {"v1": 0.4, "v2": 0.3, "v1.1": 0.3}.items():
        deviation = math.sqrt(len(clients) * share * (1 - share))
        assert abs(drawn[version] - share * len(clients)) <= 4.5 * deviation
    counts = evidence.at("split@v2").counts
    assert counts.challenger == drawn["v2"], "only a client's first request is an observation"

    for nobody in (commands.Approve("", "why"), commands.Approve("Ada", "")):
        assert isinstance(command(release, nobody, now)[1][0], actions.Refuse)
    assert step(release, evidence, now)[1] == ()
    target.apply(wanted(release))
    stays = next(client for client in clients if client.seen[0][1] == "v2")
    assert {Client.ask(stays)[1] for _ in range(5)} == {"v2"}, "during the approval too"
    release, done = command(release, commands.Approve("Ada", "looked at both"), now)
    assert (done[0].version, release.state, release.by) == ("v2", "watch", "Ada")
    target.apply(wanted(release))
    assert {Client(target.port).ask()[1] for _ in range(10)} == {"v2"}


CANARY = {
    "canary": {"weights": ["20%", "50%"], "requests": 150, "regions": {"header": "x-region", "order": ["us", "eu"]}}
}


def test_a_canary_goes_region_by_region_and_one_that_fails_in_eu_leaves_both(
    target: LocalTarget, state: Path, digests: dict[str, str]
) -> None:
    # answers 500 to a negative distance, as only eu sends it
    digests = {**digests, "v3": write_model(state / "models", log_of_first=True)}
    release = opened(digests, CANARY, names=("v1", "v3"))
    log, steps = Log(target, state, release), []
    everybody = {
        region: Client(target.port, -1.0 if region == "eu" else 0.5, x_region=region) for region in ("us", "eu")
    }
    everybody[""] = Client(target.port)
    target.apply(wanted(release))
    while not release.ended and len(log.rows) < 4000:
        for client in everybody.values():
            for _ in range(40):
                client.ask()
        evidence, now = log.look(sum(len(client.seen) for client in everybody.values()))
        release, done, judgement = step(release, evidence, now)
        if done:
            steps.append((release.state, release.step))
            target.apply(wanted(release))
    assert steps == [("canary", 1), ("canary", 2), ("aborted", 2)]
    # by chance the proof is there in eu or on the whole first
    assert judgement.sentence.removeprefix("in eu: ").startswith("proved worse than the champion: errors")

    seen = defaultdict(Counter)
    for row in log.rows:
        seen[row.region, row.propensity if row.version == "v3" else None][row.version] += 1
        assert row.arm == row.version
    assert {region for region, share in seen if share} == {"us", "eu"}
    assert {share for region, share in seen if region == "us" and share} == {0.2, 0.5}
    assert {share for region, share in seen if region == "eu" and share} == {0.2}
    first_in_eu = min(row.time for row in log.rows if row.region == "eu" and row.version == "v3")
    assert min(row.time for row in log.rows if row.propensity == 0.5) < first_in_eu
    assert {status for status, _, _ in everybody["us"].seen + everybody[""].seen} == {200}
    assert all(row.release is None for row in log.rows if row.region is None), "who is in no region is no evidence"
    assert {client.ask()[1] for client in everybody.values() for _ in range(10)} == {"v1"}


FORGED = {
    "x_request_id": "forged", "x_tidegate_arm": "v2", "x_tidegate_propensity": "0.001", "x_tidegate_release": "r0",
    "x_tidegate_weights": "v1=0.1,v2=0.9", "x_tidegate_region": "eu", "x_tidegate_returning": "1",
    "x_envoy_retry_on": "5xx", "x_envoy_upstream_rq_timeout_ms": "1",
}  # fmt: skip


def test_a_client_that_forges_changes_no_row_of_evidence(
    target: LocalTarget, state: Path, digests: dict[str, str]
) -> None:
    shadow = {"shadow": {"requests": 10_000}}
    release = opened(digests, shadow, {"canary": {"weights": ["50%"]}}, names=("v1", "v2"))
    target.apply(wanted(release))
    log, honest = Log(target, state, release), Client(target.port)
    another = honest.ask()[2]
    forgers = [
        Client(target.port, **FORGED),
        Client(target.port, **{**FORGED, "x_request_id": another}),
        Client(target.port, host="flight-delay-shadow"),
        Client(target.port, **FORGED, host="v2-shadow"),
        Client(target.port, cookie="tidegate-arm=r1.v2"),
    ]
    for client in [honest, *forgers] * 20:
        assert client.ask()[0] == 200
    sent = 1 + 20 * (1 + len(forgers))
    evidence, _ = log.look(sent, copies=sent)
    found = {
        (row.version, row.arm, row.propensity, row.release, row.weights, row.region, row.returning) for row in log.rows
    }
    assert found == {(version, "v1", 1.0, "r1", None, None, False) for version in ("v1", "v2")}
    ids = Counter(row.request_id for row in log.rows)
    told = {f"{name}/0" for client in [honest, *forgers] for _, _, name in client.seen}
    assert set(ids) == told
    assert set(ids.values()) == {2}, "every request was answered and copied once"
    counts = evidence.at("shadow").counts
    assert (counts.requests, counts.orphans, counts.missing, counts.matured) == (sent, 0, 0, sent)

    # on the split: who forges is drawn like everybody else
    split = opened(digests, {"canary": {"weights": ["50%"]}}, names=("v1", "v2"))
    target.apply(wanted(split))
    before = len(log.rows)
    for client in forgers * 60:
        assert client.ask()[0] == 200
    log.look(sent + 60 * len(forgers))
    rows = log.rows[before:]
    assert {(row.propensity, row.release, row.weights, row.region, row.returning) for row in rows} == {
        (0.5, "r1", None, None, False)
    }
    assert all(row.version == row.arm for row in rows)
    given = sum(row.version == "v2" for row in rows)
    assert abs(given - len(rows) / 2) <= 4.5 * math.sqrt(len(rows) / 4)


def test_a_request_of_many_rows_is_one_observation(target: LocalTarget, state: Path, digests: dict[str, str]) -> None:
    release = opened(digests, {"shadow": {"requests": 5}}, {"canary": {"weights": ["50%"]}}, names=("v1", "v2"))
    log, client, asked = Log(target, state, release), Client(target.port), [1, 30, 12]
    target.apply(wanted(release))
    for rows in asked:
        assert client.ask(rows=rows)[0] == 200
    evidence, _ = log.look(sum(asked), copies=sum(asked))
    shadow = evidence.at("shadow")
    assert (shadow.counts.requests, shadow.counts.matured, shadow.counts.missing) == (3, 3, 0)
    assert {name: shadow.state(name).n for name in ("errors", "loss")} == {"errors": 3, "loss": 3}
    by_version = {row.version: row.score for row in log.rows}
    difference = (1 - by_version["v2"]) ** 2 - (1 - by_version["v1"]) ** 2
    assert abs(shadow.state("loss").S - 3 * difference) < 1e-9

    split = opened(digests, {"canary": {"weights": ["50%"]}}, names=("v1", "v2"))
    target.apply(wanted(split))
    for rows in asked * 3:
        assert client.ask(rows=rows)[0] == 200
    evidence, _ = log.look(4 * sum(asked))
    found = evidence.at("split")
    assert found.counts.requests == found.state("sample_ratio").n == found.state("loss").n == 9
