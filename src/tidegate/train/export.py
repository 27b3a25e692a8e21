"""Trees to ONNX, exactly: the exported model takes the same branch as the trained one on every float32 row.

A tree sends x left when x <= t with t a double. For a float32 x that is the same as x <= t32, where t32 is the largest
float32 not above t; rounding to nearest would send rows at the threshold the other way. A missing value (NaN) goes
where the node says, or, where the node saw none in training, where 0 goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import PlatformError
from tidegate.train.graph import tree_model
from tidegate.train.model_file import TOLERANCE
from tidegate.train.prepare import Preparation

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_ZERO = np.float32(1e-35)
_MISSING_NONE, _MISSING_ZERO, _MISSING_NAN = 0, 1, 2


@dataclass(frozen=True)
class Tree:
    """One tree's arrays as in LightGBM's text; a child below 0 is leaf ``-child - 1``. No split at all: one leaf."""

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    decision: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf: NDArray[np.float64]

    @property
    def missing_left(self) -> NDArray[np.bool_]:
        """For each split whether NaN goes left."""
        sees_nan = (self.decision >> 2 & 3) == _MISSING_NAN
        return np.where(sees_nan, self.decision & _DEFAULT_LEFT != 0, self.threshold >= 0)


def floor_float32(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 not above each threshold."""
    with np.errstate(over="ignore"):
        nearest = threshold.astype(np.float32)
        down = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > threshold, down, nearest).astype(np.float32)


def parse_trees(text: str) -> tuple[Tree, ...]:
    """The trees of a LightGBM text; PlatformError on a model that this exporter does not cover."""
    head, *blocks = text.split("\n\nTree=")
    if "objective=binary sigmoid:1\n" not in head + "\n" or "average_output" in head:
        raise PlatformError("export: only binary log-loss boosting is covered")
    return tuple(_tree(_pairs(block.split("\n\n", 1)[0])) for block in blocks)


def tree_of_nodes(nodes: NDArray[Any]) -> Tree:
    """A tree of HistGradientBoosting's predictor: an array of node records, the root first."""
    if nodes["is_categorical"].any():
        raise PlatformError("export: categorical splits are not covered")
    is_leaf = nodes["is_leaf"].astype(bool)
    splits, leaves = nodes[~is_leaf], nodes[is_leaf]
    place = np.where(is_leaf, -np.cumsum(is_leaf), np.cumsum(~is_leaf) - 1)
    decision = _MISSING_NAN << 2 | splits["missing_go_to_left"].astype(np.int64) * _DEFAULT_LEFT
    threshold, left, right = splits["num_threshold"], place[splits["left"]], place[splits["right"]]
    return Tree(splits["feature_idx"].astype(np.int64), threshold, decision, left, right, leaves["value"])


