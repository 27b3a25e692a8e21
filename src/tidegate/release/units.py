"""A request is drawn once, however many rows it asks about: its rows are one observation.

They share the draw, the answer and most of the world, so counted one by one they would be a cluster that the bound
takes for independent draws. What a request is worth is the mean over its rows, where the value is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tidegate.release.rows import Bools, Floats, Rows, take

T = TypeVar("T", bound="Rows")


@dataclass(frozen=True, eq=False)
class Requests:
    """Which of ordered rows belong together. number: of each row's request, never falling; None: each row is one."""

    number: NDArray[np.int64] | None = None

    def take(self, index: NDArray[np.intp]) -> Requests:
        """The requests of some of the rows, given by rising positions."""
        return self if self.number is None else Requests(self.number[index])

    def first(self, column: NDArray[Any]) -> NDArray[Any]:
        """The value of each request's first row: for what its rows have in common."""
        return column if self.number is None else column[_starts(self.number)]

    def mean(self, values: Floats) -> Floats:
        """The mean over each request's rows; nan where no row has a value."""
        if self.number is None:
            return values
        starts, known = _starts(self.number), ~np.isnan(values)
        sums, counts = np.add.reduceat(np.nan_to_num(values), starts), np.add.reduceat(known.astype(np.float64), starts)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    def any(self, flags: Bools) -> Bools:
        """Whether any row of each request has the flag."""
        return flags if self.number is None else np.logical_or.reduceat(flags, _starts(self.number))


def _starts(number: NDArray[np.int64]) -> NDArray[np.intp]:
    return np.flatnonzero(np.diff(number, prepend=-1))


def heads(rows: T) -> T:
    """The first row of each request: it stands for what all have in common, the failure and the latency."""
    return take(rows, rows.part == 0)


def by_request(rows: T) -> tuple[T, Requests]:
    """Ordered rows with the requests they belong to.

    Rows without their request's first one, as when they come late by themselves, are left out: the request has counted.
    """
    if not rows.part.any():
        return rows, Requests()
    stems = np.array(
        [
            name.rpartition("/")[0] if part else name.removesuffix("/0")
            for name, part in zip(rows.request_id, rows.part, strict=True)
        ],
        dtype=object,
    )
    starts = np.concatenate([[True], stems[1:] != stems[:-1]])
    number = np.cumsum(starts)
    whole = rows.part[np.flatnonzero(starts)][number - 1] == 0
    return take(rows, whole), Requests(number[whole]) if whole.any() else Requests()
