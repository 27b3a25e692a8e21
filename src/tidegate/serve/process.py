"""What every serving process does: find its socket, answer until SIGTERM, read the token."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidegate.errors import TidegateError, UserError

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than the gateway keeps its own, which never meets a closed one."""

DRAIN_SECONDS = 20
"""Longest wait for requests in flight after SIGTERM."""


def add_place(parser: argparse.ArgumentParser) -> None:
    """The arguments that say where to listen."""
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--port", type=int, help="on 127.0.0.1, or on --host")
    place.add_argument("--fd", type=int, help="a listening socket that was inherited")
    parser.add_argument("--host", default="127.0.0.1")


def read_token(path: Path | None) -> str:
    """The token in a file; empty without one."""
    if path is None:
        return ""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise UserError("--token-file", str(path), f"a readable file ({error.strerror})") from None


def run(given: argparse.Namespace, make: Callable[[], Any]) -> int:
    """Take the socket, then make the app, and answer until SIGTERM; the process's exit status.

    At SIGTERM it stops accepting, answers what is in flight and lets the app finish. A TidegateError on the way there
    is one line on stderr.
    """
    try:
        listening = _listening(given)
        app = make()
    except TidegateError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    import uvicorn

    # uvicorn raises a caught signal again when it has ended; by then the work is done and the status is 0
    for caught in (signal.SIGTERM, signal.SIGINT):
        signal.signal(caught, lambda *_: None)
    config = uvicorn.Config(
        app, lifespan="on", access_log=False, log_level="warning", server_header=False, timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=DRAIN_SECONDS, proxy_headers=False,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])
    return 0


def _listening(given: argparse.Namespace) -> socket.socket:
    if given.fd is not None:
        return socket.socket(fileno=given.fd)
    try:
        return socket.create_server((given.host, given.port), backlog=2048)
    except OSError as error:
        raise UserError(f"port {given.port}", error.strerror, "a free port") from None
