"""Programs of the machine, run without a shell, and waiting for what takes its time."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from k8s.cluster.places import BIN, KUBECONFIG, SOCKET
from tidegate.errors import PlatformError

PATIENCE = 4
"""The niceness of what is long and can wait: compilers, builds of images and, in their own group, the daemons."""


def impatience(niceness: int = PATIENCE) -> int:
    """How much nicer this process is to be to have `niceness`; who was started with it already is not made nicer."""
    return max(0, niceness - os.nice(0))


def patiently(*words: str | Path) -> tuple[str | Path, ...]:
    """The same command, behind what else runs on the machine."""
    return ("nice", "-n", str(impatience()), *words)


def run(
    *words: str | Path,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
) -> str:
    """The program's standard output. Raises PlatformError with the end of what it said when it fails."""
    done = subprocess.run(
        [str(word) for word in words],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        check=False,
    )
    if check and done.returncode:
        told = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise PlatformError(f"{' '.join(str(word) for word in words[:6])}: exit status {done.returncode}\n{told}")
    return done.stdout


def kubectl(*words: str | Path, stdin: str | None = None, check: bool = True) -> str:
    """Run kubectl as the cluster's administrator."""
    return run(BIN / "kubectl", "--kubeconfig", KUBECONFIG, *words, stdin=stdin, check=check)


def ctr(*words: str | Path, check: bool = True) -> str:
    """Run containerd's client in the namespace of Kubernetes."""
    return run("ctr", "--address", SOCKET, "--namespace", "k8s.io", *words, check=check)


def wait(what: str, seen: Callable[[], bool], seconds: float) -> None:
    """Return when `seen` is true. Raises PlatformError when it is not within `seconds`."""
    end = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > end:
            raise PlatformError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)
