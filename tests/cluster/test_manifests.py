"""A real API server takes every manifest, refuses a wrong Model file by its field, and lets nobody out of his box."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.kubectl import Json, Refused, apply, get, kubectl, moved, namespace, needs_cluster, run_pod, until
from tests.manifests import OVERLAYS, ROOT, documents, overlay
from tests.planted_specs import FAULTS, planted
from tidegate.spec import load_model, parse_model

pytestmark = [*needs_cluster, pytest.mark.slow, pytest.mark.timeout(600)]

COMPONENTS = "localhost/tidegate/components:0.1.0"
MODEL = yaml.safe_load((ROOT / "k8s/models/flight-delay.yaml").read_text())
FILES = [path for folder in ("k8s/models", "tests/models", "demo") for path in sorted((ROOT / folder).glob("*.yaml"))
         if "kind: Model" in path.read_text()]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def definitions() -> None:
    kubectl("apply", "--server-side", "--force-conflicts", "--kustomize", str(ROOT / "k8s/crds"))
    kubectl(
        "wait", "--for=condition=Established", "--timeout=30s", "crd/models.tidegate.dev", "crd/releases.tidegate.dev"
    )


@pytest.fixture(scope="module")
def space(definitions) -> Iterator[str]:
    with namespace("manifests") as name:
        yield name


# --- what is taken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_of_an_overlay_is_taken(name, space):
    objects = overlay(name)
    of_all = [one for one in objects if "namespace" not in one["metadata"]]
    taken = apply(*of_all, dry=True) + apply(*moved(objects, space), dry=True)
    assert len(taken) == len(objects)


def integrations() -> list[Path]:
    """Files of objects: neither how to build them nor what is Prometheus' own."""
    found = sorted((ROOT / "k8s/integrations").rglob("*.yaml"))
    return [path for path in found if all("metadata" in one for one in documents(path))]


@pytest.mark.parametrize("path", integrations(), ids=lambda path: path.name)
def test_every_file_of_the_integrations_is_taken(path, space):
    for one in documents(path):
        one["metadata"].pop("namespace", None)
        try:
            apply(one, namespace=space, dry=True)
        except Refused as error:
            if "no matches for kind" in str(error):
                pytest.skip(f"{one['kind']} is not installed on this cluster")
            raise


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_model_file_is_taken_and_stored_as_it_is_meant(path, space):
    (stored,) = apply(yaml.safe_load(path.read_text()), namespace=space, dry=True)
    assert stored["spec"] != yaml.safe_load(path.read_text())["spec"]
    assert (
        parse_model({**stored, "metadata": {"name": stored["metadata"]["name"]}}, "stored").spec
        == load_model(path).spec
    )


def test_a_null_with_a_meaning_is_kept_and_one_without_is_the_default(space):
    document = planted(MODEL, "release.judge.loss", None)
    document = planted(document, "release.watch", None)
    document = planted(document, "release.block", None)
    (stored,) = apply(document, namespace=space, dry=True)
    release = stored["spec"]["release"]
    assert (release["judge"]["loss"], release["block"], release["watch"]) == (None, None, "7d")


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "null_for_a_default"])
@pytest.mark.parametrize("way", ["--server-side=true", "--server-side=false"])
def test_a_wrong_field_is_refused_with_its_name_before_it_is_stored(name, way, space):
    path, value, field = FAULTS[name]
    document = planted(MODEL, path, value)
    with pytest.raises(Refused) as refused:
        kubectl("apply", way, "--filename=-", f"--namespace={space}", stdin=document)
    assert field in str(refused.value)


def test_nothing_of_those_was_stored(space):
    assert not kubectl("get", "models", f"--namespace={space}", "--output=name")


def test_an_unknown_field_is_refused_server_side_whatever_the_client_asks_and_else_dropped(space):
    document = planted(MODEL, "gate.fairnes", {"protected": "carrier"})
    with pytest.raises(Refused, match=r"\.spec\.gate\.fairnes: field not declared in schema"):
        apply(document, namespace=space, dry=True, fields="Ignore")
    words = ("apply", "--validate=ignore", "--dry-run=server", "--output=json", "--filename=-", f"--namespace={space}")
    assert "fairnes" not in json.loads(kubectl(*words, stdin=document))["spec"]["gate"]


