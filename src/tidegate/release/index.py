"""Request ids as small numbers: a hash table in numpy columns; a million ids are found in passes, not one by one.

Open addressing with linear probing. Ids are compared themselves wherever hashes are equal, so the answer is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tidegate.release.rows import Bools, Ids

Slots = NDArray[np.int64]
Hashes = NDArray[np.uint64]
EMPTY, DEAD = -1, -2
LEAST = 1024


def hashes_of(ids: Ids) -> Hashes:
    """A hash of each id, the same within this process."""
    import polars as pl

    return np.asarray(pl.Series(ids.tolist(), dtype=pl.String).hash().to_numpy(), dtype=np.uint64)


@dataclass
class IdIndex:
    """Slot of each id. A slot that was given back is given again; `made` slots exist.

    ids: by slot, None where nobody has it.
    """

    made: int = 0
    ids: Ids = field(default_factory=lambda: np.empty(0, dtype=object))
    _hash: Hashes = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    _at: Slots = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    _table: NDArray[np.int32] = field(default_factory=lambda: np.full(LEAST, EMPTY, dtype=np.int32))
    _free: list[Slots] = field(default_factory=list)
    _used: int = 0
    _live: int = 0

    def __len__(self) -> int:
        return self._live

    @property
    def live(self) -> Slots:
        """The slots that are taken, in no order."""
        found = self._table[self._table >= 0]
        return found.astype(np.int64)

    def slots(self, ids: Ids) -> Slots:
        """The slot of each id, a new one where it has none."""
        self._reserve(len(ids))
        offered = self._offer(len(ids))
        self.ids[offered], self._hash[offered] = ids, hashes_of(ids)
        found = self._settle(offered)
        unused = offered[found != offered]
        self._live += len(ids) - len(unused)
        self._give_back(unused)
        return found

    def release(self, slots: Slots) -> None:
        """Give slots back, each once."""
        at = self._at[slots]
        self._table[at] = DEAD
        # no search goes on past a place whose next one is empty
        last = at[self._table[(at + 1) & (len(self._table) - 1)] == EMPTY]
        self._table[last] = EMPTY
        self._used -= len(last)
        self._live -= len(slots)
        self._give_back(slots)

    def _settle(self, offered: Slots) -> Slots:
        """Put each offered slot into the table, or find the one that has its id already."""
        found, mask = offered.copy(), np.uint64(len(self._table) - 1)
        at, open_ = (self._hash[offered] & mask).astype(np.int64), np.arange(len(offered))
        while len(open_):
            there, mine = self._table[at[open_]], offered[open_]
            new = there == EMPTY
            self._table[at[open_[new]]] = mine[new]
            self._used += int(new.sum())
            there = self._table[at[open_]]
            done = self._is_same(there, mine)
            found[open_[done]] = there[done]
            open_ = open_[~done]
            at[open_] = (at[open_] + 1) & int(mask)
        own = found == offered
        self._at[offered[own]] = at[own]
        return found

    def _is_same(self, there: NDArray[np.int32], mine: Slots) -> Bools:
        """Whether the slots in the table are these very ones, or have the same id."""
        same: Bools = there == mine
        maybe = np.flatnonzero(~same & (there >= 0))
        maybe = maybe[self._hash[there[maybe]] == self._hash[mine[maybe]]]
        same[maybe] = np.asarray(self.ids[there[maybe]] == self.ids[mine[maybe]], dtype=np.bool_)
        return same

    def _reserve(self, more: int) -> None:
        """Make the table anew when it would be more than half full, with those that are given back."""
        if 2 * (self._used + more) <= len(self._table):
            return
        live, size = self.live, LEAST
        while size < 4 * (len(live) + more):
            size *= 2
        self._table, self._used = np.full(size, EMPTY, dtype=np.int32), 0
        self._settle(live)

    def _offer(self, size: int) -> Slots:
        """`size` slots that nobody has; new ones are made where too few were given back."""
        parts, missing = [], size
        while missing and self._free:
            part = self._free.pop()
            if len(part) > missing:
                self._free.append(part[missing:])
                part = part[:missing]
            parts.append(part)
            missing -= len(part)
        parts.append(np.arange(self.made, self.made + missing))
        self._grow(self.made + missing)
        return np.concatenate(parts)

    def _grow(self, made: int) -> None:
        self.made = made
        if made <= len(self.ids):
            return
        size = max(made, 2 * len(self.ids))
        for name in ("ids", "_hash", "_at"):
            column = getattr(self, name)
            wider = np.empty(size, dtype=column.dtype)
            wider[: len(column)] = column
            setattr(self, name, wider)

    def _give_back(self, slots: Slots) -> None:
        self.ids[slots] = None
        if len(slots):
            self._free.append(slots)
