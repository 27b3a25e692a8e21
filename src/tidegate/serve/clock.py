"""Event time over HTTP: ``POST /clock``, taken only under ``--clock events`` and with the token."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Iterable
from typing import Protocol

import msgspec

from tidegate.serve.decoder import Moment, Seconds, refusal, seconds
from tidegate.serve.http import Answer, Header, Receive, Scope, read_body, refuse
from tidegate.serve.prediction_log import Heard
from tidegate.serve.scoring import Identity

MARK_EVERY = 1.0
"""Seconds between two marks under the wall clock."""


class Log(Protocol):
    """A log that takes marks."""

    @property
    def rows(self) -> int:
        """Rows taken so far."""

    def promise(self, now: float, /) -> None:
        """Put a mark behind what was logged so far."""

    def flush(self) -> None:
        """Write everything."""


class Timed(Protocol):
    """Whoever logs by the clock; `announced` is the newest event time that was told."""

    announced: float | None

    @property
    def who(self) -> Identity:
        """Says which clock and which token."""

    @property
    def log(self) -> Log:
        """Where the marks go."""


class Announcement(msgspec.Struct, forbid_unknown_fields=True):
    """The newest event time."""

    now: Seconds | Moment


class Announced(msgspec.Struct):
    """The time in force, in seconds, and the rows that this process has logged."""

    now: float
    rows: int


class ClockRoute:
    """Takes the newest event time; the mark that it puts into the log is on disk when it is answered."""

    def __init__(self, timed: Timed) -> None:
        self._timed = timed

    async def __call__(self, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        """As `tidegate.serve.http.Route`; time never goes back."""
        if not self._allowed(scope["headers"]):
            return refuse(401, "POST /clock needs the bearer token of the state folder")
        if self._timed.who.clock != "events":
            return refuse(409, "clock: got a time under the wall clock, takes one only with --clock events")
        try:
            found = msgspec.json.decode(await read_body(scope, receive), type=Announcement)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise refusal(str(error)) from None
        now = self._timed.announced = max(seconds(found.now) or 0.0, self._timed.announced or 0.0)
        log = self._timed.log
        log.promise(now)
        rows = log.rows
        await asyncio.get_running_loop().run_in_executor(None, log.flush)
        return Answer(200, msgspec.json.encode(Announced(now, rows)))

    def _allowed(self, headers: Iterable[Header]) -> bool:
        given = next((value for key, value in headers if key == b"authorization"), b"")
        token = self._timed.who.token
        return bool(token) and hmac.compare_digest(given, f"Bearer {token}".encode())


async def keep_marking(log: Log) -> None:
    """Put a mark into the log every `MARK_EVERY` seconds of the wall clock."""
    while True:
        log.promise(time.time())
        await asyncio.sleep(MARK_EVERY)
