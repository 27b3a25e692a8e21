"""Rows of evidence as columns: what a service logged about one request, and the labels that came later.

Everything here is numpy columns of one length, so that a file of ten million rows and a look at the live log go
through the same folding.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tidegate.observations import Label, Prediction

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Arms = NDArray[np.int16]
Ids = NDArray[Any]
CHAMPION, CHALLENGER = 0, 1


@dataclass(frozen=True, eq=False)
class Rows:
    """Answered requests, one row each; a mirrored copy is a row of its own with the same request id.

    time: seconds since the epoch. arm: 0 the champion, 1 the challenger. propensity: probability with which the
    request was sent to the arm it got; 1.0 for mirrored rows. score: nan when the request failed. loss: where it is
    known already, else nan and made from score and label at maturity. latency_ms: nan when unknown.
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

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Requests that both versions answered: the challenger's columns as they are, the champion's with `_old`."""

    time: Floats
    request_id: Ids
    error: Bools
    error_old: Bools
    latency_ms: Floats
    latency_ms_old: Floats
    score: Floats
    score_old: Floats
    loss: Floats
    loss_old: Floats

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, eq=False)
class Labels:
    """What became of requests. value: nan for an outcome that never comes (cancelled); it leaves the loss."""

    time: Floats
    request_id: Sequence[str]
    value: Floats


T = TypeVar("T", bound="Rows | Pairs")


def take(table: T, index: Any) -> T:
    """The rows at `index` (positions, a mask or a slice)."""
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
    by_time = np.argsort(time, kind="stable")
    again = np.sort(time)
    if not (again[1:] == again[:-1]).any():
        return by_time
    return np.asarray(sorted(by_time.tolist(), key=lambda i: (time[i], request_id[i])))


def ordered(table: T) -> T:
    """The table sorted by (time, request id)."""
    index = in_order(table.time, table.request_id)
    return table if index is None else take(table, index)


@dataclass
class Waiting:
    """Rows that wait for a time to pass: sorted chunks in a heap, so that taking some costs what is taken."""

    chunks: list[tuple[float, int, Any]] = field(default_factory=list)
    added: int = 0

    def put(self, table: Rows | Pairs) -> None:
        """Keep a table for later."""
        if len(table):
            self._push(ordered(table))

    def _push(self, table: Rows | Pairs) -> None:
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
) -> Rows:
    """Rows from plain sequences of one length; a column that is not given is nan or false throughout."""
    size = len(time)
    ids = np.empty(size, dtype=object)
    ids[:] = list(request_id)

    def floats(values: Sequence[float] | None) -> Floats:
        return np.full(size, np.nan) if values is None else np.asarray(values, dtype=np.float64)

    def bools(values: Sequence[bool] | None) -> Bools:
        return np.zeros(size, dtype=np.bool_) if values is None else np.asarray(values, dtype=np.bool_)

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
    )


def rows_from_predictions(found: Iterable[Prediction], release: str, champion: str, challenger: str) -> Rows:
    """The rows of the prediction log that are evidence of `release`, arms told by version.

    A row without the arm's header went round the gateway and is none; one whose header names another version than
    its own is a mirrored copy (propensity 1.0); rows of other releases and other versions are left out, and so are
    rows without a propensity in (0, 1].
    """
    arms = {champion: CHAMPION, challenger: CHALLENGER}
    kept = [p for p in found if p.release == release and p.arm is not None and p.version in arms]
    kept = [p for p in kept if p.arm != p.version or (p.propensity is not None and 0 < p.propensity <= 1)]
    return rows_of(
        [p.time for p in kept],
        [p.request_id for p in kept],
        [arms[p.version] for p in kept],
        [1.0 if p.arm != p.version else float(p.propensity or 0.0) for p in kept],
        mirrored=[p.arm != p.version for p in kept],
        score=[float("nan") if p.score is None else p.score for p in kept],
        error=[p.error for p in kept],
        latency_ms=[p.latency_ms for p in kept],
    )


def labels_of(found: Iterable[Label]) -> Labels:
    """Labels of the outcome itself; values under a business metric's name are left out."""
    kept = [label for label in found if label.metric is None]
    value = [float("nan") if p.value is None or p.outcome == "cancelled" else p.value for p in kept]
    return Labels(np.asarray([p.time for p in kept], dtype=np.float64), [p.request_id for p in kept], np.asarray(value))
