"""Start, find and stop the node's daemons. A daemon is what runs its program in its own control group."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from k8s.cluster import cgroups
from k8s.cluster.commands import impatience
from k8s.cluster.places import BIN, LOG
from tidegate.errors import PlatformError


def start(name: str, *words: str | Path) -> bool:
    """Make the daemon run with exactly these words; True when it had to be started."""
    argv = [program(str(words[0])), *map(str, words[1:])]
    if found := find(name):
        if _words(found) == argv and _program(found) == os.path.realpath(argv[0]):
            return False
        stop(name)
    groups = cgroups.make(name)

    def enter() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        # the session's other work goes first; pods inherit it, within their own control group it is of no account
        os.nice(impatience())

    with (LOG / f"{name}.log").open("ab") as log:
        subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=enter,  # this process has one thread, and the group must hold the child before it is a daemon
        )
    return True


def stop(name: str, seconds: float = 15) -> None:
    """End the daemon: asked first, killed when it does not go. Its children are left alone."""
    process = find(name)
    if process is None:
        return
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(process)
        try:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not select.select([handle], [], [], seconds)[0]:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], seconds)
        finally:
            os.close(handle)


def find(name: str) -> int | None:
    """The daemon's process id: the oldest living process of its group that is not a child of another one there."""
    for process in sorted(cgroups.members(name)):
        if _program(process) and "containerd-shim" not in Path(_program(process)).name:
            return process
    return None


def tail(name: str, lines: int = 8) -> str:
    """The end of a daemon's log."""
    path = LOG / f"{name}.log"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def program(name: str) -> str:
    """Where a program is: our own first, then the machine's."""
    own = BIN / name
    found = str(own) if own.exists() else shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found:
        raise PlatformError(f"{name}: not on this machine")
    return found


def _program(process: int) -> str:
    """Empty for a dead process that nobody has asked after yet."""
    with suppress(OSError):
        return os.readlink(f"/proc/{process}/exe")
    return ""


def _words(process: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text().split("\0")[:-1]
    return []
