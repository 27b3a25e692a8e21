"""``python edge.py [--port N] [--updates URL_OR_DIR]``: answer until SIGTERM, with network or without."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tidegate.errors import TidegateError, UserError
from tidegate.serve.edge.installed import Installed
from tidegate.serve.edge.kept import Kept
from tidegate.serve.edge.server import Server
from tidegate.serve.edge.source import Source, source_of
from tidegate.serve.edge.updates import Edge


def main(folder: Path, words: Sequence[str] | None = None) -> int:
    """Run the edge of `folder`; returns the exit status."""
    given = _arguments(words)
    try:
        source = source_of(given.updates) if given.updates else None
        installed = Installed(folder)
        kept = Kept(installed.database)
        edge = Edge(installed, kept)
        server = _server(edge, given.host, given.port)
    except TidegateError as error:
        print(f"edge: {error}", file=sys.stderr)
        return error.exit_status
    _run(server, source, given.every)
    kept.close()
    return 0


def _run(server: Server, source: Source | None, every: float) -> None:
    stop = threading.Event()
    for caught in (signal.SIGTERM, signal.SIGINT):
        signal.signal(caught, lambda *_: stop.set())
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="serve")
    serving.start()
    host, port = server.server_address[:2]
    told = server.edge.serving.manifest
    print(f"edge: {told.model}@{told.version}, bundle {told.sequence}, at http://{host!s}:{port}", flush=True)
    looking = threading.Thread(target=_look, args=(server, source, every, stop), name="updates", daemon=True)
    looking.start()
    stop.wait()
    server.shutdown()
    serving.join()
    server.server_close()


def _look(server: Server, source: Source | None, every: float, stop: threading.Event) -> None:
    """Look for updates until told to stop; what changed is said once."""
    before = ""
    while source is not None and not stop.is_set():
        outcome = server.edge.look(source)
        if outcome != before:
            print(f"edge: updates: {outcome}", file=sys.stderr, flush=True)
        before = outcome
        stop.wait(every)


def _server(edge: Edge, host: str, port: int) -> Server:
    try:
        return Server(edge, host, port)
    except OSError as error:
        raise UserError(f"port {port}", error.strerror, "a free port") from None


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="edge.py", description="Answer without network, from this folder.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 chooses a free one")
    parser.add_argument("--updates", help="folder or http(s) URL that signed bundles are taken from")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two looks for an update")
    return parser.parse_args(words)
