"""Reading a long journal in parts: one page of it, what changed a model, some of its looks.

Keys are found in the indexes, then those events alone are read: a page costs the same in a journal of a million events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from tidegate.journal.events import Event
from tidegate.journal.store import EVENTS, Journal

LOOKS = ("release.looked", "trigger.evaluated")
"""Kinds that are written at every look, whether or not something changed; most events are one of these."""
FEW = 500
"""Keys in one query."""

_key = EVENTS.c.time, EVENTS.c.model, EVENTS.c.seq
Key = tuple[float, str, int]


@dataclass(frozen=True)
class Asked:
    """Which events: of one model or all (empty), of kinds that begin so, from one event time to another, both included.

    looks: those of `LOOKS` too.
    """

    model: str = ""
    kind: str = ""
    since: float | None = None
    until: float | None = None
    looks: bool = False


@dataclass(frozen=True)
class Place:
    """An event without what it says."""

    seq: int
    kind: str
    time: float


def page(journal: Journal, asked: Asked, before: Key | None, limit: int) -> list[Event]:
    """The newest events that were asked for, newest first; `before`: only those that come before this one.

    Of one model in the order in which they were written, of several by event time.
    """
    order = (EVENTS.c.seq,) if asked.model else _key
    query = sa.select(*_key).where(*_conditions(asked)).order_by(*(part.desc() for part in order)).limit(limit)
    if before is not None:
        query = query.where(EVENTS.c.seq < before[2] if asked.model else sa.tuple_(*_key) < sa.tuple_(*before))
    keys = [(row.model, row.seq) for row in journal.rows(query)]
    found = {(event.model, event.seq): event for event in _read(journal, keys)}
    return [found[key] for key in keys]


def _conditions(asked: Asked) -> Iterable[sa.ColumnElement[bool]]:
    if asked.model:
        yield EVENTS.c.model == asked.model
    if asked.kind:
        yield EVENTS.c.kind >= asked.kind
        yield EVENTS.c.kind < asked.kind + "\U0010ffff"
    if not asked.looks:
        yield EVENTS.c.kind.not_in(LOOKS)
    if asked.since is not None:
        yield EVENTS.c.time >= asked.since
    if asked.until is not None:
        yield EVENTS.c.time <= asked.until


def turning(journal: Journal, model: str, after: int = 0, upto: int | None = None) -> list[Event]:
    """The events that changed something, and of the looks of each kind the newest one, in order.

    Folded they are the state but for what only looks tell: how many there were, and findings of drift.
    """
    where = list(_of(model, after, upto))
    changed = sa.select(EVENTS.c.seq).where(*where, EVENTS.c.kind.not_in(LOOKS))
    newest = (sa.select(sa.func.max(EVENTS.c.seq)).where(*where, EVENTS.c.kind == kind) for kind in LOOKS)
    wanted = sa.union_all(changed, *newest)
    return journal.events(
        sa.select(EVENTS).where(EVENTS.c.model == model, EVENTS.c.seq.in_(wanted)).order_by(EVENTS.c.seq)
    )


def places(journal: Journal, model: str, kinds: Sequence[str], after: int = 0, upto: int | None = None) -> list[Place]:
    """Where the events of some kinds are, in order."""
    query = sa.select(EVENTS.c.seq, EVENTS.c.kind, EVENTS.c.time).where(*_of(model, after, upto))
    return [Place(*tuple(row)) for row in journal.rows(query.where(EVENTS.c.kind.in_(kinds)).order_by(EVENTS.c.seq))]


def _of(model: str, after: int, upto: int | None) -> Iterable[sa.ColumnElement[bool]]:
    yield EVENTS.c.model == model
    if after:
        yield EVENTS.c.seq > after
    if upto is not None:
        yield EVENTS.c.seq <= upto


def events(journal: Journal, model: str, seqs: Sequence[int]) -> list[Event]:
    """The events of one model with these numbers, in order."""
    return sorted(_read(journal, [(model, seq) for seq in seqs]), key=lambda event: event.seq)


def _read(journal: Journal, keys: Sequence[tuple[str, int]]) -> list[Event]:
    by_model: dict[str, list[int]] = {}
    for model, seq in keys:
        by_model.setdefault(model, []).append(seq)
    found = []
    for model, seqs in by_model.items():
        for start in range(0, len(seqs), FEW):
            some = seqs[start : start + FEW]
            found += journal.events(sa.select(EVENTS).where(EVENTS.c.model == model, EVENTS.c.seq.in_(some)))
    return found


def last_by(journal: Journal, model: str, time: float) -> int:
    """The number of the last event before the first one of a later event time: what `status --at` goes by."""
    # not by the index of times, which has those of every model
    query = sa.select(sa.func.min(EVENTS.c.seq)).where(EVENTS.c.model == model, EVENTS.c.time + 0.0 > time)
    ((later,),) = journal.rows(query)
    return journal.head(model)[0] if later is None else int(later) - 1
