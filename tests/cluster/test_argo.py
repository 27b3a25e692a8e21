"""Releases by Argo Rollouts with Tidegate's judge, without Tidegate's operator.

What becomes of a worse version, of one that nothing proves, of one that nobody asks, and of a good one.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.told import tell

from tests import manifests
from tests.kubectl import Json, apply, get, kubectl, namespace, needs_cluster, until
from tests.manifests import ROOT, build
from tests.tiny_models import WEIGHTS, write_model
from tidegate.register.models import sign
from tidegate.train.model_file import folder_name

HERE = ROOT / "k8s/integrations/argo-rollouts"
COMPONENTS = "localhost/tidegate/components:0.1.0"
POLICY = {
    "minDuration": "0s", "block": None, "labelDeadline": "2s", "stages": [{"shadow": {"requests": 300}}],
    "judge": {"loss": {"margin": 0.05}, "errors": {"margin": "5%"}},
}  # fmt: skip
# a version is judged from its first row on: each release has one of its own
MODELS = {
    "champion": (WEIGHTS, 0.1), "good": (WEIGHTS, 0.12), "unproved": (WEIGHTS, 0.13), "unasked": (WEIGHTS, 0.14),
    "worse": (tuple(-w for w in WEIGHTS), 0.1),
}  # fmt: skip

pytestmark = [*needs_cluster, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def digests(tmp_path_factory) -> dict[str, str]:
    store = tmp_path_factory.mktemp("models")
    found = {name: write_model(store, bias, weights=weights) for name, (weights, bias) in MODELS.items()}
    keys = tmp_path_factory.mktemp("keys")
    for digest in found.values():
        (store / folder_name(digest) / "signature").write_text(sign(digest, keys))
    return found | {"": str(store)}


class World:
    """The example in a namespace of its own."""

    def __init__(self, space: str, digests: dict[str, str]) -> None:
        self.space, self.digests, self.loads = space, digests, 0

    def rollout(self) -> Json:
        return get("rollout", "flight-delay", self.space)

    def phase(self) -> str:
        return str(self.rollout().get("status", {}).get("phase", ""))

    def release(self, name: str, measurements: int) -> None:
        """Change the digest, as its user does; the analysis gives up after so many measurements."""
        template = next(one for one in build(HERE) if one["kind"] == "AnalysisTemplate")
        metric = template["spec"]["metrics"][0]
        metric |= {"interval": "2s", "count": measurements, "inconclusiveLimit": measurements}
        apply(template, namespace=self.space)
        patch = {"spec": {"template": {"metadata": {"annotations": {"tidegate.dev/digest": self.digests[name]}}}}}
        kubectl(
            "patch", "rollout", "flight-delay", f"--namespace={self.space}", "--type=merge", "-p", json.dumps(patch)
        )

    def back(self) -> None:
        """To the version that serves, with nobody behind the shadow's Service."""
        self.release("champion", 1)
        until(lambda: self.phase() == "Healthy", 120, "the champion's rollout to be healthy again")
        shadows = ("get", "pods", "--selector=tidegate.dev/route=shadow", f"--namespace={self.space}", "--output=name")
        until(lambda: not kubectl(*shadows).strip(), 60, "the end of the shadow")

    def analysis(self) -> Json:
        """The newest analysis of an experiment."""
        runs = json.loads(kubectl("get", "analysisruns", f"--namespace={self.space}", "--output=json"))["items"]
        return max(runs, key=lambda one: one["metadata"]["creationTimestamp"], default={})

    def load(self, labels: bool) -> str:
        """Start a pod that asks until `end_of`; its name, when it was answered."""
        self.loads += 1
        name = f"load-{self.loads}"
        env = [
            {"name": "GATEWAY", "value": f"http://{self.gateway()}"},
            {"name": "LABELS", "value": "1" if labels else ""},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "tidegate-token", "key": "token"}}},
        ]
        apply(pod(name, ["python3", "-c", LOAD], env), namespace=self.space)
        until(lambda: get("pod", name, self.space)["status"]["phase"] != "Pending", 60, "the load's pod")
        until(lambda: "answered" in kubectl("logs", name, f"--namespace={self.space}"), 60, "the load's first answer")
        return name

    def end_of(self, load: str) -> Json:
        """End the load; what it saw: failed requests, and by version how many answers and when the first one came."""
        end = ("--", "python3", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
        kubectl("exec", load, f"--namespace={self.space}", *end)
        until(lambda: get("pod", load, self.space)["status"]["phase"] in ("Succeeded", "Failed"), 60, f"end of {load}")
        return json.loads(kubectl("logs", load, f"--namespace={self.space}").splitlines()[-1])

    def gateway(self) -> str:
        of = "gateway.envoyproxy.io/owning-gateway"
        chosen = f"--selector={of}-name=argo,{of}-namespace={self.space}"
        found = json.loads(kubectl("get", "services", "--all-namespaces", chosen, "--output=json"))["items"]
        return f"{found[0]['metadata']['name']}.{found[0]['metadata']['namespace']}.svc"


LOAD = """
import json, math, os, random, signal, time, http.client
from urllib.parse import urlsplit
host, ended = urlsplit(os.environ["GATEWAY"]).hostname, []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
headers = {"content-type": "application/json"}
chance, seen, failed, why = random.Random(1), {}, 0, []
connection, labels = http.client.HTTPConnection(host, 80, timeout=10), []
while not ended:
    row = {"distance": chance.uniform(-3, 3), "carrier": chance.choice(["AA", "UA"]), "dep hour": chance.randrange(24)}
    try:
        connection.request("POST", "/predict", json.dumps({"rows": [row]}), headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body[:200])
    except Exception as error:
        failed, why = failed + 1, [*why, repr(error)][:3]
        connection = http.client.HTTPConnection(host, 80, timeout=10)
        continue
    version = answer.headers["x-tidegate-model"]
    if not seen:
        print("answered", flush=True)
    count, first = seen.get(version, (0, time.time()))
    seen[version] = (count + 1, first)
    logit = 0.4 * row["distance"] - 0.3 * (1 + (row["carrier"] == "UA")) + 0.05 * row["dep hour"] + 0.1
    late = chance.random() < 1 / (1 + math.exp(-logit))
    labels.append({"request_id": answer.headers["x-request-id"], "value": int(late), "outcome": "observed",
                   "time": time.time()})
    if len(labels) == 50:
        if os.environ["LABELS"]:
            connection.request("POST", "/labels", json.dumps({"labels": labels}),
                               {**headers, "authorization": "Bearer " + os.environ["TOKEN"]})
            told = connection.getresponse()
            assert told.status == 200, told.read()
            told.read()
        labels = []
    time.sleep(0.005)
print(json.dumps({"failed": failed, "why": why, "seen": seen}))
"""


def pod(name: str, words: list[str], env: list[Json], **more: Any) -> Json:
    box = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "main", "image": COMPONENTS, "imagePullPolicy": "IfNotPresent", "command": words, "env": env,
        "securityContext": box, "volumeMounts": more.pop("mounts", []),
    }  # fmt: skip
    user = {"runAsNonRoot": True, "runAsUser": 65534, "fsGroup": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "securityContext": user,
            "terminationGracePeriodSeconds": 1, "containers": [container], **more}  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def fill(space: str, store: Path) -> None:
    """Put the models on the volume, as a registry had done before."""
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "tidegate-state"},
             "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}  # fmt: skip
    volumes = [{"name": "state", "persistentVolumeClaim": {"claimName": "tidegate-state"}}]
    sleeper = pod("fills", ["sleep", "600"], [], volumes=volumes, mounts=[{"name": "state", "mountPath": "/state"}])
    apply(claim, sleeper, namespace=space)
    kubectl("wait", "--for=condition=Ready", "pod/fills", f"--namespace={space}", "--timeout=60s")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(store, "models")
    unpack = (
        "import os, sys, tarfile; os.makedirs('/state/flight-delay/observations/predictions');"
        "os.makedirs('/state/flight-delay/observations/labels');"
        "tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/state/flight-delay')"
    )
    words = ["exec", "-i", "fills", f"--namespace={space}", "--", "python3", "-c", unpack]
    subprocess.run([manifests.kubectl() or "kubectl", *words], input=packed.getvalue(), check=True, timeout=60)
    kubectl("delete", "pod", "fills", f"--namespace={space}", "--now")


