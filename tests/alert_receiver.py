"""A real HTTP server that takes alerts and holds them as Alertmanager does: by their labels and start."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """What was posted: `requests` as (path, headers, body), `alerts` as they are told apart."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.url = ""

    @property
    def alerts(self) -> dict[tuple[str, str], Any]:
        found = {}
        for _, _, body in self.requests:
            for alert in json.loads(body):
                found[json.dumps(alert["labels"], sort_keys=True), alert["startsAt"]] = alert
        return found


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens on a free port; its thread is joined at the end."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if receiver.status < 300:
                receiver.requests.append((self.path, dict(self.headers), body))
            self.send_response(receiver.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
