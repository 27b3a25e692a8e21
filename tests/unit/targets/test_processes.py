from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import msgspec
import pytest

from tidegate.errors import PlatformError
from tidegate.targets.processes import PORTS, Process, Record, is_free, listen, spawn, stop, tail, wait_until

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal,time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


def start(arguments: list[str], folder: Path) -> Process:
    log = folder / "logs" / "out.log"
    pid, created = spawn(arguments, log)
    process = Process("service", pid, created, 1, str(log))
    assert wait_until(lambda: log.exists() and "up" in log.read_text(), 30)
    return process


@pytest.mark.parametrize("arguments", [SLEEP, DEAF])
def test_a_process_is_stopped_even_when_it_does_not_listen(tmp_path: Path, arguments: list[str]) -> None:
    process = start(arguments, tmp_path)
    assert process.alive
    assert os.getsid(process.pid) == process.pid
    stop([process], grace=0.3)
    assert not process.alive


def test_another_process_with_the_same_pid_is_never_taken_for_it(tmp_path: Path) -> None:
    process = start(SLEEP, tmp_path)
    other = msgspec.structs.replace(process, created=process.created - 100)
    assert not other.alive
    stop([other], grace=0.1)
    assert process.alive
    stop([process])


def test_the_record_outlives_its_writer_and_forgets_the_dead(tmp_path: Path) -> None:
    record = Record(tmp_path / "processes.json")
    process = start(SLEEP, tmp_path)
    record.put(process)
    ready = msgspec.structs.replace(process, ready=True)
    record.put(ready)
    assert Record(tmp_path / "processes.json").alive == (ready,)
    os.kill(process.pid, signal.SIGKILL)
    assert wait_until(lambda: record.alive == (), 30)
    record.prune()
    assert Record(tmp_path / "processes.json")._all == ()


def test_a_spoilt_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "processes.json").write_text("{")
    with pytest.raises(PlatformError, match=r"processes\.json"):
        Record(tmp_path / "processes.json")


def test_a_listening_socket_is_inherited_and_its_port_is_taken(tmp_path: Path) -> None:
    program = "import socket; s = socket.socket(fileno=3); print('up', flush=True); s.accept()[0].sendall(b'hello')"
    log = tmp_path / "out.log"
    with listen() as listening:
        port = listening.getsockname()[1]
        pid, created = spawn([sys.executable, "-c", program], log, listening)
    assert port in PORTS
    assert not is_free(port)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        assert connection.recv(10) == b"hello"
    assert wait_until(lambda: not Process("service", pid, created, port, str(log)).alive, 30)
    assert tail(log) == "up"


def test_an_empty_log_says_so(tmp_path: Path) -> None:
    assert tail(tmp_path / "none") == "no log"
    (tmp_path / "empty").touch()
    assert tail(tmp_path / "empty") == "empty log"
