"""Detached processes that outlive their starter: started, recorded in a file, adopted by the next one, stopped.

A process is known by its pid and the time it was created, so that another one that got the same pid is never taken
for it, and never killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import psutil

from tidegate.errors import PlatformError

PORTS = range(20000, 32000)
"""Below Linux's range for outgoing connections (32768 on), so that a dead server's port is not taken by a client."""

Role = str
"""``gateway``, ``service`` or ``merge``."""


class Process(msgspec.Struct, frozen=True):
    """One process that was started: `created` is psutil's create time, seconds since the epoch."""

    role: Role
    pid: int
    created: float
    port: int
    log: str
    admin_port: int = 0
    """Of a gateway."""
    version: str = ""
    digest: str = ""
    """Of a merge service instead: the services between which it stands."""
    writer: str = ""
    """Name of its prediction log's segments."""
    ready: bool = False
    """It answered its readiness probe once."""

    @property
    def alive(self) -> bool:
        """Whether it runs; reaps it when it was our child and has ended."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 0.05
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


class Record:
    """The processes of one target, kept in a file that is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._all = self._read()

    @property
    def alive(self) -> tuple[Process, ...]:
        """Those that run."""
        return tuple(process for process in self._all if process.alive)

    def put(self, process: Process) -> None:
        """Add it, or replace what was recorded of the same pid."""
        self._write((*(one for one in self._all if one.pid != process.pid), process))

    def prune(self) -> None:
        """Forget those that do not run any more."""
        if (alive := self.alive) != self._all:
            self._write(alive)

    def _read(self) -> tuple[Process, ...]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=tuple[Process, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as error:
            raise PlatformError(f"{self._path}: {error}") from None

    def _write(self, processes: tuple[Process, ...]) -> None:
        self._all = processes
        write_atomically(self._path, msgspec.json.format(msgspec.json.encode(processes)))


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file as a whole; a reader sees the old or the new."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.replace(path)


def spawn(arguments: Sequence[str], log: Path, listening: socket.socket | None = None) -> tuple[int, float]:
    """Start a process in a session of its own; returns (pid, create time).

    Its output goes to `log`; it inherits nothing but `listening`, as descriptor 3.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    actions: list[tuple[int, ...] | tuple[object, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    if listening is not None:
        actions.append((os.POSIX_SPAWN_DUP2, listening.fileno(), 3))
    pid = os.posix_spawn(arguments[0], list(arguments), os.environ, file_actions=actions, setsid=True)
    return pid, psutil.Process(pid).create_time()


def listen(ports: Sequence[int] = PORTS) -> socket.socket:
    """A listening socket on 127.0.0.1, on a port that nobody uses."""
    start = random.randrange(len(ports))
    for offset in range(len(ports)):
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", ports[(start + offset) % len(ports)]), backlog=2048)
    raise PlatformError(f"no free port from {ports[0]} to {ports[-1]}")


def free_port() -> int:
    """A port on 127.0.0.1 that nobody uses now."""
    with listen() as found:
        return int(found.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether 127.0.0.1:`port` can be listened on."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def stop(processes: Sequence[Process], grace: float = 25.0) -> None:
    """SIGTERM to all at once, SIGKILL to those that have not ended after `grace` seconds; returns when all are gone."""
    _signal(processes, signal.SIGTERM)
    if not wait_until(lambda: not any(process.alive for process in processes), grace):
        _signal(processes, signal.SIGKILL)
        wait_until(lambda: not any(process.alive for process in processes), 5.0)


def wait_until(condition: Callable[[], bool], seconds: float, every: float = 0.01) -> bool:
    """Look every `every` seconds until `condition` holds; False when it did not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def tail(log: Path, lines: int = 3) -> str:
    """The last lines of a log on one line, for an error's text."""
    try:
        text = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no log"
    return " | ".join(line.strip()[:200] for line in text[-lines:]) or "empty log"


def _signal(processes: Sequence[Process], number: signal.Signals) -> None:
    for process in processes:
        if process.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