def test_a_name_that_no_version_could_be_named_by_is_refused(space):
    with pytest.raises(Refused, match=r"metadata\.name"):
        apply({**MODEL, "metadata": {"name": "a" * 64}}, namespace=space, dry=True)


# --- how it reads -----------------------------------------------------------------------------------------------------


def test_explain_says_what_a_field_means_and_how_it_is_written():
    told = " ".join(kubectl("explain", "model.spec.release").split())
    for words in ("minDuration <string>", "The release gate", "A span, for example 24h.", "<[]Object> -required-"):
        assert words in told
    assert "ENUM: brier" in " ".join(kubectl("explain", "model.spec.release.judge.loss.metric").split())
    assert "The judge's newest word." in kubectl("explain", "release.status.verdict")


def release(model: str) -> Json:
    versions = [{"version": name, "digest": "sha256:" + "0" * 64} for name in ("v1", "v1.1")]
    return {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": f"{model}-1"},
        "spec": {
            "model": model, "champion": versions[0], "challengers": versions[1:], "opened": "2013-07-01T00:00:00Z",
            "settings": MODEL["spec"]["release"],
        },
    }  # fmt: skip


def test_a_release_shows_its_way_and_is_never_changed(space):
    apply(release("read"), namespace=space)
    status = {
        "stage": "canary", "weight": "5%", "weights": [{"version": "v1.1", "share": "5%"}], "verdict": "hold",
        "reason": "too_little_evidence", "evidence": {"requests": 812, "matured": 300},
        "conditions": [{
            "type": "Progressing", "status": "True", "reason": "canary", "message": "5%",
            "lastTransitionTime": "2026-07-01T00:00:00Z",
        }],
    }  # fmt: skip
    patch = json.dumps({"status": status})
    where = (f"--namespace={space}", "release/read-1")
    kubectl("patch", *where, "--subresource=status", "--type=merge", "--patch", patch)
    table = kubectl("get", "rel", f"--namespace={space}")
    assert table.split("\n")[0].split() == [
        "NAME", "MODEL", "CHAMPION", "CHALLENGER", "STAGE", "WEIGHT", "VERDICT", "REASON", "AGE",
    ]  # fmt: skip
    assert table.split("\n")[1].split()[:8] == [
        "read-1", "read", "v1", "v1.1", "canary", "5%", "hold", "too_little_evidence",
    ]  # fmt: skip
    with pytest.raises(Refused, match="a release is never changed"):
        kubectl("patch", *where, "--type=merge", "--patch", '{"spec": {"opened": "2013-08-01T00:00:00Z"}}')
    with pytest.raises(Refused, match=r"status\.stage"):
        kubectl("patch", *where, "--subresource=status", "--type=merge", "--patch", '{"status": {"stage": "onwards"}}')
    # a status comes by its own door only
    kubectl("patch", *where, "--type=merge", "--patch", '{"status": {"verdict": "promote"}}')
    assert get("release", "read-1", space)["status"]["verdict"] == "hold"


# --- what cannot be done ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def accounts(space) -> str:
    objects = moved(overlay("local"), space)
    apply(*(one for one in objects if one["kind"] in ("ServiceAccount", "Role", "RoleBinding")))
    return space


def may(space: str, account: str, verb: str, what: str) -> bool:
    who = f"--as=system:serviceaccount:{space}:{account}"
    try:
        kubectl("auth", "can-i", verb, what, f"--namespace={space}", who, "--quiet")
    except Refused as error:
        if str(error).strip():
            raise
        return False
    return True


ACCOUNTS = ("tidegate-operator", "tidegate-run", "tidegate-serving", "tidegate-install", "default")


