"""A tree ensemble scored by numpy with bits instead of node by node (QuickScorer, Lucchese et al., SIGIR 2015).

In each tree the leaves have a bit each, the leftmost the lowest. A split that sends a row to the right rules out the
leaves on its left; of those that no split rules out the leftmost is the row's. Which leaves a feature rules out depends
only on how many of its thresholds the value is above: a table has a row of bits, one word a tree, for each such rank
and one for NaN. So a row of the model's input is a look into each table, and what they leave is the and of them.
Features with few thresholds share a table, which then has a row for each combination of ranks. Two trees share a table
of the sums of their leaves.

The leaf is the one that ONNX Runtime takes, for every float32 (tests/properties/test_trees.py); the leaves' values are
summed in float64, where it sums in float32, and a row has the same bits however many come with it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.serve.onnx_nodes import Node, read_nodes
from tidegate.serve.ranks import Ranks

LARGEST = 2**23
"""Bytes of all tables before small ones are joined; above it ONNX Runtime runs the model."""

SHARED = 2**18
"""Bytes that a table may have by sharing."""

_WORKING = 2**17 - 2**13
"""Bytes of the largest array that is worked on at once: from 2**17 on glibc may ask the kernel for each anew."""

_MOST = 64
"""Leaves of a tree: bits of the largest word."""

_SPLIT, _LEAF = b"BRANCH_LEQ", b"LEAF"
_COLUMNS = ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids")
_WORDS: tuple[tuple[type[np.unsignedinteger[Any]], int], ...] = (
    (np.uint8, 0x17),
    (np.uint16, 0x09AF),
    (np.uint32, 0x077CB531),
    (np.uint64, 0x03F79D71B4CB0A89),
)
"""Words, each with a de Bruijn number: times a lone bit, its top 3 to 6 bits are another number for each bit."""

_KNOWN = {
    "n_targets", "nodes_falsenodeids", "nodes_featureids", "nodes_hitrates", "nodes_missing_value_tracks_true",
    "nodes_modes", "nodes_nodeids", "nodes_treeids", "nodes_truenodeids", "nodes_values", "target_ids",
    "target_nodeids", "target_treeids", "target_weights",
}  # fmt: skip

Words = NDArray[Any]
"""Leaves that are left, one bit each: unsigned [rows, T]."""


class TreeScorer:
    """Scores rows by the ensemble of one ONNX file; made by `tree_scorer`."""

    def __init__(self, splits: Sequence[_Split], leaves: NDArray[np.float64]) -> None:
        """`leaves`: their values from the left [T, most leaves of a tree]; ValueError when that is too much."""
        # trees go in pairs: an odd one's partner has a single leaf of 0
        leaves = np.pad(leaves, ((0, len(leaves) % 2), (0, 0)))
        trees, most = leaves.shape
        found = next(((np.dtype(word), by) for word, by in _WORDS if most <= 8 * np.dtype(word).itemsize), None)
        if found is None or not splits:
            raise ValueError(f"{most} leaves a tree, takes 2 to 64")
        word, by = found
        tables, edges = [], {}
        for feature in sorted({split.feature for split in splits}):
            own = [split for split in splits if split.feature == feature]
            edges[feature], table = _table(own, trees, word)
            tables.append((feature, table))
        self._by, self._bits = word.type(by), word.itemsize.bit_length() + 2
        # two neighbours are one number of twice the size: a product puts both into its top bits, a shift down again
        self._narrow = np.dtype(f"u{min(word.itemsize, 4)}")
        half = 8 * self._narrow.itemsize
        self._wide = np.dtype(f"u{half // 4}")
        self._up = self._wide.type(2 ** (2 * half - self._bits) + 2 ** (half - 2 * self._bits))
        self._down = self._wide.type(2 * half - 2 * self._bits)
        self._sums = self._pairs(leaves, word)
        if (size := self._sums.nbytes + sum(table.nbytes for _, table in tables)) > LARGEST:
            raise ValueError(f"tables of {size} bytes, takes at most {LARGEST}")
        groups = _shared(tables)
        self._tables = [table for _, table in groups]
        self._features = [feature for features, _ in groups for feature in features]
        """In the order of their tables."""
        self._ranks = Ranks([edges[feature] for feature in self._features])
        sizes = [[len(edges[feature]) for feature in features] for features, _ in groups]
        ends = np.cumsum([len(own) for own in sizes]).tolist()
        self._own = [(first, range(first + 1, end)) for first, end in pairwise([0, *ends])]
        """For each table where its features are among all, the first and the others."""
        steps = [math.prod(own[at + 1 :]) for own in sizes for at in range(len(own))]
        self._steps = np.array(steps, np.min_scalar_type(max(map(len, self._tables))))[:, None]
        """By how many rows of its table the next rank of each feature is further down."""
        self._rows = max(1, _WORKING // (trees * max(word.itemsize, 4)))
        before = np.arange(trees // 2, dtype=np.promote_types(self._wide, np.uint32)) * 4**self._bits
        self._before = np.tile(before, (self._rows, 1))
        """Where the sums of each pair begin, for each row: to add one row to all takes longer."""
        self._ones = np.ones(trees // 2)
        together = _WORKING // (self._rows * len(self._features) * np.dtype(np.intp).itemsize)
        self._ranked = self._rows * max(1, together)

    def __call__(self, encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of the positive class for float32 [N, F] -> [N]."""
        raw = np.empty(len(encoded))
        for first in range(0, len(encoded), self._ranked):
            places = self._places(encoded[first : first + self._ranked].T.take(self._features, axis=0))
            for start in range(0, len(places[0]), self._rows):
                found = self._raw([place[start : start + self._rows] for place in places])
                raw[first + start : first + start + len(found)] = found
        # below -700 the exponential would overflow; as a float32 the score is 0 long before
        return (1 / (1 + np.exp(-np.maximum(raw, -700.0)))).astype(np.float32)

    def _places(self, columns: NDArray[np.float32]) -> list[NDArray[np.intp]]:
        """The row of each table that belongs to each of float32 [F, N]."""
        places = list((self._ranks(columns) * self._steps).astype(np.intp))
        for first, others in self._own:
            for other in others:
                places[first] += places[other]
        return [places[first] for first, _ in self._own]

    def _raw(self, places: Sequence[NDArray[np.intp]]) -> NDArray[np.float64]:
        """Log-odds [n] of n places in each table."""
        left: Words = self._tables[0].take(places[0], axis=0)
        for place, table in zip(places[1:], self._tables[1:], strict=True):
            left &= table.take(place, axis=0)
        left &= -left
        pairs = self._numbers(left).astype(self._before.dtype, copy=False)
        pairs += self._before[: len(pairs)]
        # every place is there: "wrap" only spares asking each
        sums = self._sums.take(pairs.astype(np.intp), mode="wrap")
        return np.vecdot(sums, self._ones)  # type: ignore[no-any-return]

    def _numbers(self, bits: Words) -> Words:
        """For the lone bits of each two neighbours [n, T] a number that no other two have [n, T / 2]; bits are lost."""
        bits *= self._by
        bits >>= 8 * bits.itemsize - self._bits
        numbers = bits.astype(self._narrow, copy=False).view(self._wide)
        numbers *= self._up
        numbers >>= self._down
        return numbers

    def _pairs(self, leaves: NDArray[np.float64], word: np.dtype[Any]) -> NDArray[np.float64]:
        """Sums of a leaf of every second tree and one of its neighbour, by `_numbers`: [T / 2 * 4**bits]."""
        bits = np.left_shift(1, np.arange(leaves.shape[1], dtype=word), dtype=word)
        first, second = np.repeat(bits, len(bits)), np.tile(bits, len(bits))
        sums = np.zeros((len(leaves) // 2, 4**self._bits))
        sums[:, self._numbers(np.stack((first, second), axis=1)).ravel()] = (
            leaves[::2, :, None] + leaves[1::2, None, :]
        ).reshape(len(sums), -1)
        return sums.ravel()


@dataclass(frozen=True)
class _Split:
    """A row goes left with ``x <= threshold``, with NaN if `missing_left`; `left`: the bits of the leaves there."""

    feature: int
    threshold: np.float32
    missing_left: bool
    tree: int
    left: int


def tree_scorer(model: bytes, features: int) -> TreeScorer | None:
    """A scorer for an ONNX file of exactly a tree ensemble and a sigmoid over `features`; None for any other."""
    try:
        ensemble = _ensemble(read_nodes(model))
        return TreeScorer(*_walked(ensemble, features)) if ensemble else None
    except (KeyError, TypeError, ValueError):
        return None  # ONNX Runtime says what is wrong with it, if anything is


def _ensemble(nodes: Sequence[Node]) -> dict[str, Any] | None:
    """The ensemble's attributes, where the file is one that is understood in every part."""
    if [node.kind for node in nodes] != ["TreeEnsembleRegressor", "Sigmoid"]:
        return None
    trees, sigmoid = nodes
    wired = trees.inputs == ["features"] and trees.outputs == sigmoid.inputs and sigmoid.outputs == ["score"]
    found = trees.attributes
    plain = found.keys() <= _KNOWN and found.get("n_targets") == 1 and not any(found["target_ids"])
    return found if wired and plain and {*found["nodes_modes"]} <= {_SPLIT, _LEAF} else None


def _walked(found: Mapping[str, Any], features: int) -> tuple[list[_Split], NDArray[np.float64]]:
    """The splits, and the leaves' values from the left [T, most]; ValueError for what is no tree."""
    columns = [found[f"nodes_{name}"] for name in _COLUMNS]
    missing = found.get("nodes_missing_value_tracks_true") or [0] * len(columns[0])
    nodes = {(tree, node): rest for tree, node, *rest in zip(*columns, missing, strict=True)}
    targets = zip(found["target_treeids"], found["target_nodeids"], found["target_weights"], strict=True)
    weights = {(tree, node): weight for tree, node, weight in targets}
    inner = [(tree, both) for (tree, _), (mode, _, _, *both, _) in nodes.items() if mode == _SPLIT]
    children = [(tree, child) for tree, both in inner for child in both]
    roots = sorted(nodes.keys() - set(children))
    trees = [tree for tree, _ in roots]
    if len(set(children)) < len(children) or len(set(trees)) < len(trees) or len(nodes) < len(columns[0]):
        raise ValueError("no tree: a node with two parents, two roots, or two nodes of one name")
    splits, leaves = list[_Split](), [list[float]() for _ in roots]

    def walk(number: int, place: tuple[int, int]) -> int:
        """The bits of the leaves below a node, which are numbered from the left."""
        mode, feature, threshold, yes, no, missing_left = nodes[place]
        if mode == _LEAF:
            leaves[number].append(weights.get(place, 0.0))
            return 1 << len(leaves[number]) - 1
        if len(leaves[number]) > _MOST or not 0 <= feature < features or math.isnan(threshold):
            raise ValueError(f"node {place}: more than {_MOST} leaves, or no split of one of {features} features")
        left = walk(number, (place[0], yes))
        splits.append(_Split(feature, np.float32(threshold), bool(missing_left), number, left))
        return left | walk(number, (place[0], no))

    for number, root in enumerate(roots):
        walk(number, root)
    found_leaves = np.zeros((len(roots), max(map(len, leaves))))
    for row, own in zip(found_leaves, leaves, strict=True):
        row[: len(own)] = own
    return splits, found_leaves


def _table(splits: Sequence[_Split], trees: int, word: np.dtype[Any]) -> tuple[NDArray[np.float32], Words]:
    """One feature's edges, of which a value's rank is the first that is not below it, and the words of each rank.

    The last two edges are infinity, so that no number is above all, and NaN, which is sorted behind it.
    """
    cuts = np.unique(np.array([split.threshold for split in splits if split.threshold < np.inf], np.float32))
    table = np.full((len(cuts) + 2, trees), np.iinfo(word).max, word)
    for split in splits:
        right = table.dtype.type(np.iinfo(word).max ^ split.left)
        if split.threshold < np.inf:
            table[cuts.searchsorted(split.threshold) + 1 : -1, split.tree] &= right
        if not split.missing_left:
            table[-1, split.tree] &= right
    return np.append(cuts, np.array([np.inf, np.nan], np.float32)), table


def _shared(tables: Sequence[tuple[int, Words]]) -> list[tuple[list[int], Words]]:
    """The tables with their features, small ones joined as long as the result is small."""
    heap = [(len(table), [feature], table) for feature, table in tables]
    heapq.heapify(heap)
    while len(heap) > 1:
        (_, first, one), (_, second, other) = smallest = heapq.heappop(heap), heapq.heappop(heap)
        if len(one) * other.nbytes > SHARED:
            return [(features, table) for _, features, table in (*smallest, *heap)]
        joint = (one[:, None] & other[None]).reshape(-1, one.shape[1])
        heapq.heappush(heap, (len(joint), first + second, joint))
    return [(features, table) for _, features, table in heap]
