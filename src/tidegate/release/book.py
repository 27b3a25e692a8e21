"""What is known of each request of a release until it matures, in columns: one slot a request id.

A slot is taken when the first row or label of its request comes, and given back when no row of it waits any more; so
cost and memory follow the requests that have not matured, never history. Which of several labels stands is
`tidegate.monitor.join.standing`'s rule, here as there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.monitor.join import CANCELLED, OBSERVED, standing
from tidegate.observations import Label
from tidegate.release.index import IdIndex, Slots
from tidegate.release.rows import Bools, Floats, Ids, Labels, Placed, Rows, placed_at, take

ANSWER = ("time", "error", "latency_ms", "score", "loss")
"""What of a row its partner in shadow is compared with."""
SWEPT_FROM = 1000


@dataclass
class _Told:
    """The labels of one metric by slot; a second one of a request goes to `more`."""

    time: Floats
    value: Floats
    wall: Floats
    more: dict[int, list[Label]] = field(default_factory=dict)

    def grow(self, size: int) -> None:
        self.time, self.value, self.wall = (_grown(c, size, np.nan) for c in (self.time, self.value, self.wall))

    def clear(self, slots: Slots) -> None:
        self.time[slots] = np.nan
        if self.more:
            for slot in slots.tolist():
                self.more.pop(slot, None)


class RequestBook:
    """Slots of the requests that have not matured.

    deadline: seconds after its request's time within which a label counts. late: labels that came after it, or after
    their request had matured.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline, self.late = deadline, 0
        self._index = IdIndex()
        self._size, self._swept = 0, SWEPT_FROM
        self._waits = np.zeros((2, 0), dtype=np.int8)
        self._paired = np.zeros(0, dtype=np.bool_)
        self._answers: Floats = np.empty((2, len(ANSWER), 0))
        self._told: dict[str, _Told] = {}

    def place(self, rows: Rows) -> Placed:
        """Ordered rows with their slots; a second row of one (request id, arm) that waits already is left out."""
        slots = self._slots(rows.request_id)
        fresh = self._waits[rows.arm, slots] == 0
        for arm in (0, 1):
            own = np.flatnonzero(rows.arm == arm)
            fresh[own] &= _is_first(slots[own], self._index.made)
        placed = take(placed_at(rows, slots), fresh)
        self._waits[placed.arm, placed.slot] = placed.kind
        return placed

    def tell(self, labels: Labels) -> None:
        """Keep labels; the same one told twice is one."""
        ids: Ids = np.empty(len(labels.time), dtype=object)
        ids[:] = list(labels.request_id)
        slots, told = self._slots(ids), self._metric(labels.metric)
        new = np.isnan(told.time[slots]) & _is_first(slots, self._index.made)
        walls = np.zeros(len(slots)) if labels.wall is None else labels.wall
        for column, given in ((told.time, labels.time), (told.value, labels.value), (told.wall, walls)):
            column[slots[new]] = given[new]
        for i in np.flatnonzero(~new).tolist():
            self._tell_more(told, int(slots[i]), _label(labels, ids[i], i, walls[i]))

    def _tell_more(self, told: _Told, slot: int, label: Label) -> None:
        known = told.more.get(slot) or [self._first(told, slot, label.metric)]
        if not any(_same(label, other) for other in known):
            told.more[slot] = [*known, label]

    def _first(self, told: _Told, slot: int, metric: str | None) -> Label:
        one = Labels(told.time[slot : slot + 1], [self._index.ids[slot]], told.value[slot : slot + 1], metric or "")
        return _label(one, self._index.ids[slot], 0, float(told.wall[slot]))

    def standing(self, metric: str, slots: Slots, sent: Floats) -> tuple[Floats, Bools]:
        """(values, whether a label came in time) as the labels stood at each request's maturity; counts late ones.

        A value is nan where there is no label, or where the outcome never comes (cancelled).
        """
        if (told := self._told.get(metric)) is None:
            return np.full(len(slots), np.nan), np.zeros(len(slots), dtype=np.bool_)
        time, value = told.time[slots], told.value[slots]
        in_time = time <= sent + self.deadline
        self.late += int((~np.isnan(time)).sum() - in_time.sum())
        value[~in_time] = np.nan
        for i in np.flatnonzero(np.isin(slots, list(told.more))).tolist() if told.more else ():
            value[i], in_time[i] = self._resolve(told.more[int(slots[i])], sent[i] + self.deadline)
        return value, in_time

    def _resolve(self, labels: list[Label], cutoff: float) -> tuple[float, bool]:
        self.late += sum(label.time > cutoff for label in labels) - (labels[0].time > cutoff)
        found = next(iter(standing(labels, cutoff).values()), None)
        return (np.nan if found is None or found.value is None else found.value), found is not None

    def pair(self, rows: Placed, main: int) -> Slots:
        """Keep the answers of one mirrored place; slots of the requests that both versions have answered now."""
        if not self._answers.shape[2]:
            self._answers = np.full((2, len(ANSWER), self._size), np.nan)
        for i, name in enumerate(ANSWER):
            self._answers[rows.arm, i, rows.slot] = getattr(rows, name)
        both, own = self._waits[0, rows.slot] == self._waits[1, rows.slot], rows.arm == main
        found = rows.slot[both & own]
        self._paired[found] = True
        other = rows.slot[both & ~own]
        other = other[~self._paired[other]]
        self._paired[other] = True
        return np.concatenate([found, other])

    def is_paired(self, slots: Slots) -> Bools:
        """Whether both rows of these requests came."""
        return self._paired[slots]

    def answer(self, arm: int, slots: Slots) -> dict[str, Floats]:
        """What `arm` answered to these requests, by the names of `ANSWER`."""
        return {name: self._answers[arm, i, slots] for i, name in enumerate(ANSWER)}

    def leave(self, rows: Placed) -> None:
        """These rows have matured; requests of which none waits any more are forgotten."""
        self._waits[rows.arm, rows.slot] = 0
        gone = rows.slot[self._nobody(rows.slot)]
        self._release(np.unique(gone) if not _is_first(gone, self._index.made).all() else gone)

    def sweep(self, cutoff: float) -> None:
        """Drop labels of unknown requests that must have matured; at a cost that follows the labels told."""
        if len(self._index) < self._swept:
            return
        alone = np.sort(self._index.live)
        alone = alone[self._nobody(alone)]
        old = np.ones(len(alone), dtype=np.bool_)
        for told in self._told.values():
            old &= ~(told.time[alone] > cutoff)
            for i in np.flatnonzero(np.isin(alone, list(told.more))).tolist():
                old[i] &= max(label.time for label in told.more[int(alone[i])]) <= cutoff
        gone = alone[old]
        for told in self._told.values():
            self.late += int((~np.isnan(told.time[gone])).sum())
            self.late += sum(len(told.more[slot]) - 1 for slot in gone.tolist() if slot in told.more)
        self._release(gone)
        self._swept = max(SWEPT_FROM, 2 * len(self._index))

    def _nobody(self, slots: Slots) -> Bools:
        return np.asarray((self._waits[0, slots] | self._waits[1, slots]) == 0, dtype=np.bool_)

    def _slots(self, ids: Ids) -> Slots:
        found = self._index.slots(ids)
        self._grow(self._index.made)
        return found

    def _grow(self, least: int) -> None:
        if least <= self._size:
            return
        self._size = max(least, 2 * self._size)
        self._waits, self._paired = _grown(self._waits, self._size, 0), _grown(self._paired, self._size, False)
        if self._answers.shape[2]:
            self._answers = _grown(self._answers, self._size, np.nan)
        for told in self._told.values():
            told.grow(self._size)

    def _metric(self, name: str) -> _Told:
        if name not in self._told:
            time, value, wall = np.full((3, self._size), np.nan)
            self._told[name] = _Told(time, value, wall)
        return self._told[name]

    def _release(self, slots: Slots) -> None:
        self._paired[slots] = False
        for told in self._told.values():
            told.clear(slots)
        self._index.release(slots)


def _grown(column: NDArray[Any], size: int, fill: object) -> NDArray[Any]:
    wider = np.full((*column.shape[:-1], size), fill, dtype=column.dtype)
    wider[..., : column.shape[-1]] = column
    return wider


def _is_first(slots: Slots, made: int) -> Bools:
    """Whether a position is the first one with its slot."""
    where = np.empty(made, dtype=np.int64)
    where[slots[::-1]] = np.arange(len(slots))[::-1]
    return np.asarray(where[slots] == np.arange(len(slots)), dtype=np.bool_)


def _label(labels: Labels, request: str, i: int, wall: float) -> Label:
    value = float(labels.value[i])
    known = not np.isnan(value)
    told = OBSERVED if known else CANCELLED
    return Label(request, float(labels.time[i]), float(wall), value if known else None, told, labels.metric or None)


def _same(one: Label, other: Label) -> bool:
    return (one.time, one.value, one.wall) == (other.time, other.value, other.wall)
