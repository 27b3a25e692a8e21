"""The hot path: an ASGI app that answers by itself and hands everything else on to the one it wraps.

It stands outside BentoML's middleware, which costs ten times what an answer here does.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import traceback
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from tidegate.errors import PlatformError, UserError
from tidegate.serve.by_key import KeyLookup
from tidegate.serve.clock import Announced, Announcement, ClockRoute, keep_marking
from tidegate.serve.http import (
    TEXT,
    Answer,
    App,
    GoneError,
    Receive,
    Route,
    Scope,
    Send,
    TooLargeError,
    hear,
    one_write,
    read_body,
    refuse,
    text_of,
)
from tidegate.serve.loaded import LoadedModel
from tidegate.serve.metrics import Metrics
from tidegate.serve.openapi import PARAMETER, Operation, PredictAnswer, PredictByKeyAnswer, RankAnswer, Well, document
from tidegate.serve.prediction_log import Heard, PredictionLog
from tidegate.serve.scoring import Identity, Scored, Scorer
from tidegate.serve.v2 import InferenceProtocol

REFUSALS = {400: "Bad input", 405: "Not POST", 413: "Body too large", 500: "The model failed"}
"""Of whatever scores rows."""


class _Entry(NamedTuple):
    """A path's route and the methods that it takes."""

    path: str
    takes: tuple[str, ...]
    route: Route


