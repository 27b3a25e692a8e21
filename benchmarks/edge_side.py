"""The side of the edge benchmark that runs in a network namespace of its own: starts the edge, asks, prints JSON.

Arguments: the edge's folder, a file with one JSON body a line, starts to time. One connection, one row a request.
"""

from __future__ import annotations

import errno
import http.client
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PORT = 8091


def main() -> None:
    """Time some starts, then ask everything of one edge."""
    folder, bodies, starts = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes().splitlines(), int(sys.argv[3])
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
    first, later = [], []
    for _ in range(starts):
        shutil.rmtree(folder / "var", ignore_errors=True)
        for kind in (first, later):
            with started(folder) as (seconds, _):
                kind.append(seconds)
    with started(folder) as (_, process):
        found = asked(bodies, process.pid)
    print(json.dumps({"network": network(), "first_start": first, "start": later, **found}))


@contextmanager
def started(folder: Path) -> Iterator[tuple[float, subprocess.Popen[str]]]:
    """Seconds from the start of the process until it is ready, and the process."""
    began = time.perf_counter()
    words = (sys.executable, str(folder / "edge.py"), "--port", str(PORT))
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert " at http://" in process.stdout.readline()
        assert get("/readyz") == {"ok": True}
        yield time.perf_counter() - began, process
    finally:
        process.terminate()
        process.wait()


def asked(bodies: list[bytes], pid: int) -> dict[str, Any]:
    """Milliseconds of each request, resident memory before and after (KiB), and the edge's own status."""
    connection, spent, before = http.client.HTTPConnection("127.0.0.1", PORT), [], memory(pid)
    for body in bodies:
        began = time.perf_counter()
        connection.request("POST", "/predict", body)
        answer = connection.getresponse()
        answer.read()
        spent.append(1000 * (time.perf_counter() - began))
        assert answer.status == 200
    return {"spent": spent, "memory": [before, memory(pid)], "status": get("/status")}


def get(path: str) -> Any:
    """The JSON of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())


def memory(pid: int) -> int:
    """Resident memory in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def network() -> str:
    """What a connection to somewhere else ends with."""
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=2).close()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "there"


if __name__ == "__main__":
    main()
