"""How many of a feature's thresholds a value is above, for all features of many rows at once.

The upper bits of a float32, its key, say between which of the thresholds it lies, but for one that has the same key:
so a table by keys and one comparison give the rank, however many thresholds there are, without a search that guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KEYS = 2**20
"""About the entries of the table of keys: with 16 features half of a number's bits are its key, with more fewer."""


class Ranks:
    """Ranks among F features' edges, each float32, sorted, with infinity and then NaN as the last two."""

    def __init__(self, edges: Sequence[NDArray[np.float32]]) -> None:
        self._edges = list(edges)
        bits = (_KEYS // len(edges)).bit_length() - 1
        self._shift = np.uint32(32 - min(bits, 16))
        keys = np.arange(2 ** (32 - int(self._shift)), dtype=np.uint32) << self._shift
        # the ends of what has one key; that of the infinities has NaN at its other end
        ends = np.stack((keys, keys | (2**self._shift - 1))).astype(np.uint32).view(np.float32)
        first, last = np.fmin(*ends), np.fmax(*ends)
        below = np.array([own.searchsorted(first) for own in edges])
        above = np.array([own.searchsorted(last) for own in edges])
        self._crowded = np.flatnonzero((above - below > 1)[:, np.isfinite(first)].any(axis=1)).tolist()
        """Features that have two edges of one key."""
        width = max(map(len, edges))
        self._kind = np.promote_types(np.uint16, np.min_scalar_type(len(edges) * width))
        self._starts = np.arange(len(edges), dtype=self._kind)[:, None] * self._kind.type(width)
        self._next = np.full((len(edges), width), np.inf, np.float32)
        """Each feature's edges, from its start on."""
        for row, own in zip(self._next, edges, strict=True):
            row[: len(own) - 1] = own[:-1]
        self._last = np.array([[len(own) - 1] for own in edges], self._kind)
        self._low = np.minimum(below, self._last - 1).astype(self._kind) + self._starts
        self._keys = np.arange(len(edges), dtype=np.uint32)[:, None] * np.uint32(len(keys))

    def __call__(self, columns: NDArray[np.float32]) -> NDArray[Any]:
        """For values [F, N] the number of their feature's edges below each, unsigned [F, N]; for NaN its last's."""
        keys = columns.view(np.uint32) >> self._shift
        keys += self._keys
        # every place is there: "wrap" only spares asking each
        found: NDArray[Any] = self._low.take(keys.astype(np.intp), mode="wrap")
        found += (columns > self._next.take(found.astype(np.intp), mode="wrap")).astype(self._kind)
        found -= self._starts
        for feature in self._crowded:
            found[feature] = self._edges[feature].searchsorted(columns[feature])
        missing = columns != columns
        if np.count_nonzero(missing):
            np.copyto(found, self._last, where=missing)
        return found
