"""Event times as people and programs write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from tidegate.errors import UserError

TAKES = "ISO 8601 with a zone, for example 2013-07-01T12:00:00Z, or seconds since the epoch"
MOST = 1e11
"""Seconds since the epoch that are still taken for a time: the year 5138."""


def seconds(time: object, where: str) -> float:
    """ISO 8601 text with its zone, or a number of seconds, as seconds since the epoch; UserError names `where`."""
    if isinstance(time, str):
        try:
            parsed = datetime.fromisoformat(time)
        except ValueError:
            raise UserError(where, time[:60], TAKES) from None
        if parsed.tzinfo is not None:
            return parsed.astimezone(UTC).timestamp()
    elif isinstance(time, int | float) and not isinstance(time, bool) and math.isfinite(time) and abs(time) < MOST:
        return float(time)
    raise UserError(where, time, TAKES)


def iso(time: float) -> str:
    """Seconds since the epoch as ISO 8601 with Z, to the second."""
    return datetime.fromtimestamp(math.floor(time), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