@pytest.mark.parametrize("account", ACCOUNTS)
def test_no_account_reads_a_secret_or_takes_another_ones_rights(accounts, account):
    asked = [("get", "secrets"), ("list", "secrets"), ("watch", "secrets"), ("update", "secrets"), ("create", "pods"),
             ("create", "pods/exec"), ("create", "serviceaccounts/token"), ("patch", "roles"),
             ("create", "rolebindings"), ("impersonate", "serviceaccounts"), ("delete", "models")]  # fmt: skip
    assert [pair for pair in asked if may(accounts, account, *pair)] == []
    assert may(accounts, account, "create", "secrets") == (account == "tidegate-install")


def test_the_operator_may_do_what_it_does_and_holds_one_lease(accounts):
    wanted = [("patch", "models"), ("patch", "models/status"), ("create", "releases"), ("patch", "httproutes"),
              ("create", "deployments"), ("create", "jobs"), ("list", "pods"), ("create", "leases"),
              ("update", "leases/tidegate-operator")]  # fmt: skip
    assert [pair for pair in wanted if not may(accounts, "tidegate-operator", *pair)] == []
    assert not may(accounts, "tidegate-operator", "update", "leases/kube-scheduler")
    assert not may("default", "tidegate-operator", "list", "models")


ASK = """
import json, ssl, sys, urllib.error, urllib.request
here = "/var/run/secrets/kubernetes.io/serviceaccount/"
token, space = open(here + "token").read(), open(here + "namespace").read()
url = f"https://kubernetes.default.svc/api/v1/namespaces/{space}/secrets"
request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
try:
    urllib.request.urlopen(request, context=ssl.create_default_context(cafile=here + "ca.crt"))
    print("read")
except urllib.error.HTTPError as error:
    print(error.code, json.load(error)["message"])
"""


def test_a_pod_that_takes_a_token_reads_no_secret_with_it(accounts):
    words = ["python3", "-c", ASK]
    said = run_pod(accounts, "thief", words, image=COMPONENTS, serviceAccountName="tidegate-run",
                   automountServiceAccountToken=True)  # fmt: skip
    assert said.startswith("403 secrets is forbidden"), said


@pytest.mark.parametrize("account", ["tidegate-serving", "tidegate-run"])
def test_pods_that_serve_or_run_have_no_token(accounts, account):
    words = ["python3", "-c", "import os; print(os.path.exists('/var/run/secrets/kubernetes.io'), os.getuid())"]
    assert run_pod(accounts, f"of-{account}", words, image=COMPONENTS, serviceAccountName=account) == "False 65534\n"


