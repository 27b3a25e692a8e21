"""What a route takes and gives: ASGI's parts, a request's body and headers, an answer."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import msgspec

from tidegate.serve.prediction_log import Heard

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

LARGEST_BODY = 2**20
"""Bytes of a request; a larger one is answered 413."""

JSON: Header = (b"content-type", b"application/json")
TEXT: Header = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_PROCESS, _NUMBERS = os.urandom(8).hex(), itertools.count()
"""Together the id of a request that brought none: no other process has it, and it costs a tenth of a UUID."""

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Answer(NamedTuple):
    """What a route answers; `headers` beside those that every answer has."""

    status: int
    body: bytes
    kind: Header = JSON
    headers: tuple[Header, ...] = ()


Route = Callable[[Scope, Receive, Heard], Awaitable[Answer]]
"""Answers one request. A UserError that it raises is answered 400, `TooLargeError` 413."""


class TooLargeError(Exception):
    """The body is over the limit; the message says so to the client."""


class GoneError(Exception):
    """The client went away before its request was whole."""


def refuse(status: int, text: str, *headers: Header) -> Answer:
    """An answer that says what was wrong."""
    return Answer(status, msgspec.json.encode({"error": text}), JSON, headers)


def hear(headers: Iterable[Header]) -> Heard:
    """The request's id and the gateway's headers (`targets.routes.READ`); no other ``x-tidegate-*`` header is read."""
    heard = Heard()
    for key, value in headers:
        if not key.startswith(b"x-"):
            continue
        if key == b"x-request-id":
            heard.request_id = value.decode() if _REQUEST_ID.fullmatch(value) else ""
        elif key == b"x-tidegate-arm":
            heard.arm = value.decode("latin-1")[:64]
        elif key == b"x-tidegate-release":
            heard.release = value.decode("latin-1")[:128]
        elif key == b"x-tidegate-propensity":
            heard.propensity = _propensity(value)
        elif key == b"x-tidegate-weights":
            heard.weights = value.decode("latin-1")[:512]
        elif key == b"x-tidegate-region":
            heard.region = value.decode("latin-1")[:64]
        elif key == b"x-tidegate-returning":
            heard.returning = value == b"1"
    if not heard.request_id:
        heard.request_id = f"{_PROCESS}-{next(_NUMBERS)}"
    return heard


def _propensity(value: bytes) -> float | None:
    try:
        propensity = float(value)
    except ValueError:
        return None
    return propensity if 0 < propensity <= 1 else None


class _Held:
    """In a transport's place while an answer is sent: holds what is written until the end."""

    __slots__ = ("_cycle", "_held", "_transport")

    def __init__(self, cycle: Any) -> None:
        self._cycle, self._transport, self._held = cycle, cycle.transport, b""

    def __enter__(self) -> None:
        self._cycle.transport = self

    def __exit__(self, *_: object) -> None:
        self._cycle.transport = self._transport
        self._flush()

    def write(self, data: bytes) -> None:
        """Hold `data`."""
        self._held += data

    def close(self) -> None:
        """Write what is held, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            self._transport.write(self._held)
            self._held = b""


_AS_IT_IS = nullcontext()


def one_write(send: Send) -> AbstractContextManager[None]:
    """Within it an answer's head waits for its body: one system call and one packet instead of two.

    uvicorn has no setting for that, so the transport of the request whose method `send` is is held; where `send` is
    anything else, nothing is (tests/unit/serve/test_one_write.py).
    """
    cycle = getattr(send, "__self__", None)
    return _Held(cycle) if hasattr(cycle, "transport") else _AS_IT_IS


async def read_body(scope: Scope, receive: Receive, limit: int = LARGEST_BODY) -> bytes:
    """The whole body; raises when it is larger than `limit` bytes or the client went away."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        if len(body) > limit:
            break
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise GoneError
    if len(body) > limit:
        raise TooLargeError(f"body: got over {limit} bytes, takes at most {limit}")
    return body


async def text_of(app: App, scope: Scope) -> str:
    """What `app` answers to a GET of the same path, as text; empty unless its status is 200."""
    parts: list[bytes] = []
    good = False

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal good
        good = good or message.get("status") == 200
        parts.append(message.get("body", b""))

    await app({**scope, "method": "GET"}, receive, send)
    return b"".join(parts).decode() if good else ""
