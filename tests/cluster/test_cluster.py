"""The test cluster itself: what Tidegate's manifests may rely on, and what nobody may do in it."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from importlib.metadata import version

import pytest

from k8s.cluster import down, node, places
from k8s.cluster.__main__ import main
from tests.cluster.conftest import SAFE, Cluster, pod

pytestmark = pytest.mark.cluster
SERVING, COMPONENTS = "localhost/tidegate/serving:0.1.0", "localhost/tidegate/components:0.1.0"

ECHO = """
import json, socketserver
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        body = json.dumps({key.lower(): value for key, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("", 8000), Echo).serve_forever()
"""
"""Answers with the headers that reached it."""


@pytest.fixture(scope="module")
def shell(cluster: Cluster) -> Cluster:
    """A pod of the serving image in which commands are run."""
    cluster.apply(pod("shell", SERVING, "sleep", "3600"))
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "pod/shell")
    return cluster


def python(cluster: Cluster, code: str) -> str:
    return cluster.kubectl("exec", "shell", "--", "python", "-c", code).strip()


def test_the_node_is_ready_and_every_daemon_runs(up: None) -> None:
    assert node.node_ready("")
    assert all(node.alive().values())


def test_a_service_is_found_by_its_short_and_its_full_name(shell: Cluster) -> None:
    ask = "import socket; print(*(socket.gethostbyname(n) for n in ('{0}', '{0}.svc.cluster.local')))"
    short, full = python(shell, ask.format("kubernetes.default")).split()
    assert short == full == places.SERVICE_API


def test_a_name_of_the_outside_is_not_known(shell: Cluster) -> None:
    code = "import socket\ntry: socket.gethostbyname('example.com')\nexcept socket.gaierror as e: print(e.errno)"
    assert python(shell, code) == str(socket.EAI_NONAME)


def test_a_pod_reaches_no_address_but_the_machine_s_own(shell: Cluster) -> None:
    """The far end is a network namespace on this machine, so that the test itself sends nothing anywhere else."""
    from tests.cluster.far_end import FarEnd

    ask = "import socket\ns = socket.socket(); s.settimeout(2)\nprint(s.connect_ex(('{}', {})))"
    with FarEnd() as far:
        assert far.answers_the_node()
        assert python(shell, ask.format(*far.address)) != "0"
        with far.without_guard():
            assert python(shell, ask.format(*far.address)) == "0", "the guard, and nothing else, keeps the pod in"


def test_a_pod_that_may_become_root_is_refused(cluster: Cluster) -> None:
    careless = pod("careless", SERVING, "sleep", "1")
    careless["spec"]["securityContext"] = {}
    done = cluster.ask("create", "--filename", "-", stdin=json.dumps(careless))
    assert done.returncode != 0
    assert 'violates PodSecurity "restricted' in done.stderr
    assert "runAsNonRoot" in done.stderr


@pytest.mark.parametrize(
    "field", [{"privileged": True, "allowPrivilegeEscalation": True}, {"capabilities": {"add": ["NET_ADMIN"]}}]
)
def test_a_container_that_wants_rights_is_refused(cluster: Cluster, field: dict[str, object]) -> None:
    greedy = pod("greedy", SERVING, "sleep", "1", securityContext={**SAFE, **field})
    done = cluster.ask("create", "--filename", "-", stdin=json.dumps(greedy))
    assert done.returncode != 0
    assert "violates PodSecurity" in done.stderr


def test_a_pod_of_ours_is_nobody_without_rights_on_a_disk_that_cannot_be_written(shell: Cluster) -> None:
    status = shell.kubectl("exec", "shell", "--", "cat", "/proc/1/status")
    seen = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    assert seen["Uid"].split() == ["65534"] * 4
    assert int(seen["CapEff"], 16) == 0
    assert (seen["NoNewPrivs"].strip(), seen["Seccomp"].strip()) == ("1", "2")
    assert shell.ask("exec", "shell", "--", "touch", "/app/x").returncode != 0
    assert shell.ask("exec", "shell", "--", "touch", "/tmp/x").returncode == 0


@pytest.mark.parametrize("heavy", ["mlflow", "feast", "dvc", "kfp"])
def test_the_serving_image_has_nothing_of_training(shell: Cluster, heavy: str) -> None:
    done = shell.ask("exec", "shell", "--", "python", "-c", f"import {heavy}")
    assert done.returncode == 1
    assert f"No module named '{heavy}'" in done.stderr


def test_the_components_image_has_every_step_s_library(cluster: Cluster) -> None:
    code = "import mlflow, feast, dvc.api, kfp, kopf, psycopg, lightgbm, flights, components, pipelines; print('all')"
    code += "\nfrom importlib.metadata import version; print(version('tidegate'))"
    once = pod("libraries", COMPONENTS, "python", "-c", code)
    once["spec"]["restartPolicy"] = "Never"
    cluster.apply(once)
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s", "pod/libraries")
    assert cluster.kubectl("logs", "pod/libraries").splitlines()[-2:] == ["all", version("tidegate")]


def test_a_claimed_volume_is_writable_by_who_is_not_root_and_outlives_the_pod(cluster: Cluster) -> None:
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "state"}, "spec": claim})
    for name, command in (("writer", "echo 7 > /state/x"), ("reader", "cat /state/x")):
        one = pod(name, SERVING, "sh", "-c", command)
        one["spec"]["restartPolicy"] = "Never"
        one["spec"]["volumes"].append({"name": "state", "persistentVolumeClaim": {"claimName": "state"}})
        one["spec"]["containers"][0]["volumeMounts"].append({"name": "state", "mountPath": "/state"})
        cluster.apply(one)
        cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", f"pod/{name}")
        if name == "writer":
            cluster.kubectl("delete", "pod", name)
    assert cluster.kubectl("logs", "reader").strip() == "7"


def test_a_weighted_route_sends_each_version_s_own_header_and_drops_a_forged_one(cluster: Cluster) -> None:
    for name in ("champion", "challenger"):
        ready = {"readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1}}
        port = {"port": 8000}
        cluster.apply(
            pod(name, SERVING, "python", "-c", ECHO, **ready),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"selector": {"app": name}, "ports": [port]},
            },
        )
    cluster.apply(_gateway(), _route(champion=90, challenger=10))
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "pod/champion", "pod/challenger")
    cluster.kubectl("wait", "--for=condition=Programmed", "--timeout=90s", "gateway/door")
    url = f"http://{cluster.get('gateway/door')['status']['addresses'][0]['value']}/"
    _wait_for_answer(url)
    seen = [_get(url) for _ in range(1000)]
    arms = Counter(headers["x-tidegate-arm"] for headers in seen)
    assert set(arms) == {"champion", "challenger"}, "the client's own header reached nobody"
    # an independent draw each: outside of 55 and 150 once in more than a million times
    assert 55 < arms["challenger"] < 150
    propensities = {(headers["x-tidegate-arm"], headers["x-tidegate-propensity"]) for headers in seen}
    assert propensities == {("champion", "0.9"), ("challenger", "0.1")}


def test_up_again_changes_nothing_and_is_quick(up: None) -> None:
    before = {name: node.daemons.find(name) for name in node.DAEMONS}
    began = time.monotonic()
    assert main(["up", "--no-images"]) == 0
    assert time.monotonic() - began < 60
    assert {name: node.daemons.find(name) for name in node.DAEMONS} == before


def test_what_is_left_behind_is_found(up: None) -> None:
    """The check that `down` ends with sees a node that runs."""
    found = down.left()
    for part in (places.BRIDGE, f"table inet {places.NODE_NAME}", "process "):
        assert any(line.startswith(part) for line in found)
    assert any(line.startswith(str(places.NODE)) for line in found)


def _gateway() -> dict[str, object]:
    listener = {"name": "http", "protocol": "HTTP", "port": 80}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "door"},
        "spec": {"gatewayClassName": "tidegate", "listeners": [listener]},
    }


def _route(**weights: int) -> dict[str, object]:
    def backend(name: str, weight: int) -> dict[str, object]:
        headers = {"x-tidegate-arm": name, "x-tidegate-propensity": f"{weight / 100:g}"}
        told = {"set": [{"name": key, "value": value} for key, value in headers.items()]}
        filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": told}]
        return {"name": name, "port": 8000, "weight": weight, "filters": filters}

    rule = {"backendRefs": [backend(name, weight) for name, weight in weights.items()]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "split"},
        "spec": {"parentRefs": [{"name": "door"}], "rules": [rule]},
    }


def _get(url: str) -> dict[str, str]:
    request = urllib.request.Request(url, headers={"x-tidegate-arm": "forged"})  # noqa: S310 - http
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - http
        return dict(json.loads(answer.read()))


def _wait_for_answer(url: str) -> None:
    """Programmed is said a little before the proxy has the route."""
    patience = threading.Event()
    for _ in range(300):
        try:
            _get(url)
            return
        except (OSError, ValueError):
            patience.wait(0.1)
    pytest.fail(f"{url}: no answer within 30 s")
