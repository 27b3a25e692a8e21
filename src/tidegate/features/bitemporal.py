"""Which of a view's rows counted when only some of them were known: a search in two times at once.

A row that was created after the moment at which the entity row is asked about was not known then; the row before it
counts, if that one was known. Backfills make such rows by the million, so the search never walks: it climbs and
descends a tree of minima, in about 2 log2(rows) steps for all questions together.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
NEVER = np.iinfo(np.int64).max


def last_at_most(values: Ints, start: Ints, limit: Ints) -> Ints:
    """For each question the highest index not above `start` whose value is at most `limit`; -1 where there is none.

    `values`: N numbers below `NEVER`; `start` (indices into them) and `limit`: one a question.
    """
    tree, leaves = minima(values)
    node = np.asarray(start, dtype=np.int64) + leaves
    out = tree[node] > limit
    # Climb: `out` marks nodes that are ruled out together with everything to their right.
    while out.any():
        right = (node & 1) == 1
        node = np.where(out, np.where(right, node - 1, node >> 1), node)
        out &= ~right | (tree[node] > limit)
        out &= node > 1
    found = node > 1
    node = np.where(found, node, leaves)
    # Descend to the rightmost leaf that is low enough.
    while (inner := node < leaves).any():
        later = 2 * node + 1
        fits = tree[np.where(inner, later, 1)] <= limit
        node = np.where(inner, np.where(fits, later, later - 1), node)
    return np.where(found, node - leaves, -1)


def minima(values: Ints) -> tuple[Ints, int]:
    """An implicit binary tree of minima and the index of its first leaf, a power of two."""
    leaves = 1 << max(int(len(values) - 1).bit_length(), 1)
    tree: npt.NDArray[Any] = np.full(2 * leaves, NEVER, dtype=np.int64)
    tree[leaves : leaves + len(values)] = values
    width = leaves
    while width > 1:
        level = tree[width : 2 * width]
        tree[width // 2 : width] = np.minimum(level[0::2], level[1::2])
        width //= 2
    return tree, leaves
