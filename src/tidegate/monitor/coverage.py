"""How many rows got their label in time, and how long it took: by version, by slice, by tenth of the score.

A share that differs along the score is what selective labels look like; a delay that grows is what missing ones become.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tidegate.monitor.performance import Coverage
from tidegate.monitor.rows import CANCELLED, MISSING, OBSERVED, Row

TENTHS = tuple(number / 10 for number in range(1, 10))
Edges = Mapping[str, Sequence[float]]
"""By version the quantiles `TENTHS` of its scores."""


@dataclass(frozen=True)
class Labelled:
    """What became of one group of matured rows: `by` is ``version``, ``score`` or a slice's name.

    delay_median and delay_p95: seconds from the request to its label, of rows that have one; nan where none has.
    """

    version: str
    by: str
    value: str
    coverage: Coverage
    delay_median: float
    delay_p95: float


@dataclass
class _Group:
    outcomes: dict[str, int] = field(default_factory=lambda: {OBSERVED: 0, CANCELLED: 0, MISSING: 0})
    delays: array[float] = field(default_factory=lambda: array("d"))

    def add(self, row: Row) -> None:
        self.outcomes[row.outcome] += 1
        if row.label_time is not None:
            self.delays.append(row.label_time - row.prediction.time)

    def told(self, version: str, by: str, value: str) -> Labelled:
        counts = self.outcomes.values()
        median, late = np.quantile(self.delays, [0.5, 0.95]) if self.delays else (math.nan, math.nan)
        return Labelled(version, by, value, Coverage(sum(counts), *counts), float(median), float(late))


_Key = tuple[str, int, str, int]
"""(version, place of `by`, value, tenth): what groups are in order of."""


def labelled(
    matured: Iterable[Row],
    edges: Edges,
    slices: Sequence[str] = (),
    slice_of: Callable[[Row], Sequence[str]] = lambda row: (),
) -> list[Labelled]:
    """The groups of each version: the whole, every value of every slice, every tenth of its scores (``1`` lowest).

    The rows may come in any order, one by one: kept are the delays of each group. `slice_of` gives a row's value of
    each slice. Rows without a score are in no tenth; equal scores are in the same one.
    """
    groups: dict[_Key, _Group] = {}
    for row in matured:
        for key in _keys(row, edges, slice_of(row) if slices else ()):
            if key not in groups:
                groups[key] = _Group()
            groups[key].add(row)
    names = ("version", *slices, "score")
    return [groups[key].told(key[0], names[key[1]], str(key[3]) if key[3] else key[2]) for key in sorted(groups)]


def _keys(row: Row, edges: Edges, values: Sequence[str]) -> Iterator[_Key]:
    version, score = row.prediction.version, row.prediction.score
    yield version, 0, version, 0
    for at, value in enumerate(values, 1):
        yield version, at, value, 0
    if score is not None and version in edges:
        yield version, len(values) + 1, "", 1 + bisect_left(edges[version], score)
