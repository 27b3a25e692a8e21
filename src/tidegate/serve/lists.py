"""Two models asked for their lists at the same time: ``/rank`` of both, with a limit on waiting for the second one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import httpx
import msgspec

from tidegate.errors import UserError
from tidegate.serve.openapi import RankAnswer, RankedRow

LONGEST = 10.0
"""Seconds after which a model that is the only hope of an answer is given up; the gateway waits 15."""


@dataclass(frozen=True)
class Reply:
    """What one model said. `rows` None: no list; `status` 0: nothing at all. `took`: milliseconds."""

    status: int = 0
    body: bytes = b""
    rows: Sequence[RankedRow] | None = None
    took: float = 0.0
    digest: str = ""

    @property
    def refused(self) -> bool:
        """The request was wrong, not the model."""
        return 400 <= self.status < 500


@dataclass
class Side:
    """One version and where its replicas answer, ``host:port``; they are asked in turn."""

    version: str
    addresses: tuple[str, ...]
    digest: str = ""
    """The last one that it stated."""
    _turn: Iterator[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._turn = cycle(self.addresses)

    def next_url(self) -> str:
        """Where the next request goes."""
        return f"http://{next(self._turn)}/rank"


def side_of(text: str) -> Side:
    """``v1=8001`` or ``v1=host:8001,host:8002`` -> the side; a bare port is on this machine."""
    version, _, places = text.partition("=")
    addresses = tuple(place if ":" in place else f"127.0.0.1:{place}" for place in places.split(",") if place)
    if not version or not addresses or not all(place.rpartition(":")[2].isdecimal() for place in addresses):
        raise UserError("version", text, "VERSION=PORT or VERSION=HOST:PORT, more replicas behind a comma")
    return Side(version, addresses)


class Lists:
    """Asks both sides; `patience`: seconds that the second one is waited for once the first list is there."""

    def __init__(self, champion: Side, challenger: Side, patience: float) -> None:
        self.sides, self._patience = (champion, challenger), patience
        limits = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
        self._client = httpx.AsyncClient(timeout=LONGEST, limits=limits, trust_env=False)

    async def ask(self, body: bytes, request_id: str) -> tuple[Reply, Reply]:
        """(champion's, challenger's); one that failed, or came too late, has no list. Raises nothing."""
        tasks = [asyncio.create_task(self._ask(side, body, request_id)) for side in self.sides]
        try:
            done, late = await asyncio.wait(tasks, timeout=LONGEST, return_when=asyncio.FIRST_COMPLETED)
            if late:
                listed = any(task.result().rows is not None for task in done)
                await asyncio.wait(late, timeout=self._patience if listed else LONGEST)
            champion, challenger = (task.result() if task.done() else Reply() for task in tasks)
            return champion, challenger
        finally:
            for task in tasks:
                task.cancel()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, side: Side, body: bytes, request_id: str) -> Reply:
        started = time.perf_counter()
        # the arm's header is not sent on: what a model logs of this is no evidence of its own
        headers = {"content-type": "application/json", "x-request-id": request_id}
        try:
            answer = await self._client.post(side.next_url(), content=body, headers=headers)
        except httpx.HTTPError:
            return Reply()
        side.digest = answer.headers.get("x-tidegate-digest", side.digest)
        took = (time.perf_counter() - started) * 1000
        rows = rows_of(answer.content) if answer.status_code == 200 else None
        return Reply(answer.status_code, answer.content, rows, took, side.digest)


def rows_of(body: bytes) -> list[RankedRow] | None:
    """The rows of an answer, None when it is not one or its ranks are not 1 ... N."""
    try:
        rows = msgspec.json.decode(body, type=RankAnswer).rows
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return rows if sorted(row.rank for row in rows) == list(range(1, len(rows) + 1)) else None
