"""The journal's events: append-only, hash-chained, one position a model.

An event's hash covers its position, model, kind, both times, its data and the hash before it, so that a changed byte
breaks the chain from there on. `time` is event time, `wall` the machine's clock; both in seconds since the epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64


@dataclass(frozen=True)
class Draft:
    """An event before it has a place in the journal. `data` is plain JSON."""

    kind: str
    time: float
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """An event in the journal: `seq` counts from 1 within its model."""

    seq: int
    model: str
    kind: str
    time: float
    wall: float
    data: Mapping[str, Any]
    before: str
    hash: str


def canonical(data: object) -> str:
    """JSON with sorted keys and no spaces; floats by repr, so that a value read back writes the same bytes."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def seal(draft: Draft, model: str, seq: int, wall: float, before: str) -> Event:
    """Give a draft its place in the chain."""
    body = canonical([seq, model, draft.kind, draft.time, wall, draft.data, before])
    return Event(
        seq, model, draft.kind, draft.time, wall, draft.data, before, hashlib.sha256(body.encode()).hexdigest()
    )


def intact(event: Event) -> bool:
    """Whether the event's hash is the hash of its content."""
    draft = Draft(event.kind, event.time, event.data)
    return seal(draft, event.model, event.seq, event.wall, event.before).hash == event.hash
