"""Take the node down and leave nothing behind: no process, mount, bridge, table, control group or kernel setting."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from k8s.cluster import cgroups, daemons, network
from k8s.cluster.commands import ctr, run, wait
from k8s.cluster.node import AFTER_API
from k8s.cluster.places import CONF, DATA, LOG, NODE, READY, RUN, SOCKET
from k8s.cluster.say import phase, say
from tidegate.errors import PlatformError

_PLUGINS = Path("/var/lib/cni")
_KUBELET = (Path("/var/lib/kubelet/device-plugins"), Path("/var/lib/kubelet"))


def down(purge: bool = False) -> None:
    """End everything; the state on the disk stays unless `purge`. Raises PlatformError naming what would not go."""
    READY.unlink(missing_ok=True)
    with phase("stopped the daemons"):
        for name in AFTER_API:
            daemons.stop(name)
        _end_pods()
        for name in ("apiserver", "etcd", "containerd"):
            daemons.stop(name)
    with phase("removed mounts, groups, bridges, tables"):
        wait("the node's processes and control groups to go", _groups_gone, 20)
        wait("the node's mounts to go", _unmount, 20)
        _remove_files()
        network.remove()
    if purge:
        for folder in (DATA, RUN, LOG, CONF, NODE):
            shutil.rmtree(folder, ignore_errors=True)
    if found := left():
        raise PlatformError(f"left behind: {', '.join(found)}")
    say("nothing is left" if purge else "nothing runs; state and images are kept, --purge removes them")


def left() -> list[str]:
    """Whatever of the node is still on the machine, in words."""
    groups = [str(path) for path in cgroups.left()]
    processes = [f"process {one}" for one in sorted(cgroups.every_member())]
    return [*processes, *groups, *_mounts(), *network.left()]


def _end_pods() -> None:
    if daemons.find("containerd") is None or not SOCKET.exists():
        return
    for task in ctr("tasks", "list", "--quiet", check=False).split():
        ctr("tasks", "kill", "--signal", "SIGKILL", task, check=False)
    for task in ctr("tasks", "list", "--quiet", check=False).split():
        ctr("tasks", "delete", "--force", task, check=False)
    for container in ctr("containers", "list", "--quiet", check=False).split():
        ctr("containers", "delete", container, check=False)


def _groups_gone() -> bool:
    cgroups.remove()
    return not cgroups.left()


def _unmount() -> bool:
    for place in _mounts():
        run("umount", place, check=False)
    for place in _mounts():
        run("umount", "--lazy", place, check=False)
    return not _mounts()


def _mounts() -> list[str]:
    """Overlays, network namespaces and volumes of the node, the innermost first."""
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((place for place in places if place.startswith(f"{NODE}/")), reverse=True)


def _remove_files() -> None:
    for name in ("containerd", "runc", "cni-ipam"):
        shutil.rmtree(RUN / name, ignore_errors=True)
    for socket in RUN.glob("containerd.sock*"):
        socket.unlink()
    (_KUBELET[0] / "kubelet.sock").unlink(missing_ok=True)
    logs = Path("/var/log/containers")
    for link in logs.iterdir() if logs.exists() else ():
        if link.is_symlink() and str(link.readlink()).startswith(f"{NODE}/"):
            link.unlink()
    for folder in (logs, _PLUGINS / "results", _PLUGINS, *_KUBELET, Path("/run/containerd/s"), Path("/run/containerd")):
        with suppress(OSError):  # it is not ours alone, or not there
            folder.rmdir()
