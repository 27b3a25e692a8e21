"""Where `now` comes from: the machine, or a replay that announces event time."""

from __future__ import annotations

import time
from typing import Literal, Protocol

ClockKind = Literal["wall", "events"]


class Clock(Protocol):
    """Seconds since the epoch."""

    kind: ClockKind

    def now(self) -> float:
        """The newest known time."""


class WallClock:
    """The machine's own clock."""

    kind: ClockKind = "wall"

    def now(self) -> float:
        """Wall time."""
        return time.time()


class EventClock:
    """The newest time that a replay has announced; never goes back."""

    kind: ClockKind = "events"

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def now(self) -> float:
        """The newest announced time."""
        return self._now

    def announce(self, now: float) -> float:
        """Move on to `now` where that is later; returns what the clock says then."""
        self._now = max(self._now, now)
        return self._now
