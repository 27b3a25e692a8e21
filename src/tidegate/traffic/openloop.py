"""An open-loop HTTP/1.1 client: every request is sent by the clock at its due time, whatever the answers do.

Latency counts from the due time. Half of the requests go over kept-alive connections (a pool that grows as needed),
half over new ones. Nothing is sent twice, and every request ends in exactly one `Answer`: one that got no answer has
status 0 and says why.
"""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

GIVE_UP = 30.0
"""Seconds after its due time at which a request counts as unanswered."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ ]*(\d+)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id:[ ]*([^\r]*)", re.IGNORECASE)
_MODEL = re.compile(rb"\r\nx-tidegate-model:[ ]*([^\r]*)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ ]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ ]*close", re.IGNORECASE)


class Answer(NamedTuple):
    """What became of one request. `latency` is in seconds from the due time; `status` 0: no answer, see `error`."""

    tag: Any
    due: float
    status: int
    latency: float
    request_id: str
    model: str
    body: bytes
    error: str


@dataclass(eq=False, slots=True)
class _Request:
    due: float
    path: str
    body: bytes
    tag: Any
    keep: bool

    def message(self, host: str) -> bytes:
        """The request as bytes."""
        close = "" if self.keep else "Connection: close\r\n"
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"{close}Content-Length: {len(self.body)}\r\n\r\n"
        ).encode() + self.body


@dataclass(frozen=True)
class Results:
    """Counts over everything that was sent; latencies in seconds."""

    sent: int
    answered: int
    failed: int
    statuses: dict[int, int]
    p50: float
    p99: float
    worst: float


@dataclass
class OpenLoop:
    """Sends by the clock; all methods belong to one asyncio loop.

    Times are seconds on the client's own clock, which starts at 0 with `start`, stands still while paused, and so
    shifts the whole schedule by the pause. `on_answer` is called for every request, once.
    """

    host: str
    port: int
    on_answer: Callable[[Answer], None] = lambda answer: None
    sent: int = 0
    new_connections: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    _statuses: Counter[int] = field(default_factory=Counter)
    _latencies: array[float] = field(default_factory=lambda: array("d"))
    _waiting: deque[_Request] = field(default_factory=deque)
    _flying: dict[_Request, None] = field(default_factory=dict)
    _idle: list[_Connection] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _timer: asyncio.TimerHandle | None = None
    _sweep: asyncio.TimerHandle | None = None
    _started: float | None = None
    _paused: float | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> None:
        """Start the clock at 0; must be called inside the loop."""
        self._loop = asyncio.get_running_loop()
        self._started = time.monotonic()
        self._sweep = self._loop.call_later(1.0, self._give_up)

    @property
    def now(self) -> float:
        """Seconds since `start`, pauses left out."""
        if self._started is None:
            return 0.0
        return (time.monotonic() if self._paused is None else self._paused) - self._started

    @property
    def in_flight(self) -> int:
        """Requests sent and not yet answered."""
        return len(self._flying)

    @property
    def waiting(self) -> int:
        """Requests submitted and not yet sent."""
        return len(self._waiting)

    def oldest_open(self) -> Any:
        """Tag of the oldest request that is sent and not answered yet; None when there is none."""
        return next(iter(self._flying)).tag if self._flying else None

    def submit(self, due: float, path: str, body: bytes, tag: Any = None) -> None:
        """Send `body` at `due`; calls must come in order of `due`. A due time that has passed is sent at once."""
        number = self.sent + len(self._waiting)
        self._waiting.append(_Request(due, path, body, tag, number % 2 == 0))
        if len(self._waiting) == 1:
            self._schedule()

    async def run(self, schedule: Iterable[tuple[float, str, bytes]] = (), ahead: int = 2000) -> Results:
        """Send what was submitted and then a schedule of (due, path, body), taken lazily, `ahead` at most; drain."""
        if self._started is None:
            self.start()
        self._schedule()
        for number, (due, path, body) in enumerate(schedule):
            self.submit(due, path, body, number)
            while len(self._waiting) >= ahead:
                await asyncio.sleep(0.01)
        return await self.drain()

    async def drain(self) -> Results:
        """Wait until everything submitted was sent and answered or given up."""
        while self._waiting or self._flying:
            self._changed.clear()
            await self._changed.wait()
        return self.results()

    def pause(self) -> None:
        """Stop the clock: nothing more is sent; what is in flight goes on."""
        if self._paused is None:
            self._paused = time.monotonic()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def resume(self) -> None:
        """Let the clock go on from where it stood."""
        if self._paused is not None and self._started is not None:
            self._started += time.monotonic() - self._paused
            self._paused = None
            self._schedule()

    def drop(self) -> None:
        """Forget what is waiting: it is not sent; what is in flight goes on."""
        self._waiting.clear()
        self._changed.set()

    def results(self) -> Results:
        """Counts and latencies so far."""
        latencies = sorted(self._latencies)
        answered = sum(count for status, count in self._statuses.items() if status)
        return Results(
            self.sent,
            answered,
            sum(count for status, count in self._statuses.items() if status == 0 or status >= 500),
            dict(self._statuses),
            *(latencies[int(share * (len(latencies) - 1))] if latencies else 0.0 for share in (0.5, 0.99, 1.0)),
        )

    def close(self) -> None:
        """Close the connections; requests in flight end unanswered."""
        for handle in (self._timer, self._sweep):
            if handle is not None:
                handle.cancel()
        for connection in self._idle:
            connection.abandon()
        for task in self._tasks:
            task.cancel()

    def _schedule(self) -> None:
        """One timer, for the first waiting request."""
        if self._paused is None and self._started is not None and self._waiting and self._timer is None:
            self._timer = self._loop.call_later(max(0.0, self._waiting[0].due - self.now), self._send_due)

    def _send_due(self) -> None:
        self._timer = None
        # a timer may ring a little early: what is due within half a millisecond goes too
        horizon = self.now + 0.0005
        while self._waiting and self._waiting[0].due <= horizon:
            self._send(self._waiting.popleft())
        self._schedule()

    def _send(self, request: _Request) -> None:
        self.sent += 1
        self._flying[request] = None
        while request.keep and self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection.send(request)
        task = self._loop.create_task(self._connect(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, request: _Request) -> None:
        self.new_connections += 1
        try:
            _, connection = await self._loop.create_connection(lambda: _Connection(self), self.host, self.port)
        except OSError as error:
            return self.finish(request, 0, b"", b"", f"connect: {error.strerror or error}")
        connection.send(request)

    def free(self, connection: _Connection) -> None:
        """A kept-alive connection has nothing to do; called by the connection."""
        self._idle.append(connection)

    def finish(self, request: _Request, status: int, head: bytes, body: bytes, error: str = "") -> None:
        """End a request, once; called by its connection."""
        if self._flying.pop(request, self) is self:
            return
        latency = time.monotonic() - (self._started or 0.0) - request.due
        self._statuses[status] += 1
        self._latencies.append(latency)
        if error:
            self.errors[error] += 1
        self.on_answer(
            Answer(
                request.tag, request.due, status, latency, _first(_REQUEST_ID, head), _first(_MODEL, head), body, error
            )
        )
        self._changed.set()

    def _give_up(self) -> None:
        self._sweep = self._loop.call_later(1.0, self._give_up)
        limit = self.now - GIVE_UP
        for request in [request for request in self._flying if request.due < limit]:
            self.finish(request, 0, b"", b"", "no answer in time")


class _Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, client: OpenLoop) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._request: _Request | None = None
        self._data = b""

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def abandon(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def send(self, request: _Request) -> None:
        self._request = request
        if self._transport is None or self._transport.is_closing():
            return self._fail("closed before it was sent")
        self._transport.write(request.message(self._client.host))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or self._request is None:
            return
        head = self._data[:end]
        if (size := _body_size(head, self._data, end + 4)) is None:
            return
        body, self._data = self._data[end + 4 : end + 4 + size], b""
        request, self._request = self._request, None
        self._client.finish(request, int(head[9:12]), head, body)
        if request.keep and not _CLOSE.search(head):
            self._client.free(self)
        elif self._transport is not None:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._fail(f"connection lost: {error or 'closed by the server'}")

    def _fail(self, why: str) -> None:
        request, self._request = self._request, None
        if request is not None:
            self._client.finish(request, 0, b"", b"", why)


def _body_size(head: bytes, data: bytes, start: int) -> int | None:
    """Bytes of the body after `start`, None while it is not all there."""
    if found := _LENGTH.search(head):
        size = int(found[1])
        return size if len(data) - start >= size else None
    if _CHUNKED.search(head):
        return len(data) - start if data.endswith(b"0\r\n\r\n") else None
    return 0


def _first(pattern: re.Pattern[bytes], head: bytes) -> str:
    found = pattern.search(head)
    return found[1].decode("latin-1") if found else ""
