"""1,000 Model objects under one operator, on a real API server: installed, after kill -9 of the operator, and at rest.

API server, controllers, scheduler, Gateway and operator are the real ones of the test cluster, which must be up. No
machine here bears 1,000 servers: the pods belong to a node that is none, whose part of a pod's life (it runs, it is
ready, it ends) is played here. Every model has a champion, whose Deployment, Service, budget and HTTPRoute the operator
looks after. The operator is a process of this machine, so that its cost can be measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.fleet import until
from benchmarks.results import ROOT, Budget, Result, say
from k8s.cluster.commands import kubectl
from k8s.cluster.places import KUBECONFIG, NODE_NAME, READY
from tests.cluster.space import gateway_in
from tests.simulated_loop import START, candidate
from tidegate.errors import UserError
from tidegate.journal.events import Draft
from tidegate.journal.store import open_journal
from tidegate.spec import load_model
from tidegate.targets.kubernetes import EPOCH
from tidegate.targets.processes import free_port

MODELS, CHUNK = 1000, 100
REST = 600.0
"""Seconds at rest in which nothing may be written."""
WAIT = 1800.0
NODE = "hollow"
KINDS = ("models", "releases", "deployments", "replicasets", "services", "poddisruptionbudgets", "httproutes", "pods",
         "events")  # fmt: skip
Json = dict[str, Any]


class Space:
    """A namespace with 1,000 Models, and the objects that every installation has."""

    def __init__(self, stack: ExitStack) -> None:
        self.name = f"many-{uuid.uuid4().hex[:6]}"
        self.volume = f"{self.name}-state"
        stack.callback(self.remove)
        apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}})
        apply(*_state(self.name, self.volume), *gateway_in(self.name))
        kubectl("--namespace", self.name, "wait", "--for=condition=Programmed", "--timeout=180s", "gateway/tidegate")

    def get(self, kind: str) -> list[Json]:
        """Every object of a kind."""
        return list(json.loads(kubectl("--namespace", self.name, "get", kind, "--output", "json"))["items"])

    def remove(self) -> None:
        """Everything of it, the drains of an operator that is no more included."""
        names = [one["metadata"]["name"] for one in self.get("models")]
        patch = ("--type=merge", "--patch", '{"metadata":{"finalizers":null}}')
        for first in range(0, len(names), CHUNK):
            kubectl("--namespace", self.name, "patch", "model", *names[first : first + CHUNK], *patch, check=False)
        kubectl("delete", "namespace", self.name, "--wait=false")
        kubectl("delete", "persistentvolume", self.volume, "--wait=false", check=False)


def apply(*objects: Json) -> None:
    """Server-side apply."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=json.dumps(listed))


def run() -> Result:
    """Install, kill and start again, rest."""
    if not READY.exists():
        raise UserError("cluster", "not up", "make cluster-up")
    os.environ["KUBECONFIG"] = str(KUBECONFIG)
    with tempfile.TemporaryDirectory(prefix="tidegate-many-") as made, ExitStack() as stack:
        space, state = Space(stack), Path(made)
        fill_journal(state)
        stack.enter_context(hollow_node(space.name))
        operator = Process(space, state)
        stack.callback(operator.kill)
        say(f"many_models: {MODELS} Model objects")
        began = time.monotonic()
        objects = models(space.name)
        for first in range(0, MODELS, CHUNK):
            apply(*objects[first : first + CHUNK])
        until(lambda: len(epochs(space)) == MODELS, WAIT, "not every model serves")
        installed = Took(time.monotonic() - began, *operator.cost())
        say(f"many_models: all serve after {installed.seconds:.0f} s; kill -9 of the operator")
        epoch = max(epochs(space))
        operator.kill()
        operator = Process(space, state)
        stack.callback(operator.kill)
        began = time.monotonic()
        until(lambda: min(epochs(space)) > epoch, WAIT, "not every model is reconciled again")
        restarted = Took(time.monotonic() - began, *operator.cost())
        say(f"many_models: all reconciled after {restarted.seconds:.0f} s; at rest for {REST:.0f} s")
        quiet(space)
        before, cost = versions(space), operator.cost()
        time.sleep(REST)  # it is what is measured
        rest, changed = Took(REST, *operator.cost()), differing(before, versions(space))
        return told(installed, restarted, rest.since(cost), changed)


def models(namespace: str) -> list[Json]:
    """The objects; all are tests/models/quick.yaml under names of their own."""
    spec = load_model(ROOT / "tests/models/quick.yaml").model_dump(mode="json", by_alias=True, exclude_unset=True)
    found = []
    for number in range(MODELS):
        metadata = {"name": f"m{number:04d}", "namespace": namespace}
        found.append({**spec, "metadata": metadata})
    return found


