"""Where the cluster lives on the machine, outside the clone, and the names and addresses that it uses."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"
ROOT = Path(os.environ.get("TIDEGATE_CLUSTER") or CACHE / "cluster").absolute()
"""Everything of the cluster; programs, packages and images in it are caches that outlive `down`."""
BIN, CRDS, DEBS, IMAGES = ROOT / "bin", ROOT / "crds", ROOT / "debs", ROOT / "images"
NODE = ROOT / "node"
"""The node: `down` ends what runs in it, `down --purge` removes it."""
CONF, PKI, RUN, DATA, LOG = NODE / "conf", NODE / "pki", NODE / "run", NODE / "data", NODE / "log"
VOLUMES = DATA / "volumes"
SOCKET = RUN / "containerd.sock"
KUBECONFIG = ROOT / "admin.kubeconfig"
READY = ROOT / "READY"
"""There while `up` has come to its end and `down` was not called."""

HERE = Path(__file__).resolve().parent
CLONE = HERE.parents[1]
GO, TEMPLATES, MANIFESTS = HERE / "go", HERE / "conf", HERE / "manifests"

ADDRESS = "10.88.0.1"
"""The node's address, on a bridge without ports: a pod reaches it, another machine does not."""
API = f"https://{ADDRESS}:6443"
BRIDGE, POD_BRIDGE, NODE_NAME = "kn0", "cni0", "knode"
PODS, SERVICES, SERVICE_API, SERVICE_DNS = "10.244.0.0/24", "10.96.0.0/16", "10.96.0.1", "10.96.0.10"