class RequestPath:
    """Answers the paths that were added by `add`; `inner` answers the rest."""

    def __init__(
        self, who: Identity, model: LoadedModel, log: PredictionLog, inner: App, lookup: KeyLookup | None = None
    ) -> None:
        self.scorer = Scorer(who, model, log, lookup)
        self._inner = inner
        self._head = (b"x-tidegate-model", who.label.encode()), (b"x-tidegate-digest", model.digest.encode())
        self._open = b'{"model":' + msgspec.json.encode(who.label) + b',"rows":[{"score":'
        self.metrics = Metrics(who.name, who.version, self._counts)
        self._operations: list[Operation] = []
        self._exact: dict[str, _Entry] = {}
        self._templates: list[tuple[re.Pattern[str], _Entry]] = []
        self._met = lru_cache(256)(self._meet)
        for operation, route in (*self._own(), *InferenceProtocol(self.scorer).routes()):
            self.add(operation, route)

    def add(self, operation: Operation, route: Route) -> None:
        """Answer `operation` by `route`; what its path's parameters hold is then in ``scope["path_params"]``."""
        entry = _Entry(operation.path, ("POST",) if operation.method == "POST" else ("GET", "HEAD"), route)
        self._operations.append(operation)
        if PARAMETER.search(operation.path):
            pattern = re.compile(PARAMETER.sub(r"(?P<\1>[^/]+)", operation.path))
            self._templates.append((pattern, entry))
            self._met.cache_clear()
        else:
            self._exact[operation.path] = entry

    def _own(self) -> Iterator[tuple[Operation, Route]]:
        asked, one_of = self.scorer.decoder.type, self.scorer.decoder.one_of
        answered, text = PredictByKeyAnswer if self.scorer.lookup else PredictAnswer, "Scores in the order asked"
        yield Operation("/predict", "POST", text, answered, asked, REFUSALS, one_of=one_of), self._predict
        text = "Alternatives with their rank"
        yield Operation("/rank", "POST", text, RankAnswer, asked, REFUSALS, one_of=one_of), self._rank
        told = {400: "Bad input", 401: "No token", 405: "Not POST", 409: "Under the wall clock", 413: "Body too large"}
        clock = Operation("/clock", "POST", "The newest event time", Announced, Announcement, told, token=True)
        yield clock, ClockRoute(self.scorer)
        yield Operation("/livez", "GET", "Whether the process lives", Well), self._alive
        yield Operation("/readyz", "GET", "Whether the model answered its reference rows", Well), self._alive
        yield Operation("/metrics", "GET", "Prometheus text", "text/plain"), self._measure
        yield Operation("/openapi.json", "GET", "This document", "application/json"), self._describe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            return await self._lifespan(scope, receive, send)
        if scope["type"] != "http":
            return await self._inner(scope, receive, send)
        started = time.perf_counter()
        heard = hear(scope["headers"])
        entry = self._exact.get(scope["path"]) or self._matched(scope)
        if entry is None:
            return await self._inner(scope, receive, self._stamped(send, heard))
        self.metrics.in_flight += 1
        try:
            answer = await self._routed(entry, scope, receive, heard)
        except GoneError:
            return
        finally:
            self.metrics.in_flight -= 1
        status, body, kind, extra = answer
        length, own = (b"content-length", b"%d" % len(body)), (b"x-request-id", heard.request_id.encode())
        start = {"type": "http.response.start", "status": status, "headers": [kind, length, own, *self._head, *extra]}
        with one_write(send):
            await send(start)
            await send({"type": "http.response.body", "body": body})
        self.metrics.observe(entry.path, status, time.perf_counter() - started)

    async def _routed(self, entry: _Entry, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        """The route's answer, or the refusal that its error stands for."""
        if scope["method"] not in entry.takes:
            takes = ", ".join(entry.takes)
            return refuse(405, f"method: got {scope['method']}, takes {takes}", (b"allow", takes.encode()))
        try:
            return await entry.route(scope, receive, heard)
        except GoneError:
            raise
        except UserError as error:
            return refuse(400, str(error))
        except TooLargeError as error:
            return refuse(413, str(error), (b"connection", b"close"))
        except PlatformError as error:
            return refuse(500, str(error))
        except Exception:  # noqa: BLE001 - a fault of ours must not be a bare text of the server's
            traceback.print_exc()
            return refuse(500, "internal error; the service's own log has it")

    def _matched(self, scope: Scope) -> _Entry | None:
        """The first template that the path fits; a parameter's own slash comes as %2F."""
        entry, parameters = self._met(scope.get("raw_path") or scope["path"])
        scope["path_params"] = dict(parameters)
        return entry

    def _meet(self, asked: str | bytes) -> tuple[_Entry | None, dict[str, str]]:
        path = asked.decode("latin-1").partition("?")[0] if isinstance(asked, bytes) else asked
        for pattern, entry in self._templates:
            if found := pattern.fullmatch(path):
                return entry, {name: unquote(value) for name, value in found.groupdict().items()}
        return None, {}

    async def _predict(self, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        scored = await self.scorer.answer(await read_body(scope, receive), heard)
        return Answer(200, self._told(msgspec.json.encode(scored.scores)[1:-1].split(b","), scored))

    async def _rank(self, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        scored = await self.scorer.answer(await read_body(scope, receive), heard, "rank")
        ranked = zip(scored.scores, ranks(scored.scores), strict=True)
        told = (f'{score!r},"rank":{rank}'.encode() for score, rank in ranked)
        return Answer(200, self._told(told, scored))

    def _told(self, rows: Iterable[bytes], scored: Scored) -> bytes:
        """The answer; of each row what stands behind ``{"score":``."""
        if scored.found is not None:
            rows = (row + _level(level) for row, level in zip(rows, scored.found.fallbacks, strict=True))
        return self._open + b'},{"score":'.join(rows) + b"}]}"

    def _counts(self) -> tuple[int, int, int]:
        log, lookup = self.scorer.log, self.scorer.lookup
        return log.rows, log.dropped, lookup.reader.failures if lookup else 0

    async def _alive(self, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        return Answer(200, b'{"ok":true}')

    async def _describe(self, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        return Answer(200, self._document)

    @cached_property
    def _document(self) -> bytes:
        return document(self.scorer.who.name, self.scorer.who.version, self._operations)

    async def _measure(self, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        return Answer(200, self.metrics.text(await text_of(self._inner, scope)).encode(), TEXT)

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
        log = self.scorer.log
        marks = asyncio.create_task(keep_marking(log)) if self.scorer.who.clock == "wall" else None

        async def ending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                log.close()
            await send(message)

        try:
            await self._inner(scope, receive, ending)
        finally:
            if marks is not None:
                marks.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await marks


def ranks(scores: Sequence[float]) -> list[int]:
    """1 for the lowest score, 2 for the next; of equal ones the first in order comes first."""
    found = [0] * len(scores)
    for rank, index in enumerate(sorted(range(len(scores)), key=scores.__getitem__), 1):
        found[index] = rank
    return found


def _level(fallback: str | None) -> bytes:
    return b"" if fallback is None else b',"fallback":' + msgspec.json.encode(fallback)
