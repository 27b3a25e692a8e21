"""Rows of evidence as columns: what a service logged about one request, and the labels that came later.

Everything here is numpy columns of one length, so that a file of ten million rows and a look at the live log go
through the same folding.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tidegate.release.policy import SHADOW, SPLIT, WATCH

if TYPE_CHECKING:
    pass

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Arms = NDArray[np.int16]
Ids = NDArray[Any]
CHAMPION, CHALLENGER = 0, 1
KINDS = ("", SPLIT, SHADOW, WATCH)
"""Places of evidence by the kind of a placed row; 0 is none."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Answered requests, one row each; a mirrored copy is a row of its own with the same request id.

    time: seconds since the epoch. arm: 0 the champion, 1 the challenger. propensity: probability with which the
    request was sent to the arm it got; 1.0 for mirrored rows. score: nan when the request failed. loss: where it is
    known already, else nan and made from score and label at maturity. latency_ms: nan when unknown. groups: its value
    in each guarded slice, [rows, slices]. part: its place in a request of many rows, 0 for the first.
    """

    time: Floats
    request_id: Ids
    arm: Arms
    propensity: Floats
    mirrored: Bools
    score: Floats
    loss: Floats
    error: Bools
    latency_ms: Floats
    groups: Ids
    part: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, eq=False)
class Placed(Rows):
    """Rows with their slot in a `RequestBook`, and the kind of evidence each is: an index into `KINDS`."""

    slot: NDArray[np.int64]
    kind: NDArray[np.int8]


def placed_at(rows: Rows, slot: NDArray[np.int64]) -> Placed:
    """Rows of two arms with their slots and kinds.

    A split has a share below 1. A pair is a request answered by one version, with a copy to the other: in `watch` the
    challenger is the one that answers.
    """
    paired = rows.mirrored | (rows.propensity >= 1)
    shadow = rows.mirrored == (rows.arm == CHALLENGER)
    kind = np.where(paired, np.where(shadow, 2, 3), 1).astype(np.int8)
    return Placed(**{part.name: getattr(rows, part.name) for part in fields(rows)}, slot=slot, kind=kind)


@dataclass(frozen=True, eq=False)
class Labels:
    """What became of requests, or of one business metric of theirs.

    value: nan for an outcome that never comes (cancelled); it leaves the loss. metric: empty for the outcome itself.
    wall: when each was received; of two with one time the one received last stands. None: all at once.
    """

    time: Floats
    request_id: Sequence[str]
    value: Floats
    metric: str = ""
    wall: Floats | None = None


T = TypeVar("T", bound="Rows")


def take(table: T, index: Any) -> T:
    """The rows at `index` (positions, a mask or a slice)."""
    if isinstance(index, np.ndarray) and index.dtype == np.bool_ and index.all():
        return table
    return type(table)(**{part.name: getattr(table, part.name)[index] for part in fields(table)})


def concat(tables: Sequence[T]) -> T:
    """Several tables, at least one, as one, in the order given."""
    if len(tables) == 1:
        return tables[0]
    kind = type(tables[0])
    return kind(**{part.name: np.concatenate([getattr(t, part.name) for t in tables]) for part in fields(kind)})


def in_order(time: Floats, request_id: Ids) -> NDArray[np.intp] | None:
    """Positions that sort by (time, request id), the one order of evidence; None when it is sorted already."""
    later, tied = time[1:] > time[:-1], time[1:] == time[:-1]
    if (later | tied).all() and (request_id[1:][tied] >= request_id[:-1][tied]).all():
        return None
    by_time: NDArray[np.intp] = np.argsort(time, kind="stable")
    again = time[by_time]
    if not (again[1:] == again[:-1]).any():
        return by_time
    import polars as pl

    keys = pl.DataFrame({"time": time, "id": pl.Series(request_id.tolist(), dtype=pl.String)})
    return np.asarray(keys.select(pl.arg_sort_by("time", "id", maintain_order=True)).to_series().to_numpy(), np.intp)


def ordered(table: T) -> T:
    """The table sorted by (time, request id)."""
    index = in_order(table.time, table.request_id)
    return table if index is None else take(table, index)


@dataclass
class Waiting:
    """Rows that wait for a time to pass: sorted chunks in a heap, so that taking some costs what is taken."""

    chunks: list[tuple[float, int, Any]] = field(default_factory=list)
    added: int = 0

    def put(self, table: Rows) -> None:
        """Keep a table for later."""
        if len(table):
            self._push(ordered(table))

    def _push(self, table: Rows) -> None:
        self.added += 1
        heapq.heappush(self.chunks, (float(table.time[0]), self.added, table))

    def until(self, time: float) -> Any:
        """Take every row with a time up to `time`, as one sorted table; None when there is none."""
        taken = []
        while self.chunks and self.chunks[0][0] <= time:
            table = heapq.heappop(self.chunks)[2]
            cut = int(np.searchsorted(table.time, time, side="right"))
            taken.append(take(table, slice(0, cut)))
            if cut < len(table):
                self._push(take(table, slice(cut, None)))
        return ordered(concat(taken)) if taken else None


def rows_of(
    time: Sequence[float],
    request_id: Sequence[str],
    arm: Sequence[int],
    propensity: Sequence[float],
    *,
    mirrored: Sequence[bool] | None = None,
    score: Sequence[float] | None = None,
    loss: Sequence[float] | None = None,
    error: Sequence[bool] | None = None,
    latency_ms: Sequence[float] | None = None,
    groups: Sequence[Sequence[str]] = (),
    part: Sequence[int] | None = None,
) -> Rows:
    """Rows from plain sequences of one length; a column that is not given is nan, false or 0 throughout.

    groups: one sequence a guarded slice.
    """
    size = len(time)
    ids = np.empty(size, dtype=object)
    ids[:] = list(request_id)

    def floats(values: Sequence[float] | None) -> Floats:
        return np.full(size, np.nan) if values is None else np.asarray(values, dtype=np.float64)

    def bools(values: Sequence[bool] | None) -> Bools:
        return np.zeros(size, dtype=np.bool_) if values is None else np.asarray(values, dtype=np.bool_)

    values = np.empty((size, len(groups)), dtype=object)
    for number, column in enumerate(groups):
        values[:, number] = list(column)
    return Rows(
        floats(time),
        ids,
        np.asarray(arm, dtype=np.int16),
        floats(propensity),
        bools(mirrored),
        floats(score),
        floats(loss),
        bools(error),
        floats(latency_ms),
        values,
        np.zeros(size, dtype=np.int32) if part is None else np.asarray(part, dtype=np.int32),
    )
