"""The node: etcd, containerd and the five daemons of Kubernetes, in the order in which they need each other."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request

from k8s.cluster import config, daemons, network, pki
from k8s.cluster.commands import kubectl, wait
from k8s.cluster.places import (
    ADDRESS,
    API,
    CONF,
    DATA,
    LOG,
    NODE_NAME,
    PKI,
    RUN,
    SERVICES,
    SOCKET,
    VOLUMES,
)
from tidegate.errors import PlatformError

_ETCD, _PEER = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
_COMMANDS: dict[str, tuple[str, ...]] = {
    "etcd": (
        "etcd",
        f"--name={NODE_NAME}",
        f"--data-dir={DATA}/etcd",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={_PEER}",
        f"--initial-advertise-peer-urls={_PEER}",
        f"--initial-cluster={NODE_NAME}={_PEER}",
        "--unsafe-no-fsync",  # a test node: a power cut may cost its state
        "--log-level=warn",
    ),
    "containerd": ("containerd", "--config", f"{CONF}/containerd.toml"),
    "apiserver": (
        "kube-apiserver",
        f"--etcd-servers={_ETCD}",
        f"--bind-address={ADDRESS}",
        f"--advertise-address={ADDRESS}",
        "--secure-port=6443",
        f"--service-cluster-ip-range={SERVICES}",
        f"--client-ca-file={PKI}/ca.crt",
        f"--tls-cert-file={PKI}/apiserver.crt",
        f"--tls-private-key-file={PKI}/apiserver.key",
        f"--kubelet-certificate-authority={PKI}/ca.crt",
        f"--kubelet-client-certificate={PKI}/apiserver-kubelet.crt",
        f"--kubelet-client-key={PKI}/apiserver-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={PKI}/sa.pub",
        f"--service-account-signing-key-file={PKI}/sa.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--profiling=false",
        "--allow-privileged=true",
        f"--requestheader-client-ca-file={PKI}/ca.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={PKI}/front-proxy.crt",
        f"--proxy-client-key-file={PKI}/front-proxy.key",
    ),
    "kcm": (
        "kube-controller-manager",
        *(f"--{use}kubeconfig={CONF}/kcm.kubeconfig" for use in ("", "authentication-", "authorization-")),
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={PKI}/sa.key",
        f"--root-ca-file={PKI}/ca.crt",
        f"--cluster-signing-cert-file={PKI}/ca.crt",
        f"--cluster-signing-key-file={PKI}/ca.key",
        "--allocate-node-cidrs=true",
        "--cluster-cidr=10.244.0.0/16",
        "--node-cidr-mask-size=24",
        f"--service-cluster-ip-range={SERVICES}",
    ),
    "scheduler": (
        "kube-scheduler",
        *(f"--{use}kubeconfig={CONF}/scheduler.kubeconfig" for use in ("", "authentication-", "authorization-")),
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    ),
    "kubelet": (
        "kubelet",
        f"--config={CONF}/kubelet.yaml",
        f"--kubeconfig={CONF}/kubelet.kubeconfig",
        f"--root-dir={DATA}/kubelet",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={ADDRESS}",
        f"--cert-dir={DATA}/kubelet/pki",
    ),
    "proxy": ("kube-proxy", f"--config={CONF}/proxy.yaml"),
}
DAEMONS = tuple(_COMMANDS)
AFTER_API = ("kcm", "scheduler", "kubelet", "proxy")


def prepare() -> None:
    """Folders, keys, configuration, bridge and guard: everything that a daemon reads."""
    for folder in (CONF, RUN, DATA, LOG, VOLUMES):
        folder.mkdir(parents=True, exist_ok=True)
    pki.make()
    config.write()
    network.make()


def start_runtime() -> None:
    """containerd, which images can be loaded into from then on."""
    _start("containerd")
    wait("containerd's socket", SOCKET.exists, 30)


def start_api() -> None:
    """The store (etcd) and the API server, which answers when this returns."""
    _start("etcd")
    _start("apiserver")
    wait("the API server", lambda: _alive("apiserver") and _api_ready(), 120)


def start_rest() -> bool:
    """The controllers, the kubelet and the proxy; True when the kubelet was started by this."""
    fresh = [name for name in AFTER_API if _start(name)]
    return "kubelet" in fresh


def node_ready(after: str) -> bool:
    """Whether the kubelet has said since `after` (RFC 3339) that it is ready, and the node takes pods."""
    for name in AFTER_API:
        _alive(name)
    got = kubectl("get", "node", NODE_NAME, "--ignore-not-found", "-o", "json", check=False)
    if not got.strip():
        return False
    node = json.loads(got)
    fresh = [
        one
        for one in node["status"].get("conditions", [])
        if one["type"] == "Ready" and one["status"] == "True" and one["lastHeartbeatTime"] >= after
    ]
    return bool(fresh)


def alive() -> dict[str, bool]:
    """Which daemons run."""
    return {name: daemons.find(name) is not None for name in DAEMONS}


def _start(name: str) -> bool:
    return daemons.start(name, *_COMMANDS[name])


def _alive(name: str) -> bool:
    if daemons.find(name) is None:
        raise PlatformError(f"{name} ended at once; the end of its log:\n{daemons.tail(name)}")
    return True


def _api_ready() -> bool:
    trust = ssl.create_default_context(cafile=str(PKI / "ca.crt"))
    try:
        with urllib.request.urlopen(f"{API}/readyz", context=trust, timeout=2) as answer:  # noqa: S310 - https
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
