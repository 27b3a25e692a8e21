"""The node's control groups: each daemon has one of its own, which is also how it is found again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from k8s.cluster.places import NODE_NAME

_TOP = Path("/sys/fs/cgroup")
_V2 = (_TOP / "cgroup.controllers").exists()
_TREES = [_TOP] if _V2 else [_TOP / name for name in ("memory", "pids", "cpu")]
MEMORY_LIMIT = 4 << 30
"""Bytes that all daemons together may use; they idle at about 1 GB."""
SHARE = 8
"""Of the processors, when they are all wanted: as much as this many sessions. They need a tenth of a processor, but an
API server that waits for its turn behind a compiler lets its clients' calls run out of time."""


def make(name: str) -> list[Path]:
    """The control groups of one daemon, made where they are missing."""
    groups = [tree / NODE_NAME / name for tree in _TREES]
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
    limits = {"memory.max": MEMORY_LIMIT, "cpu.weight": SHARE * 100} if _V2 else {}
    limits |= {} if _V2 else {"memory/memory.limit_in_bytes": MEMORY_LIMIT, "cpu/cpu.shares": SHARE * 1024}
    for setting, value in limits.items():
        tree, _, file = setting.rpartition("/")
        with suppress(OSError):  # a machine may not give a controller away: then there is no limit
            (_TOP / tree / NODE_NAME / file).write_text(str(value))
    return groups


def members(name: str) -> list[int]:
    """Process ids in a daemon's control group, children included."""
    return _processes(_TREES[0] / NODE_NAME / name)


def every_member() -> set[int]:
    """Process ids in any group of the node's daemons or pods."""
    groups = [group for top in _tops() for group in _below(top)]
    return {process for group in groups for process in _processes(group)}


def remove() -> None:
    """Remove the node's groups and those of its pods. What still runs in one is killed."""
    for process in every_member():
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    for top in _tops():
        for group in sorted(_below(top), key=lambda path: -len(path.parts)):
            with suppress(OSError):  # a dying process holds its group for a moment; the caller looks again
                group.rmdir()


def left() -> list[Path]:
    """Groups of ours that are still there."""
    return [top for top in _tops() if top.exists()]


def _tops() -> list[Path]:
    # kubelet makes `kubepods` in every hierarchy of version 1
    trees = [_TOP] if _V2 else [tree for tree in _TOP.iterdir() if tree.is_dir()]
    return [tree / name for tree in trees for name in (NODE_NAME, "kubepods")]


def _below(top: Path) -> Iterator[Path]:
    for folder, _, _ in os.walk(top):
        yield Path(folder)


def _processes(group: Path) -> list[int]:
    try:
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    except OSError:
        return []