def _pairs(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _tree(pairs: Mapping[str, str]) -> Tree:
    decision = _numbers(pairs, "decision_type", np.int64)
    if pairs.get("num_cat", "0") != "0" or (decision & _CATEGORICAL).any() or pairs.get("is_linear", "0") != "0":
        raise PlatformError("export: categorical splits and linear leaves are not covered")
    if ((decision >> 2 & 3) == _MISSING_ZERO).any():
        raise PlatformError("export: zero_as_missing is not covered")
    return Tree(
        feature=_numbers(pairs, "split_feature", np.int64),
        threshold=_beyond_zero(_numbers(pairs, "threshold", np.float64)),
        decision=decision,
        left=_numbers(pairs, "left_child", np.int64),
        right=_numbers(pairs, "right_child", np.int64),
        leaf=_numbers(pairs, "leaf_value", np.float64),
    )


def _beyond_zero(threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same split where every x with |x| <= `_ZERO` is 0, which is how LightGBM reads a row."""
    below = np.nextafter(-_ZERO, np.float32(-np.inf)).astype(np.float64)
    near = np.abs(threshold) <= _ZERO
    return np.where(near, np.where(threshold < 0, below, np.float64(_ZERO)), threshold)


def _numbers(pairs: Mapping[str, str], name: str, kind: Any) -> NDArray[Any]:
    return np.array([kind(word) for word in pairs.get(name, "").split()], kind)


def to_onnx(text: str, features: int, prepared: Preparation | None = None) -> bytes:
    """LightGBM's text over prepared columns as ONNX; see `trees_to_onnx`."""
    return trees_to_onnx(parse_trees(text), features, prepared)


def trees_to_onnx(trees: tuple[Tree, ...], features: int, prepared: Preparation | None = None) -> bytes:
    """An ONNX model: input ``features`` float32 [N, F]; output ``score`` float32 [N, 1], the positive probability."""
    return tree_model(_ensemble(trees), features, prepared)


def _ensemble(trees: tuple[Tree, ...]) -> dict[str, list[Any]]:
    """The attributes of a TreeEnsembleRegressor; within a tree the splits come first, then the leaves."""
    nodes: dict[str, list[Any]] = {}
    for number, tree in enumerate(trees):
        for name, values in _nodes(number, tree):
            nodes.setdefault(name, []).extend(values)
    return nodes


def _nodes(number: int, tree: Tree) -> Iterator[tuple[str, list[Any]]]:
    splits, leaves = len(tree.feature), len(tree.leaf)
    total = splits + leaves
    pad = [0] * leaves
    yield "nodes_treeids", [number] * total
    yield "nodes_nodeids", list(range(total))
    yield "nodes_modes", ["BRANCH_LEQ"] * splits + ["LEAF"] * leaves
    yield "nodes_featureids", tree.feature.tolist() + pad
    yield "nodes_values", floor_float32(tree.threshold).tolist() + [0.0] * leaves
    yield "nodes_truenodeids", _targets(tree.left, splits) + pad
    yield "nodes_falsenodeids", _targets(tree.right, splits) + pad
    yield "nodes_missing_value_tracks_true", tree.missing_left.astype(int).tolist() + pad
    yield "target_treeids", [number] * leaves
    yield "target_nodeids", list(range(splits, total))
    yield "target_ids", pad
    yield "target_weights", tree.leaf.astype(np.float32).tolist()


def _targets(children: NDArray[np.int64], splits: int) -> list[int]:
    return [int(value) for value in np.where(children >= 0, children, splits - children - 1)]


_EXTREMES = (np.nan, np.inf, -np.inf, 0.0, -0.0, 3.4028235e38, -3.4028235e38, 1e4, -1.0)
"""Missing, beyond all numbers, and codes of no category."""


def edge_rows(thresholds: Sequence[tuple[int, float]], base: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of `base` with one value changed: at, one float32 above and below each (column, threshold), and extreme."""
    at = floor_float32(np.array([value for _, value in thresholds], np.float64))
    beside = [np.nextafter(at, np.float32(end)) for end in (np.inf, -np.inf)]
    columns = np.array([column for column, _ in thresholds], np.int64)
    extremes = np.tile(np.array(_EXTREMES, np.float32), base.shape[1])
    values = np.concatenate([at, *beside, extremes])
    places = np.concatenate([columns, columns, columns, np.repeat(np.arange(base.shape[1]), len(_EXTREMES))])
    rows = base[np.arange(len(values)) % len(base)].copy()
    rows[np.arange(len(values)), places] = values
    return rows


def score(model: bytes, encoded: NDArray[np.float32], threads: int = 2) -> NDArray[np.float64]:
    """What the exported model answers for float32 [N, F] rows, [N], through ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["score"], {"features": encoded})[0], np.float64).reshape(-1)


def check_export(model: bytes, encoded: NDArray[np.float32], trained: NDArray[np.float64]) -> float:
    """The largest distance between exported and trained scores; PlatformError when it is above `TOLERANCE`."""
    distance = np.abs(score(model, encoded) - trained)
    worst = float(distance.max(initial=0.0))
    if not worst <= TOLERANCE:
        row = int(np.nanargmax(distance))
        raise PlatformError(f"export: row {row} differs by {worst:.3g} from the trained model, allowed {TOLERANCE:g}")
    return worst