def quick(objects: list[Json], digest: str) -> list[Json]:
    """The example, with figures of a test in the place of weeks."""
    for one in objects:
        if one["kind"] == "ConfigMap":
            one["data"]["policy.yaml"] = yaml.safe_dump(POLICY)
        if one["kind"] == "Rollout":
            one["spec"]["template"]["metadata"]["annotations"]["tidegate.dev/digest"] = digest
            for step in one["spec"]["strategy"]["canary"]["steps"]:
                if "pause" in step:
                    step["pause"]["duration"] = "3s"
    return objects


@pytest.fixture(scope="module")
def world(digests) -> Iterator[World]:
    if "rollouts.argoproj.io" not in kubectl("get", "crds", "--output=name"):
        pytest.skip("the definitions of Argo Rollouts are not on this cluster")
    with namespace("argo") as space:
        token = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "tidegate-token"},
            "stringData": {"token": "t"},
        }
        apply(token, namespace=space)
        fill(space, Path(digests[""]))
        apply(*build(HERE / "controller"), namespace=space)
        apply(*quick(build(HERE), digests["champion"]), namespace=space)
        for name in ("argo-rollouts", "tidegate-judge"):
            kubectl("rollout", "status", f"deployment/{name}", f"--namespace={space}", "--timeout=120s", seconds=130)
        kubectl(
            "wait", "--for=condition=Programmed", "gateway/argo", f"--namespace={space}", "--timeout=120s", seconds=130
        )
        made = World(space, digests)
        until(lambda: made.phase() == "Healthy", 120, "the first version")
        made.end_of(made.load(labels=False))  # the proxy has its routes
        yield made


def seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def test_a_worse_version_is_aborted_and_answers_nobody(world):
    load = world.load(labels=True)
    world.release("worse", 40)
    until(lambda: world.phase() == "Degraded", 90, "the abort")
    assert world.analysis()["status"]["phase"] == "Failed"
    assert world.rollout()["status"]["abort"] is True
    saw = world.end_of(load)
    assert (saw["failed"], len(saw["seen"])) == (0, 1), saw
    world.back()


def test_a_version_that_nothing_proves_is_inconclusive_and_waits_for_a_person(world):
    load = world.load(labels=False)
    world.release("unproved", 6)
    until(lambda: world.phase() == "Paused", 60, "the pause")
    assert world.analysis()["status"]["phase"] == "Inconclusive"
    reasons = [one["reason"] for one in world.rollout()["status"]["pauseConditions"]]
    assert reasons == ["InconclusiveExperiment"]
    saw = world.end_of(load)
    assert (saw["failed"], len(saw["seen"])) == (0, 1), saw
    world.back()


def test_without_traffic_nothing_is_promoted(world):
    before = world.rollout()["status"]["stableRS"]
    world.release("unasked", 6)
    until(lambda: world.phase() == "Paused", 60, "the pause")
    assert world.analysis()["status"]["phase"] == "Inconclusive"
    assert world.rollout()["status"]["stableRS"] == before
    world.back()


def test_a_good_version_is_promoted_after_its_shadow_was_judged(world):
    before = world.rollout()["status"]["stableRS"]
    load = world.load(labels=True)
    world.release("good", 40)
    until(lambda: world.phase() == "Healthy" and world.rollout()["status"]["stableRS"] != before, 150, "the promotion")
    run = world.analysis()
    assert run["status"]["phase"] == "Successful"
    saw = world.end_of(load)
    assert saw["failed"] == 0, saw
    new = world.rollout()["status"]["stableRS"]
    assert saw["seen"].keys() == {f"flight-delay@{before}", f"flight-delay@{new}"}
    # nobody was answered by the new one before the judge had said promote
    judged = max(seconds(one["finishedAt"]) for one in run["status"]["metricResults"][0]["measurements"])
    assert saw["seen"][f"flight-delay@{new}"][1] > judged - 1
    tell(f"Argo Rollouts: promoted {time.time() - judged:.0f} s after the verdict; answers: {saw['seen']}")
