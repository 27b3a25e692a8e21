"""The hot path: an ASGI app that answers by itself and hands everything else on to the one it wraps.

It stands outside BentoML's middleware, which costs ten times what an answer here does. Between taking a request's
time and logging its rows nothing is awaited, so that a mark in the log never overtakes a row.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import msgspec

from tidegate.errors import PlatformError, UserError
from tidegate.serve.by_key import KeyLookup
from tidegate.serve.decoder import Decoder, Moment, Seconds, refusal, seconds
from tidegate.serve.loaded import LoadedModel
from tidegate.serve.metrics import Metrics
from tidegate.serve.openapi import document
from tidegate.serve.prediction_log import Heard, PredictionLog

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

LARGEST_BODY = 2**20
"""Bytes of a request; a larger one is answered 413."""

MARK_EVERY = 1.0
"""Seconds between two marks under the wall clock."""

_JSON: Header = (b"content-type", b"application/json")
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class _Announcement(msgspec.Struct, forbid_unknown_fields=True):
    now: Seconds | Moment


class _TooLargeError(Exception):
    pass


class _GoneError(Exception):
    pass


@dataclass(frozen=True)
class Identity:
    """Who answers, and by which clock. `token` empty: nothing can be changed over HTTP."""

    name: str
    version: str
    clock: Literal["wall", "events"] = "wall"
    token: str = ""


class RequestPath:
    """Answers /predict, /clock, /livez, /readyz, /metrics and /openapi.json; `inner` answers the rest."""

    def __init__(
        self, who: Identity, model: LoadedModel, log: PredictionLog, inner: App, lookup: KeyLookup | None = None
    ) -> None:
        self._who, self._model, self._log, self._inner, self._lookup = who, model, log, inner, lookup
        self._decoder = Decoder(model.schema, fields=lookup.fields if lookup else None)
        self._announced: float | None = None
        label = f"{who.name}@{who.version}"
        self._head = (b"x-tidegate-model", label.encode()), (b"x-tidegate-digest", model.digest.encode())
        self._open = b'{"model":' + msgspec.json.encode(label) + b',"rows":[{"score":'
        self.metrics = Metrics(who.name, who.version, self._counts)
        self._openapi = document(who.name, who.version, self._decoder.type, lookup is not None)
        self._routes: dict[str, Callable[[Scope, Receive, Heard], Awaitable[tuple[int, bytes]]]] = {
            "/predict": self._predict,
            "/clock": self._clock,
            "/livez": self._alive,
            "/readyz": self._alive,
            "/openapi.json": self._describe,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            return await self._lifespan(scope, receive, send)
        if scope["type"] != "http":
            return await self._inner(scope, receive, send)
        started = time.perf_counter()
        path, heard = scope["path"], hear(scope["headers"])
        if path == "/metrics":
            return await self._measure(scope, receive, send, heard)
        route = self._routes.get(path)
        if route is None:
            return await self._inner(scope, receive, self._stamped(send, heard))
        extra: tuple[Header, ...] = ()
        try:
            status, body = await route(scope, receive, heard)
        except UserError as error:
            status, body = 400, _error(str(error))
        except _TooLargeError as error:
            status, body, extra = 413, _error(str(error)), ((b"connection", b"close"),)
        except _GoneError:
            return
        await self._answer(send, status, body, heard, extra)
        self.metrics.observe(path, status, time.perf_counter() - started)

    async def _predict(self, scope: Scope, receive: Receive, heard: Heard) -> tuple[int, bytes]:
        if scope["method"] != "POST":
            return 405, _error(f"method: got {scope['method']}, takes POST")
        started = time.perf_counter()
        request = self._decoder.decode(await read_body(scope, receive))
        at = self._time(request.at)
        found = self._lookup.look_up(request.keys, at) if self._lookup and request.keys else None
        rows = found.rows if found else request.rows
        try:
            scores = self._model.score(self._decoder.encode(rows))
        except PlatformError as error:
            self._log.record(heard, at, rows, None, (time.perf_counter() - started) * 1000, found)
            return 500, _error(str(error))
        self._log.record(heard, at, rows, scores, (time.perf_counter() - started) * 1000, found)
        told = told_by_key(scores, found.fallbacks) if found else map(repr, scores)
        return 200, self._open + '},{"score":'.join(told).encode() + b"}]}"

    def _counts(self) -> tuple[int, int, int]:
        return self._log.rows, self._log.dropped, self._lookup.reader.failures if self._lookup else 0

    def _time(self, at: float | None) -> float:
        """The request's own time: wall time, or its `at`, or the last that was announced."""
        if self._who.clock == "wall":
            return time.time()
        if at is None and self._announced is None:
            raise UserError("at", None, "the request's time: no time was announced yet")
        return at if at is not None else self._announced  # type: ignore[return-value]

    async def _clock(self, scope: Scope, receive: Receive, heard: Heard) -> tuple[int, bytes]:
        if scope["method"] != "POST":
            return 405, _error(f"method: got {scope['method']}, takes POST")
        if self._who.clock != "events":
            return 409, _error("clock: got a time under the wall clock, takes one only with --clock events")
        if not self._allowed(scope["headers"]):
            return 401, _error("POST /clock needs the bearer token of the state folder")
        try:
            found = msgspec.json.decode(await read_body(scope, receive), type=_Announcement)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise refusal(str(error)) from None
        now = self._announced = max(seconds(found.now) or 0.0, self._announced or 0.0)
        self._log.promise(now)
        rows = self._log.rows
        await asyncio.get_running_loop().run_in_executor(None, self._log.flush)
        return 200, msgspec.json.encode({"now": now, "rows": rows})

    def _allowed(self, headers: Iterable[Header]) -> bool:
        given = next((value for key, value in headers if key == b"authorization"), b"")
        return bool(self._who.token) and hmac.compare_digest(given, f"Bearer {self._who.token}".encode())

    async def _alive(self, scope: Scope, receive: Receive, heard: Heard) -> tuple[int, bytes]:
        return 200, b'{"ok":true}'

    async def _describe(self, scope: Scope, receive: Receive, heard: Heard) -> tuple[int, bytes]:
        return 200, self._openapi

    async def _measure(self, scope: Scope, receive: Receive, send: Send, heard: Heard) -> None:
        body = self.metrics.text(await text_of(self._inner, scope)).encode()
        await self._answer(send, 200, body, heard, kind=(b"content-type", b"text/plain; version=0.0.4; charset=utf-8"))

    async def _answer(
        self, send: Send, status: int, body: bytes, heard: Heard, extra: tuple[Header, ...] = (), kind: Header = _JSON
    ) -> None:
        headers = [
            kind,
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", heard.request_id.encode()),
            *self._head,
            *extra,
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _stamped(self, send: Send, heard: Heard) -> Send:
        """`send` with our headers on the answer's start."""

        async def stamped(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                ours = [*self._head, (b"x-request-id", heard.request_id.encode())]
                message = {**message, "headers": [*message.get("headers", ()), *ours]}
            await send(message)

        return stamped

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the start and the end on; in between write marks, at the end finish the log."""
        marks = asyncio.create_task(self._mark()) if self._who.clock == "wall" else None

        async def ending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                self._log.close()
            await send(message)

        try:
            await self._inner(scope, receive, ending)
        finally:
            if marks is not None:
                marks.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await marks

    async def _mark(self) -> None:
        while True:
            self._log.promise(time.time())
            await asyncio.sleep(MARK_EVERY)


def told_by_key(scores: Sequence[float], fallbacks: Sequence[str | None]) -> Iterator[str]:
    """Each row's answer behind ``{"score":``, with the level that stood in."""
    for score, level in zip(scores, fallbacks, strict=True):
        yield repr(score) if level is None else f'{score!r},"fallback":{msgspec.json.encode(level).decode()}'


def hear(headers: Iterable[Header]) -> Heard:
    """The request's id and the gateway's three headers; no other ``x-tidegate-*`` header is read."""
    heard = Heard()
    for key, value in headers:
        if key == b"x-request-id":
            heard.request_id = value.decode() if _REQUEST_ID.fullmatch(value) else ""
        elif key == b"x-tidegate-arm":
            heard.arm = value.decode("latin-1")[:64]
        elif key == b"x-tidegate-release":
            heard.release = value.decode("latin-1")[:128]
        elif key == b"x-tidegate-propensity":
            heard.propensity = _propensity(value)
    if not heard.request_id:
        heard.request_id = str(uuid4())
    return heard


def _propensity(value: bytes) -> float | None:
    try:
        propensity = float(value)
    except ValueError:
        return None
    return propensity if 0 < propensity <= 1 else None


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
        raise _GoneError
    if len(body) > limit:
        raise _TooLargeError(f"body: got over {limit} bytes, takes at most {limit}")
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


def _error(text: str) -> bytes:
    return msgspec.json.encode({"error": text})
