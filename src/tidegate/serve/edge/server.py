"""The edge's HTTP server: ``/predict`` as the services answer it, with ``x-tidegate-age``; probes and ``/status``."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from tidegate.errors import PlatformError, UserError
from tidegate.serve.edge.answers import Row, Serving, UnknownKeyError
from tidegate.serve.edge.updates import Edge

LARGEST_BODY = 2**20
"""Bytes of a request; a larger one is answered 413."""

IDLE = 60
"""Seconds that a connection may say nothing."""

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_GET = ("/livez", "/readyz", "/status")
_PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 411: "Length Required",
            413: "Content Too Large", 500: "Internal Server Error", 503: "Service Unavailable"}  # fmt: skip


class Server(ThreadingHTTPServer):
    """Answers from `edge`; a thread a connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, edge: Edge, host: str, port: int) -> None:
        self.edge, self.started = edge, time.time()
        self.precomputed, self.computed, self.refused = 0, 0, 0
        self._counting = threading.Lock()
        super().__init__((host, port), Handler)

    def count(self, rows: list[Row]) -> None:
        """Count answered rows by where their scores came from."""
        hits = sum(row.precomputed for row in rows)
        with self._counting:
            self.precomputed += hits
            self.computed += len(rows) - hits

    def stale(self, serving: Serving) -> str:
        """Why nothing may be answered; empty within the bound."""
        age, most = self.edge.age(time.time()), serving.manifest.max_age
        if age <= most:
            return ""
        return f"stale: this bundle is {age:.0f} s old, answers are given up to {most:.0f} s; it needs an update"

    def status(self) -> dict[str, Any]:
        """Everything that is known here, as JSON."""
        serving, edge = self.edge.serving, self.edge
        told, age = serving.manifest, edge.age(time.time())
        return {
            "model": f"{told.model}@{told.version}", "digest": told.digest, "source": told.source, "trees": told.trees,
            "quality": told.quality, "bundle": told.sequence, "created": told.created, "max_age": told.max_age,
            "age": {"model": age, "answers": age},
            "stale": self.stale(serving), "head": dict(told.head),
            "rows": {"precomputed": self.precomputed, "computed": self.computed},
            "observations": {"waiting": edge.kept.waiting(), "dropped": edge.kept.dropped},
            "update": edge.last and vars(edge.last),
        }  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        """Probes and status."""
        self._heard()
        path = self.path.partition("?")[0]
        serving = self.server.edge.serving
        stale = self.server.stale(serving)
        if path == "/livez" or (path == "/readyz" and not stale):
            return self._send(serving, 200, {"ok": True})
        if path == "/readyz":
            return self._send(serving, 503, {"error": stale})
        if path == "/status":
            return self._send(serving, 200, self.server.status())
        if path == "/predict":
            return self._send(serving, 405, {"error": f"method: got {self.command}, takes POST"}, "Allow: POST\r\n")
        self._send(serving, 404, {"error": "no such path; an edge answers /predict, /livez, /readyz and /status"})

    def do_POST(self) -> None:
        """Predictions."""
        self._heard()
        serving = self.server.edge.serving
        body = self._body(serving)
        if body is None:
            return None
        path = self.path.partition("?")[0]
        if path in _GET:
            return self._send(serving, 405, {"error": f"method: got {self.command}, takes GET"}, "Allow: GET, HEAD\r\n")
        if path != "/predict":
            return self._send(
                serving, 404, {"error": "no such path; an edge answers /predict, /livez, /readyz, /status"}
            )
        if stale := self.server.stale(serving):
            return self._send(serving, 503, {"error": stale})
        self._predict(serving, body)

    do_HEAD = do_GET  # noqa: N815 - the library's names
    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_POST  # noqa: N815

    def _predict(self, serving: Serving, body: bytes) -> None:
        if self.command != "POST":
            return self._send(serving, 405, {"error": f"method: got {self.command}, takes POST"}, "Allow: POST\r\n")
        began = time.perf_counter()
        try:
            rows = serving.answer(body)
        except UserError as error:
            return self._send(serving, 400, {"error": str(error)})
        except UnknownKeyError as error:
            return self._send(serving, 404, {"error": str(error)})
        except PlatformError as error:
            return self._send(serving, 500, {"error": str(error)})
        self.server.count(rows)
        self._record(serving, rows, (time.perf_counter() - began) * 1000)
        told = [{"score": row.score} | ({"fallback": row.fallback} if row.fallback else {}) for row in rows]
        manifest = serving.manifest
        self._send(serving, 200, {"model": f"{manifest.model}@{manifest.version}", "rows": told})

    def _record(self, serving: Serving, rows: list[Row], latency_ms: float) -> None:
        now, manifest = time.time(), serving.manifest
        self.server.edge.kept.record(
            (
                f"{self.request_id}/{index}",
                {
                    "request_id": f"{self.request_id}/{index}", "time": now, "version": manifest.version,
                    "digest": manifest.digest, "score": row.score, "latency_ms": latency_ms,
                    "features": row.features if manifest.retain else [],
                    "keys": row.entity if manifest.retain else None, "fallback": row.fallback,
                },
            )
            for index, row in enumerate(rows)
        )  # fmt: skip

    def _heard(self) -> None:
        given = self.headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid4())

    def _body(self, serving: Serving) -> bytes | None:
        """The request's body; None where it was refused."""
        length = self.headers.get("content-length", "")
        if not length.isdecimal():
            self.close_connection = True
            self._send(serving, 411, {"error": "content-length: got none, takes the number of bytes"})
            return None
        if int(length) > LARGEST_BODY:
            self.close_connection = True
            self._send(serving, 413, {"error": f"body: got {length} bytes, takes at most {LARGEST_BODY}"})
            return None
        return self.rfile.read(int(length))

    def _send(self, serving: Serving, status: int, document: object, extra: str = "") -> None:
        manifest, body = serving.manifest, json.dumps(document).encode()
        close = "Connection: close\r\n" if self.close_connection else ""
        head = (
            f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"x-request-id: {self.request_id}\r\nx-tidegate-model: {manifest.model}@{manifest.version}\r\n"
            f"x-tidegate-digest: {manifest.digest}\r\nx-tidegate-age: {self.server.edge.age(time.time()):.0f}\r\n"
            f"{extra}{close}\r\n"
        )
        self.wfile.write(head.encode("latin-1") + (b"" if self.command == "HEAD" else body))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing a request."""