SAFE = {"name": "main", "image": COMPONENTS, "securityContext": {
    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"}}}  # fmt: skip
WORSE = {
    "privileged": {"containers": [{**SAFE, "securityContext": {"privileged": True}}]},
    "as root": {"containers": [SAFE], "securityContext": {"runAsUser": 0}},
    "folder of the node": {"containers": [SAFE], "volumes": [{"name": "n", "hostPath": {"path": "/"}}]},
    "network of the node": {"containers": [SAFE], "hostNetwork": True},
    "capability": {"containers": [{**SAFE, "securityContext": {
        **SAFE["securityContext"], "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}}]},
    "unconfined": {"containers": [{**SAFE, "securityContext": {
        **SAFE["securityContext"], "seccompProfile": {"type": "Unconfined"}}}]},
}  # fmt: skip


@pytest.mark.parametrize("how", WORSE)
def test_a_pod_that_could_leave_its_box_is_not_let_in(space, how):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worse"}, "spec": WORSE[how]}
    with pytest.raises(Refused, match='violates PodSecurity "restricted:latest"'):
        apply(pod, namespace=space)


def test_the_same_pod_without_that_is_let_in(space):
    apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fine"}, "spec": {"containers": [SAFE]}},
          namespace=space, dry=True)  # fmt: skip


def test_both_namespaces_of_ours_enforce_it():
    found = json.loads(kubectl("get", "namespaces", "--output=json"))["items"]
    labels = {one["metadata"]["name"]: one["metadata"].get("labels", {}) for one in found}
    for name in ("tidegate", "envoy-gateway-system"):
        if name in labels:
            assert labels[name].get("pod-security.kubernetes.io/enforce") == "restricted", name


# --- what an installation starts with ---------------------------------------------------------------------------------

TRY_STORES = """
import asyncio, os, socket
import nats, psycopg, sqlalchemy
for name in ("URL", "MLFLOW"):
    with sqlalchemy.create_engine(os.environ[name]).connect() as connection:
        print(connection.execute(sqlalchemy.text("select current_database()")).scalar())
try:
    sqlalchemy.create_engine(sqlalchemy.make_url(os.environ["URL"]).set(password="wrong")).connect()
except sqlalchemy.exc.OperationalError as error:
    print("password authentication failed" in str(error))
address, password = os.environ["REDIS"].split(",password=")
host, port = address.split(":")
def ask(*lines):
    with socket.create_connection((host, int(port)), 5) as redis:
        redis.sendall("".join(line + "\\r\\n" for line in lines).encode())
        return b"".join(iter(lambda: redis.recv(4096), b"")).decode().split("\\r\\n")
print(ask("PING", "QUIT")[0][:8], ask("AUTH " + password, "PING", "QUIT")[:2])
async def stream():
    client = await nats.connect(os.environ["NATS"])
    js = client.jetstream()
    await js.add_stream(name="t", subjects=["t"])
    print((await js.publish("t", b"x")).seq)
    await client.close()
    async def quiet(error): pass
    try:
        wrong = "nats://wrong@" + os.environ["NATS"].split("@")[1]
        await nats.connect(wrong, allow_reconnect=False, error_cb=quiet)
    except Exception as error:
        print("Authorization" in repr(error))
asyncio.run(stream())
"""


def test_the_stores_start_with_drawn_secrets_and_let_in_who_knows_them(definitions):
    with namespace("stores") as space:
        objects = [one for one in moved(overlay("local"), space) if is_store(one)]
        apply(*(_without_claims(one) for one in objects))
        for name in ("postgres", "redis", "nats"):
            kubectl("rollout", "status", f"statefulset/{name}", f"--namespace={space}", "--timeout=180s", seconds=200)
        of = {"URL": ("tidegate-database", "url"), "MLFLOW": ("tidegate-database", "mlflow"),
              "REDIS": ("tidegate-redis", "connection"), "NATS": ("tidegate-nats", "url")}  # fmt: skip
        env = [{"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
               for name, (secret, key) in of.items()]  # fmt: skip
        said = run_pod(space, "asks", ["python3", "-c", TRY_STORES], image=COMPONENTS, env=env)
        assert said.split("\n")[:6] == ["tidegate", "mlflow", "True", "-NOAUTH  ['+OK', '+PONG']", "1", "True"]
        again_is_nothing_new(space)


def is_store(one: Json) -> bool:
    labels = one["metadata"].get("labels", {})
    name = labels.get("app.kubernetes.io/component", "")
    return name in ("install", "database", "online-store", "stream") and one["kind"] != "PodDisruptionBudget"


def _without_claims(one: Json) -> Json:
    """Volumes that go with the pod: a test leaves nothing behind."""
    if one["kind"] == "StatefulSet":
        claims = one["spec"].pop("volumeClaimTemplates")
        volumes = one["spec"]["template"]["spec"].setdefault("volumes", [])
        volumes += [{"name": claim["metadata"]["name"], "emptyDir": {}} for claim in claims]
    return one


def again_is_nothing_new(space: str) -> None:
    """A second installation makes no Secret anew."""
    before = get("secret", "tidegate-token", space)["data"]
    kubectl("delete", "job", "tidegate-install", f"--namespace={space}")
    apply(*(one for one in moved(overlay("local"), space) if one["kind"] == "Job"))
    until(lambda: get("job", "tidegate-install", space)["status"].get("succeeded"), 60, "the second install job's end")
    assert "tidegate-token: is there" in kubectl("logs", "job/tidegate-install", f"--namespace={space}")
    assert get("secret", "tidegate-token", space)["data"] == before