def fill_journal(state: Path) -> None:
    """A candidate for each model: the operator makes it the champion."""
    journal = open_journal(state, create=True)
    for number in range(MODELS):
        journal.append(f"m{number:04d}", [Draft("register.candidate", START, candidate("v1"))], 0)
    journal.close()


# --- the operator ---------------------------------------------------------------------------------------------------


class Took:
    """Seconds by the clock, CPU seconds, bytes of memory and calls of the API of one phase."""

    def __init__(self, seconds: float, cpu: float, memory: int, calls: Mapping[str, int]) -> None:
        self.seconds, self.cpu, self.memory, self.calls = seconds, cpu, memory, calls

    def since(self, before: tuple[float, int, Mapping[str, int]]) -> Took:
        """What came after `before`."""
        calls = {key: count - before[2].get(key, 0) for key, count in self.calls.items()}
        return Took(self.seconds, self.cpu - before[0], self.memory, calls)

    def row(self, name: str) -> tuple[str, ...]:
        """As a line of the table."""
        reads = sum(count for key, count in self.calls.items() if key.startswith("GET"))
        writes = sum(self.calls.values()) - reads
        lease = sum(count for key, count in self.calls.items() if "Lease" in key and not key.startswith("GET"))
        return (name, f"{self.seconds:.0f} s", f"{self.cpu:.1f} s", f"{self.memory / 2**20:.0f} MiB", f"{reads:,}",
                f"{writes - lease:,}", f"{lease:,}")  # fmt: skip


class Process:
    """``tidegate operator``, outside the cluster."""

    def __init__(self, space: Space, state: Path) -> None:
        token, self.port = state / "operator-token", free_port()
        token.write_text("secret")
        token.chmod(0o600)
        words = ("operator", "--namespace", space.name, "--state", state, "--port", self.port, "--token-file", token,
                 "--domain", "many.test")  # fmt: skip
        log = (state / "operator.log").open("a")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tidegate.cli", *map(str, words)], stdout=log, stderr=log, start_new_session=True
        )
        self.seen = psutil.Process(self._process.pid)

    def cost(self) -> tuple[float, int, dict[str, int]]:
        """CPU seconds, memory and calls so far."""
        times = self.seen.cpu_times()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            lines = [
                line for line in answer.read().decode().splitlines() if line.startswith("tidegate_api_calls_total")
            ]
        calls = {}
        for line in lines:
            labels, _, count = line.partition("{")[2].rpartition("} ")
            calls[labels.replace('verb="', "").replace('",kind="', " ").rstrip('"')] = int(count)
        return times.user + times.system, self.seen.memory_info().rss, calls

    def kill(self) -> None:
        """Kill -9."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def epochs(space: Space) -> list[int]:
    """Each route's epoch: who leads puts its own on whatever it looks after."""
    path = f"jsonpath={{range .items[*]}}{{.metadata.annotations.{EPOCH.replace('.', chr(92) + '.')}}}{{' '}}{{end}}"
    found = kubectl("--namespace", space.name, "get", "httproutes", "--selector", "tidegate.dev/model", "-o", path)
    time.sleep(3)  # a look costs the API server something, too
    return [int(epoch) for epoch in found.split()]


def versions(space: Space) -> dict[tuple[str, str], str]:
    """The version of every object in the namespace."""
    return {
        (kind, one["metadata"]["uid"]): one["metadata"]["resourceVersion"] for kind in KINDS for one in space.get(kind)
    }


def differing(before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str]) -> list[str]:
    """The kinds of what was changed, made or deleted; events that the server forgot are none."""
    keys = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    return sorted(kind for kind, uid in keys if (kind, uid) in after or kind != "events")


def quiet(space: Space) -> None:
    """Wait until nothing changes any more for ten seconds: other controllers follow what was written."""
    deadline, before = time.monotonic() + WAIT, versions(space)
    while time.monotonic() < deadline:
        time.sleep(10)
        if (now := versions(space)) == before:
            return
        before = now
    raise AssertionError("the cluster does not come to rest")


# --- a node that is none ----------------------------------------------------------------------------------------------


