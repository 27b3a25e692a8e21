"""The node's configuration files, from the templates under `conf/`."""

from __future__ import annotations

from string import Template

import psutil

from k8s.cluster import places
from k8s.cluster.places import CONF, TEMPLATES

_NAMES = (
    *("ADDRESS", "BRIDGE", "CONF", "DATA", "NODE_NAME", "PKI", "PODS", "POD_BRIDGE", "RUN", "SERVICES"),
    "SERVICE_DNS",
)
PODS_MEMORY = 16 << 10
"""MiB that all pods together may use on a large machine; on a small one three quarters of what there is."""


def write() -> None:
    """Write every file whose content changed under `CONF`."""
    values = {name: getattr(places, name) for name in _NAMES} | {"RESERVED": reserved()}
    for template in sorted(path for path in TEMPLATES.rglob("*") if path.is_file()):
        path = CONF / template.relative_to(TEMPLATES)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = Template(template.read_text()).substitute(values)
        if not path.exists() or path.read_text() != text:  # kube-proxy ends when its file is written
            path.write_text(text)


def reserved() -> int:
    """MiB of memory that pods never get."""
    total = psutil.virtual_memory().total >> 20
    return max(total - PODS_MEMORY, total // 4)
