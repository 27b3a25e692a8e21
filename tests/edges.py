"""A state folder with a champion and a log, edges built from it and run, and a server of updates that cuts."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
from tiny_models import write_model

from tidegate.journal.events import Draft
from tidegate.journal.fold import fold
from tidegate.journal.store import open_journal
from tidegate.observations import Prediction, SegmentWriter
from tidegate.register.models import public_key, store_model
from tidegate.serve.edge_build import Built, build
from tidegate.spec import Model, parse_model
from tidegate.train.model_file import FeatureSchema, folder_name

NAME, DISTINCT, EXPONENT = "quick", 20_000, 1.1


def zipf() -> np.ndarray:
    """Probability of each of `DISTINCT` requests, the most frequent first."""
    weights = 1.0 / np.arange(1, DISTINCT + 1) ** EXPONENT
    return weights / weights.sum()


def request_row(rank: int) -> dict:
    return {"distance": rank / 8, "carrier": ("AA", "UA", None)[rank % 3], "dep hour": float(rank % 24)}


@dataclass
class World:
    """One state folder; `keys` None: it trusts its own key only."""

    state: Path
    keys: list[str] | None = None
    head: int = 1000
    max_age: str = "7d"
    _made: int = 0

    @property
    def model(self) -> Model:
        trust = {"trust": {"keys": self.keys}} if self.keys else {}
        edge = {"head": self.head, "maxAge": self.max_age}
        release = {"stages": [{"shadow": {"requests": 1}}]}
        spec = {"workload": "none:none", "release": release, "edge": edge, **trust}
        document = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "Model", "metadata": {"name": NAME}, "spec": spec}
        return parse_model(document, "test")

    @property
    def key(self) -> str:
        return public_key(self.state).hex()

    def new_key(self) -> str:
        shutil.rmtree(self.state / "keys")
        return self.key

    def promote(self, bias: float) -> str:
        """A new champion, registered and signed; returns its version."""
        self._made += 1
        store, version = self.state / f"made-{self._made}", f"v{self._made}"
        digest = write_model(store, bias)
        folder = store_model(store / folder_name(digest), digest, self.state)
        schema = FeatureSchema.load(folder).digest
        data = {"version": version, "digest": digest, "feature_schema_digest": schema, "run": "r", "reason": "x"}
        journal = open_journal(self.state, create=True)
        drafts = [Draft("register.candidate", 0.0, data), Draft("release.first", 0.0, data)]
        journal.append(NAME, drafts, fold(journal.read(NAME)).seq)
        return version

    def log(self, ranks: np.ndarray) -> None:
        """Predictions that were answered before, one a rank."""
        writer = SegmentWriter(self.state / "observations/predictions", "v1-a", background=False)
        for number, rank in enumerate(ranks.tolist()):
            features = list(request_row(rank).values())
            row = (f"{number}/0", float(number), float(number), "v1", "d", None, None, None, 0.5, False, 1.0, features)
            writer.append(Prediction(*row))
        writer.close()

    def build(self, out: Path) -> Built:
        return build(self.model, self.state, out)


@dataclass
class Running:
    """An edge process and where it answers."""

    process: subprocess.Popen
    url: str

    def ask(self, *rows: dict, **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", json={"rows": rows or [request_row(1)]}, headers=headers)

    def status(self) -> dict:
        return httpx.get(f"{self.url}/status").json()

    def until(self, good, seconds: float = 20) -> dict:
        """The status, as soon as it is as it should be."""
        deadline = time.monotonic() + seconds
        while not good(found := self.status()):
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found


@contextlib.contextmanager
def running(folder: Path, *words: str) -> Iterator[Running]:
    command = (sys.executable, str(folder / "edge.py"), "--port", "0", "--every", "0.05", *words)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    threading.Thread(target=process.stderr.read, daemon=True).start()
    try:
        line = process.stdout.readline()
        assert " at http://" in line, line
        yield Running(process, line.rsplit(" at ", 1)[1].strip())
    finally:
        process.kill()
        process.wait()


@dataclass
class Updates:
    """A server of a built folder's bundle. `limit`: bytes after which an answer is cut; `spoiled`: paths with one bit
    flipped; `hold`: a file's answer stops half way until it is set; `ranges`: what was asked for."""

    folder: Path
    limit: int | None = None
    spoiled: set[str] = field(default_factory=set)
    hold: threading.Event | None = None
    held: threading.Event = field(default_factory=threading.Event)
    ranges: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def content(self, path: str) -> bytes:
        found = bytearray((self.folder / path.lstrip("/")).read_bytes())
        if path in self.spoiled:
            found[len(found) // 2] ^= 1
        return bytes(found)


@contextlib.contextmanager
def serving(updates: Updates) -> Iterator[Updates]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            whole, asked = updates.content(self.path), self.headers.get("Range")
            start = 0
            if asked:
                updates.ranges.append(asked)
                start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
            rest = whole[start:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            large = self.path.startswith("/files/") and len(rest) > 2000
            if updates.hold and large:
                self.wfile.write(rest[: len(rest) // 2])
                self.wfile.flush()
                updates.held.set()
                updates.hold.wait(30)
                return
            self.wfile.write(rest[: updates.limit] if large else rest)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    updates.port = server.server_port
    try:
        yield updates
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def spoil(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def bundle_of(folder: Path) -> dict:
    return json.loads(json.loads((folder / "bundle/bundle.json").read_text())["manifest"])
