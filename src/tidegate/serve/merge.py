"""The merge service of an interleaving stage: ``python -m tidegate.serve.merge --champion v1=PORT ...``.

Both models are asked for ``/rank`` at once; their lists are mixed by team draft and every shown item is logged with
the model that it is credited to. Where one model has no list, the other's goes out, and the session is no evidence of
which ranking is better, but of who failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tidegate.errors import UserError
from tidegate.observations import Prediction, SegmentWriter, Shown
from tidegate.serve.clock import ClockRoute, keep_marking
from tidegate.serve.decoder import Moment, Seconds, refusal, seconds
from tidegate.serve.http import (
    TEXT,
    Answer,
    GoneError,
    Header,
    Receive,
    Route,
    Scope,
    Send,
    TooLargeError,
    hear,
    read_body,
    refuse,
)
from tidegate.serve.lists import Lists, Reply, side_of
from tidegate.serve.metrics import Metrics
from tidegate.serve.mix import mix
from tidegate.serve.openapi import RankAnswer
from tidegate.serve.prediction_log import Heard
from tidegate.serve.process import add_place, read_token, run
from tidegate.serve.scoring import Identity

VERSION = "merge"
"""What stands in the log as the version of a mixed list's rows: no model's."""

PATIENCE = 0.25
"""Seconds that users wait for the second list once the first is there."""


class _Timed(msgspec.Struct):
    """What the merge service itself reads of a request."""

    at: Seconds | Moment | None = None


class MergeService:
    """An ASGI app that answers /rank, /clock, /livez, /readyz and /metrics; `who.version` is the champion's.

    `announced`: the newest event time that was told, under the event clock.
    """

    def __init__(self, who: Identity, lists: Lists, log: SegmentWriter) -> None:
        self.who, self.log, self._lists = who, log, lists
        self.announced: float | None = None
        self.metrics = Metrics(who.name, VERSION, lambda: (log.rows, log.dropped, 0))
        self._routes: dict[str, tuple[str, Route]] = {
            "/rank": ("POST", self._rank),
            "/clock": ("POST", ClockRoute(self)),
            "/livez": ("GET", _alive),
            "/readyz": ("GET", _alive),
            "/metrics": ("GET", self._measure),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        started, heard = time.perf_counter(), hear(scope["headers"])
        self.metrics.in_flight += 1
        try:
            status, body, kind, more = await self._answer(scope, receive, heard)
        except GoneError:
            return
        finally:
            self.metrics.in_flight -= 1
        headers = [kind, (b"content-length", b"%d" % len(body)), (b"x-request-id", heard.request_id.encode()), *more]
        if not any(name == b"x-tidegate-model" for name, _ in more):
            headers += self._head(0)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        if scope["path"] in self._routes:
            self.metrics.observe(scope["path"], status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        method, route = self._routes.get(scope["path"], ("", None))
        if route is None:
            return refuse(404, "no such path; the merge service answers /rank")
        if scope["method"] != method:
            return refuse(405, f"method: got {scope['method']}, takes {method}")
        try:
            return await route(scope, receive, heard)
        except UserError as error:
            return refuse(400, str(error))
        except TooLargeError as error:
            return refuse(413, str(error), (b"connection", b"close"))

    async def _rank(self, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        started = time.perf_counter()
        body = await read_body(scope, receive)
        replies = await self._lists.ask(body, heard.request_id)
        mixed = mix(replies, self._versions, heard.request_id)
        # from here on nothing is awaited, so that a mark in the log never overtakes a row
        took = (time.perf_counter() - started) * 1000
        if mixed is None:
            return self._failed(replies, heard, body, took)
        at = self._time(body)
        for row, shown in zip(mixed.rows, mixed.shown, strict=True):
            self._record(heard, at, took, shown, row.score)
        told = RankAnswer(f"{self.who.name}@{self._versions[mixed.named]}", list(mixed.rows))
        return Answer(200, msgspec.json.encode(told), headers=self._head(mixed.named))

    def _failed(self, replies: tuple[Reply, Reply], heard: Heard, body: bytes, took: float) -> Answer:
        """Nobody has a list: what the champion said goes out, else what the challenger said."""
        if not replies[0].refused:
            self._record(heard, self._time(body), took, Shown(0, 0, None, (None, None)), None)
        for side, reply in enumerate(replies):
            if reply.status >= 400:
                return Answer(reply.status, reply.body, headers=self._head(side))
        return refuse(503, "neither model answered")

    def _record(self, heard: Heard, at: float, took: float, shown: Shown, score: float | None) -> None:
        row = Prediction(
            f"{heard.request_id}/{shown.item}", at, time.time(), VERSION, "", heard.arm, heard.propensity,
            heard.release, score, score is None, took, [], endpoint="rank", shown=shown,
        )  # fmt: skip
        self.log.append(row)

    def _time(self, body: bytes) -> float:
        """The request's own time: wall time, or its `at`, or the last that was announced."""
        if self.who.clock == "wall":
            return time.time()
        try:
            at = seconds(msgspec.json.decode(body, type=_Timed).at)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise refusal(str(error)) from None
        if at is None and self.announced is None:
            raise UserError("at", None, "the request's time: no time was announced yet")
        return at if at is not None else self.announced  # type: ignore[return-value]

    @property
    def _versions(self) -> tuple[str, str]:
        champion, challenger = self._lists.sides
        return champion.version, challenger.version

    def _head(self, side: int) -> tuple[Header, ...]:
        """Who stands behind an answer; of a mixed list the champion."""
        found = self._lists.sides[side]
        label = f"{self.who.name}@{found.version}"
        return (b"x-tidegate-model", label.encode()), (b"x-tidegate-digest", found.digest.encode())

    async def _measure(self, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        return Answer(200, self.metrics.text().encode(), TEXT)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Between start and end write marks under the wall clock; at the end finish the log."""
        await receive()
        marks = asyncio.create_task(keep_marking(self.log)) if self.who.clock == "wall" else None
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if marks is not None:
            marks.cancel()
        await self._lists.close()
        self.log.close()
        await send({"type": "lifespan.shutdown.complete"})


async def _alive(scope: Scope, receive: Receive, heard: Heard) -> Answer:
    return Answer(200, b'{"ok":true}')


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tidegate.serve.merge", description="Mix two models' lists.")
    parser.add_argument("--name", required=True, help="the model's name")
    parser.add_argument("--champion", required=True, help="VERSION=PORT, or VERSION=HOST:PORT,HOST:PORT")
    parser.add_argument("--challenger", required=True, help="the same of the other one")
    parser.add_argument("--observations", required=True, type=Path, help="folder of the prediction log")
    parser.add_argument("--clock", choices=("wall", "events"), default="wall")
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--writer", default="")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds that the second list is waited for")
    add_place(parser)
    return parser.parse_args(arguments)


def _service(given: argparse.Namespace) -> MergeService:
    lists = Lists(side_of(given.champion), side_of(given.challenger), given.patience)
    who = Identity(given.name, lists.sides[0].version, given.clock, read_token(given.token_file))
    writer = given.writer or f"{VERSION}-{os.getpid()}-{os.urandom(3).hex()}"
    return MergeService(who, lists, SegmentWriter(given.observations, writer))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM; then stop accepting, answer what is in flight, finish the log and return 0."""
    given = _arguments(sys.argv[1:] if arguments is None else arguments)
    return run(given, lambda: _service(given))


if __name__ == "__main__":
    sys.exit(main())
