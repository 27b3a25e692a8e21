"""A real PostgreSQL server in a folder of its own, for as long as a block lasts."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tidegate.targets.processes import free_port


@contextmanager
def postgresql_server() -> Iterator[str]:
    """The URL of an empty database; skips the test where no server or no driver is installed."""
    programs = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, filter(None, [os.environ.get("PGBIN")]))]
    if not programs or not importlib.util.find_spec("psycopg"):
        pytest.skip("no PostgreSQL server, or no psycopg")
    # not in pytest's folder, which is root's alone: the server refuses to run as root
    base, port = Path(tempfile.mkdtemp(prefix="tidegate-pg-")), free_port()
    who = "postgres" if os.getuid() == 0 else None
    if who:
        shutil.chown(base, who)
    words = (programs[-1] / "initdb", "-D", base / "data", "-U", "someone", "-A", "trust", "--no-sync")
    subprocess.run(words, check=True, capture_output=True, user=who)
    words = (programs[-1] / "postgres", "-D", base / "data", "-p", str(port), "-k", base, "-h", "127.0.0.1")
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=who)
    try:
        _answers(port, process)
        yield f"postgresql+psycopg://someone@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(base)


def _answers(port: int, process: subprocess.Popen) -> None:
    """Wait until a connection is served: a server takes them before it is up, and then refuses."""
    import psycopg

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="someone", dbname="postgres", connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise AssertionError("the server does not answer")
