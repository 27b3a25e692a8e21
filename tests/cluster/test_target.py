"""Target `kubernetes` on a real cluster: the contract, and what only a cluster can show."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from cluster.space import SERVING, TOKEN, Space
from contract.target import BROKEN, TargetContract, plan

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_models import write_model

from tidegate.errors import Conflict, NotReady
from tidegate.observations import Prediction, read_segment
from tidegate.register.models import public_key, sign
from tidegate.targets import manifests
from tidegate.targets.kubernetes import EPOCH, POSITION, KubernetesTarget
from tidegate.targets.manifests import Place
from tidegate.targets.processes import wait_until
from tidegate.train.model_file import folder_name, write_manifest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
MODEL = "flight-delay"


@pytest.fixture(scope="module")
def store(space: Space, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], str]:
    """Digests of signed versions in the volume, and the key; v9's reference rows are answered otherwise."""
    state = tmp_path_factory.mktemp("state")
    models = state / "models"
    digests = {version: write_model(models, bias) for version, bias in {"v1": 0.1, "v1.1": 0.2, "v2": 0.3}.items()}
    broken = models / folder_name(write_model(models, 0.4))
    reference = json.loads((broken / "reference.json").read_text())
    reference["scores"][0] += 0.1
    (broken / "reference.json").write_text(json.dumps(reference))
    digests[BROKEN] = write_manifest(broken)
    broken.rename(models / folder_name(digests[BROKEN]))
    digests["unsigned"] = write_model(models, 0.5)
    for version, digest in digests.items():
        signed = digest if version != "unsigned" else digests["v1"]
        (models / folder_name(digest) / "signature").write_text(sign(signed, state))
    key = public_key(state).hex()
    shutil.rmtree(state / "keys")
    (state / "observations" / "predictions").mkdir(parents=True)
    space.fill(state, MODEL)
    return digests, key


@pytest.fixture(scope="module")
def digests(store: tuple[dict[str, str], str]) -> dict[str, str]:
    return store[0]


@pytest.fixture(scope="module")
def leader() -> list[int]:
    """Epoch and position that the target of a test stamps with."""
    return [1, 1]


@pytest.fixture
def target(
    space: Space, store: tuple[dict[str, str], str], leader: list[int],
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch,
) -> Iterator[KubernetesTarget]:  # fmt: skip
    if request.function is not test_no_request_is_lost_from_shadow_over_canary_to_everything:
        monkeypatch.setattr(manifests, "PRE_STOP", 1)  # where nobody asks, no proxy has to forget a pod first
    found = target_of(space, store[1], leader)
    yield found
    leader[0] += 1  # whatever a test left stamped
    found.leave()


def target_of(space: Space, key: str, leader: list[int]) -> KubernetesTarget:
    place = Place(MODEL, space.name, SERVING, MODEL, "events", public_keys=(key,))
    return KubernetesTarget(space.cluster, place, lambda: (leader[0], leader[1]), token=TOKEN)


class Client:
    """Asks the Gateway, over one connection that is made anew when it breaks."""

    def __init__(self, place: tuple[str, int]) -> None:
        self._connection = HTTPConnection(*place, timeout=20)

    def ask(self, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str]]:
        try:
            self._connection.request("POST", "/predict", '{"rows":[{}],"at":5}', headers or {})
            answer = self._connection.getresponse()
            answer.read()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}
        except OSError:
            self._connection.close()
            return 0, {}


def rows(space: Space, tmp_path: Path) -> list[Prediction]:
    """The prediction log of every pod that ever served here."""
    log = f"pathlib.Path('/state/{MODEL}/observations/predictions').glob('*.jsonl')"
    program = f"import json,pathlib; print(json.dumps({{p.name: p.read_text() for p in {log}}}))"
    found: list[Prediction] = []
    for name, text in json.loads(space.python(program)).items():
        (tmp_path / name).write_text(text)
        found += [row for row in read_segment(tmp_path / name) if isinstance(row, Prediction)]
    return found


class TestKubernetesTarget(TargetContract):
    """The contract, on a real Gateway and real pods."""


def test_a_version_that_is_not_signed_by_a_trusted_key_never_starts(
    target: KubernetesTarget, digests: dict[str, str]
) -> None:
    target.apply(plan(digests, {"v1": 1.0}))
    before = target.observe()
    with pytest.raises(NotReady, match="not signed by a trusted key"):
        target.apply(plan(digests, {"v1": 1.0}, mirrors=("unsigned",), release="r1"))
    assert target.observe() == before


def test_a_request_carries_its_propensity_and_a_forged_one_is_overwritten(
    space: Space, target: KubernetesTarget, digests: dict[str, str], tmp_path: Path
) -> None:
    target.apply(plan(digests, {"v1": 0.75, "v2": 0.25}, release="r7"))
    client = Client(space.address())
    assert wait_until(lambda: client.ask()[0] == 200, 30)
    forged = {"x-tidegate-arm": "v9", "x-tidegate-propensity": "0.001", "x-tidegate-release": "r0"}
    ids = {}
    for _ in range(400):
        status, headers = client.ask(forged)
        assert status == 200
        ids[headers["x-request-id"] + "/0"] = headers["x-tidegate-model"].rpartition("@")[2]
    assert target.mark(10.0) == 10.0
    found = {row.request_id: row for row in rows(space, tmp_path) if row.request_id in ids}
    assert len(found) == 400
    for request_id, version in ids.items():
        row = found[request_id]
        assert (row.version, row.arm, row.release) == (version, version, "r7")
        assert row.propensity == {"v1": 0.75, "v2": 0.25}[version]
    assert 60 < Counter(ids.values())["v2"] < 140