@contextmanager
def hollow_node(namespace: str) -> Iterator[None]:
    """A node for the namespace's pods, of which each is ready as soon as it is bound, and gone when it is deleted."""
    from kubernetes import client, config

    config.load_kube_config(str(KUBECONFIG))
    api, ending = client.CoreV1Api(), threading.Event()
    room = {"cpu": "100k", "memory": "100Ti", "pods": str(3 * MODELS), "ephemeral-storage": "100Ti"}
    apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}})
    status = {"capacity": room, "allocatable": room, "conditions": [{
        "type": "Ready", "status": "True", "reason": "Hollow", "message": "pods of this node are played",
        "lastHeartbeatTime": _now(), "lastTransitionTime": _now(),
    }]}  # fmt: skip
    kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "--patch", json.dumps({"status": status}))
    kubectl("cordon", NODE_NAME)
    threads = [
        threading.Thread(target=_beat, args=(ending,)),
        threading.Thread(target=_play, args=(api, namespace, ending)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        kubectl("uncordon", NODE_NAME)
        for thread in threads:
            thread.join()
        kubectl("delete", "node", NODE, "--wait=false")
        kubectl("--namespace", namespace, "delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false",
                check=False)  # fmt: skip


def _beat(ending: threading.Event) -> None:
    while not ending.is_set():
        spec = {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": _now()}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                 "metadata": {"name": NODE, "namespace": "kube-node-lease"}, "spec": spec}  # fmt: skip
        apply(lease)
        ending.wait(10)


def _play(api: Any, namespace: str, ending: threading.Event) -> None:
    """The kubelet's part."""
    count = 0
    while not ending.is_set():
        pods = api.list_namespaced_pod(namespace, field_selector=f"spec.nodeName={NODE}").items
        for pod in pods:
            name = pod.metadata.name
            if pod.metadata.deletion_timestamp:
                api.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
            elif pod.status.phase == "Pending":
                count += 1
                api.patch_namespaced_pod_status(name, namespace, {"status": _ready(count)})
        ending.wait(1.0)


def _ready(count: int) -> Json:
    now = _now()
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now}
                  for kind in ("Initialized", "PodReadyToStartContainers", "ContainersReady", "Ready")]  # fmt: skip
    container = {"name": "server", "ready": True, "started": True, "restartCount": 0, "image": "hollow", "imageID": "",
                 "state": {"running": {"startedAt": now}}}  # fmt: skip
    address = f"10.250.{count // 250 % 250}.{count % 250 + 1}"
    return {"phase": "Running", "conditions": conditions, "containerStatuses": [container], "podIP": address,
            "podIPs": [{"ip": address}], "startTime": now}  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _state(namespace: str, volume: str) -> list[Json]:
    def made(version: str, kind: str, name: str, **more: Any) -> Json:
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **more}

    modes, size = ["ReadWriteMany"], {"storage": "1Gi"}
    disk = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": {
        "capacity": size, "accessModes": modes, "storageClassName": "", "hostPath": {"path": f"/var/empty/{volume}"},
    }}  # fmt: skip
    claim = {"accessModes": modes, "resources": {"requests": size}, "storageClassName": "", "volumeName": volume}
    return [
        disk,
        made("v1", "PersistentVolumeClaim", "tidegate-state", spec=claim),
        # the operator is outside; its Service is there as routes name it
        made("v1", "Service", "tidegate-operator", spec={"ports": [{"port": 8090}]}),
        made("v1", "ServiceAccount", "tidegate-serving"),
        made("v1", "Secret", "tidegate-token", stringData={"token": uuid.uuid4().hex}),
    ]


def told(installed: Took, restarted: Took, rest: Took, changed: list[str]) -> Result:
    """The table."""
    rows = [
        installed.row("installed: applied until all serve"),
        restarted.row("operator killed: started until all are reconciled"),
        rest.row(f"at rest, {REST / 60:.0f} minutes"),
    ]
    writes = [key for key, count in rest.calls.items() if count and "Lease" not in key and not key.startswith("GET")]
    found = ", ".join([*sorted(set(changed)), *writes]) or "none"
    notes = (
        "CPU and memory are the operator's; an idle model costs nothing between two looks, one a minute.",
        "A new leader puts its epoch on each route and Deployment: from then on an old one can write none of them.",
        "Pods are played (a node that is none); everything else is real, Envoy Gateway with 1,000 routes included.",
    )
    budget = Budget("objects written at rest, but for Leases", "none", found, found == "none")
    columns = ("phase", "by the clock", "operator's CPU", "its memory", "reads", "writes", "of a Lease")
    figures = {name: vars(took) for name, took in (("installed", installed), ("restarted", restarted), ("rest", rest))}
    return Result("many_models", f"{MODELS:,} models, one operator", columns, rows, [budget], notes, figures)
