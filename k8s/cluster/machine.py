"""What the machine must have; on Debian, as root, what is missing is installed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from k8s.cluster.commands import run
from k8s.cluster.say import phase
from tidegate.errors import PlatformError, UserError

_NEEDS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "ip": "iproute2",
    "buildah": "buildah",
    "dpkg-deb": "dpkg",
    "mount": "mount",
}
"""Debian's package of each program that is called."""
_BRIDGE = Path("/usr/lib/cni/bridge")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def road() -> str:
    """``kind`` where Docker's engine and kind are there, else ``source``."""
    docker = shutil.which("docker") and run("docker", "info", "--format", "{{.ID}}", check=False).strip()
    return "kind" if docker and shutil.which("kind") else "source"


def check() -> None:
    """Raises UserError where the node cannot be built; installs Debian's packages that are missing."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        got = f"{sys.platform} as user {os.geteuid()}"
        raise UserError("cluster-up", got, "Docker's engine with kind, or Linux as root")
    missing = sorted({package for program, package in _NEEDS.items() if not shutil.which(program, path=_PATH)})
    if not _BRIDGE.exists():
        missing.append("containernetworking-plugins")
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise UserError("cluster-up", f"no {', '.join(missing)}", "Debian, or a machine that has these installed")
    with phase(f"installed {' '.join(missing)}"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", env=quiet)
        run("apt-get", "install", "--yes", "--no-install-recommends", *missing, env=quiet)
    still = [program for program in _NEEDS if not shutil.which(program, path=_PATH)]
    if still or not _BRIDGE.exists():
        raise PlatformError(f"apt-get brought no {', '.join(still) or _BRIDGE}")