def test_no_request_is_lost_from_shadow_over_canary_to_everything(
    space: Space, target: KubernetesTarget, digests: dict[str, str]
) -> None:
    target.apply(plan(digests, {"v1": 1.0}))
    place = space.address()
    # each of the proxy's threads has the route in its own time
    assert wait_until(lambda: all(Client(place).ask()[0] == 200 for _ in range(20)), 30)
    stop, statuses, models = threading.Event(), Counter[int](), Counter[str]()

    def load() -> None:
        client = Client(place)
        while not stop.is_set():
            status, headers = client.ask()
            statuses[status] += 1
            models[headers.get("x-tidegate-model", "")] += 1

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        target.apply(plan(digests, {"v1": 1.0}, mirrors=("v2",), release="r1"))
        for weight in (0.01, 0.5):
            target.apply(plan(digests, {"v1": 1 - weight, "v2": weight}, release="r1"))
        target.apply(plan(digests, {"v2": 1.0}))
        assert target._pods.wait(lambda: len(target._deployments()) == 1 or None, 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}, statuses
    assert set(models) == {f"{MODEL}@v1", f"{MODEL}@v2"}
    assert sum(statuses.values()) > 500


def test_a_deposed_leader_changes_nothing(
    space: Space,
    store: tuple[dict[str, str], str],
    target: KubernetesTarget,
    digests: dict[str, str],
    leader: list[int],
) -> None:
    target.apply(plan(digests, {"v1": 1.0}))
    later = target_of(space, store[1], [leader[0] + 1, leader[1]])
    later.apply(plan(digests, {"v1": 1.0}))
    before = later.observe()
    with pytest.raises(Conflict):
        target.apply(plan(digests, {"v2": 1.0}))
    with pytest.raises(Conflict):
        target._leave(target._deployments())
    assert later.observe() == before
    route = space.cluster.get("HTTPRoute", MODEL)
    assert route["metadata"]["annotations"][EPOCH] == str(leader[0] + 1)
    leader[0] += 1


def test_a_write_to_what_another_one_wrote_meanwhile_is_refused_by_the_server(
    space: Space, target: KubernetesTarget, digests: dict[str, str], leader: list[int]
) -> None:
    """The leader reads, stands still, another one takes over and writes: what the first one sends then is refused."""
    target.apply(plan(digests, {"v1": 1.0}))
    read = space.cluster.get("HTTPRoute", MODEL)
    stamps = {EPOCH: str(leader[0] + 1), POSITION: "1"}
    metadata = {"resourceVersion": read["metadata"]["resourceVersion"], "annotations": stamps}
    space.cluster.merge("HTTPRoute", MODEL, {"metadata": metadata})
    with pytest.raises(Conflict):
        space.cluster.apply({
            "apiVersion": read["apiVersion"], "kind": "HTTPRoute", "spec": read["spec"],
            "metadata": {"name": MODEL, "resourceVersion": read["metadata"]["resourceVersion"]},
        })  # fmt: skip
    leader[0] += 1


def test_what_others_edit_or_delete_is_seen_and_repaired(
    space: Space, target: KubernetesTarget, digests: dict[str, str]
) -> None:
    wanted = plan(digests, {"v1": 0.9, "v2": 0.1}, release="r1")
    target.apply(wanted)
    before = target.observe()
    route = json.dumps({"spec": {"rules": [{"backendRefs": [{"name": "flight-delay-v2", "port": 8080}]}]}})
    for words in (
        ("patch", "httproute", MODEL, "--type=merge", "--patch", route),
        ("delete", "httproute", MODEL),
        ("delete", "service", "flight-delay-v2"),
        ("scale", "deployment", "flight-delay-v1", "--replicas=0"),
        ("set", "image", "deployment/flight-delay-v1", "server=localhost/pause:1"),
    ):
        space.kubectl(*words)
        assert wait_until(lambda: target.observe() != before, 10), words
        target.apply(wanted)
        assert target.observe() == before, words


def test_a_pod_that_was_killed_holds_no_time_back(
    space: Space, target: KubernetesTarget, digests: dict[str, str]
) -> None:
    target.apply(plan(digests, {"v1": 1.0}))
    assert target.mark(20.0) == 20.0
    (pod,) = target._pods.read()
    space.kubectl("delete", "pod", pod.name, "--grace-period=0", "--force", "--wait=false")
    assert wait_until(lambda: target.mark(30.0) == 30.0, 30)
    assert wait_until(lambda: [one.ready for one in target.observe().running] == [1], 60, every=0.5)
    assert target.mark(40.0) == 40.0
