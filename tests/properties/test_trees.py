"""Trees scored by tables of bits take the leaves that ONNX Runtime takes, whatever the trees and the rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tidegate.serve import trees
from tidegate.serve.loaded import onnx_runner
from tidegate.serve.trees import tree_scorer

FEATURES = 3
THRESHOLDS = st.sampled_from(
    [0.0, -0.0, 1.0, 1.5, -2.0, 1e-45, -1e-45, 3.4028235e38, -3.4028235e38, float("inf"), float("-inf"), 7.0, 0.1]
)
Ensemble = dict[str, list[Any]]


@dataclass
class Growing:
    """The attributes of an ensemble, node by node."""

    found: Ensemble = field(default_factory=dict)

    def node(
        self, tree: int, place: int, mode: str, feature: int, value: float, both: tuple[int, int], nan: bool
    ) -> None:
        told = {
            "nodes_treeids": tree, "nodes_nodeids": place, "nodes_modes": mode, "nodes_featureids": feature,
            "nodes_values": value, "nodes_truenodeids": both[0], "nodes_falsenodeids": both[1],
            "nodes_missing_value_tracks_true": int(nan),
        }  # fmt: skip
        for name, one in told.items():
            self.found.setdefault(name, []).append(one)

    def leaf(self, tree: int, place: int, weight: float) -> None:
        self.node(tree, place, "LEAF", 0, 0.0, (0, 0), False)
        for name, one in {"treeids": tree, "nodeids": place, "ids": 0, "weights": weight}.items():
            self.found.setdefault(f"target_{name}", []).append(one)


@st.composite
def ensembles(draw: st.DrawFn, most: int = 12) -> Ensemble:
    """Trees of 1 to `most` leaves in any shape; leaves are eighths, so that their sums are exact in float32."""
    growing, weights = Growing(), st.integers(-8, 8).map(lambda eighths: eighths / 8)
    for tree in range(draw(st.integers(1, 5))):
        taken = 0

        def grow(leaves: int, tree: int = tree) -> int:
            nonlocal taken
            place, taken = taken, taken + 1
            if leaves == 1:
                growing.leaf(tree, place, draw(weights))
                return place
            left = draw(st.integers(1, leaves - 1))
            split = draw(st.integers(0, FEATURES - 1)), draw(THRESHOLDS)
            both = grow(left), grow(leaves - left)
            growing.node(tree, place, "BRANCH_LEQ", *split, both, draw(st.booleans()))
            return place

        grow(draw(st.integers(1, most)))
    # ONNX Runtime takes a tree's first node for its root; here children come before their parents
    return {name: values[::-1] for name, values in growing.found.items()}


def model_of(ensemble: Ensemble, **more: Any) -> bytes:
    graph = helper.make_graph(
        [
            helper.make_node(
                "TreeEnsembleRegressor", ["features"], ["raw"], domain="ai.onnx.ml", n_targets=1, **ensemble, **more
            ),
            helper.make_node("Sigmoid", ["raw"], ["score"]),
        ],
        "trees",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, FEATURES])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def rows_for(ensemble: Ensemble) -> NDArray[np.float32]:
    """Every value at, one float32 above and one below each threshold, and those of no threshold, in each feature."""
    at = np.array([*ensemble["nodes_values"], 0.0, -0.0, np.inf, -np.inf, np.nan, 1e4, -1.0], np.float32)
    with np.errstate(over="ignore", under="ignore"):
        values = np.concatenate([at, np.nextafter(at, np.float32(np.inf)), np.nextafter(at, np.float32(-np.inf))])
    rng = np.random.default_rng(len(values))
    return np.stack([rng.permutation(np.tile(values, 3)) for _ in range(FEATURES)], axis=1)


@given(ensembles())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_takes_the_leaves_that_onnx_runtime_takes(tmp_path: Path, ensemble: Ensemble) -> None:
    model, rows = model_of(ensemble), rows_for(ensemble)
    (tmp_path / "model.onnx").write_bytes(model)
    wanted = onnx_runner(tmp_path / "model.onnx")(rows)
    scorer = tree_scorer(model, FEATURES)
    if "BRANCH_LEQ" not in ensemble["nodes_modes"]:
        assert scorer is None
        return
    assert scorer is not None
    # sums differ by an eighth or not at all, so that another leaf shows
    np.testing.assert_allclose(scorer(rows), wanted, rtol=0, atol=1e-6)
    alone = np.concatenate([scorer(row[None]) for row in rows[:30]])
    np.testing.assert_array_equal(scorer(rows)[:30], alone)


@pytest.mark.parametrize("leaves", [8, 9, 16, 17, 32, 33, 64])
def test_leaves_to_the_last_bit_of_each_word(tmp_path: Path, leaves: int) -> None:
    growing = Growing()
    for place in range(leaves - 1):
        growing.node(0, place, "BRANCH_LEQ", 0, float(place), (leaves + place, place + 1), False)
    growing.leaf(0, leaves - 1, leaves / 16)
    for place in range(leaves - 1):
        growing.leaf(0, leaves + place, place / 16)
    model = model_of(growing.found)
    (tmp_path / "model.onnx").write_bytes(model)
    rows = np.zeros((leaves + 2, FEATURES), np.float32)
    rows[:, 0] = [*range(-1, leaves), np.nan]
    scorer = tree_scorer(model, FEATURES)
    assert scorer is not None
    np.testing.assert_allclose(scorer(rows), onnx_runner(tmp_path / "model.onnx")(rows), rtol=0, atol=1e-6)


@pytest.mark.parametrize("working", [1, 500, 3000])
def test_rows_that_are_worked_on_by_parts_are_scored_the_same(monkeypatch: pytest.MonkeyPatch, working: int) -> None:
    model = model_of(one_split())
    rows = np.random.default_rng(7).normal(size=(100, FEATURES)).astype(np.float32)
    whole = tree_scorer(model, FEATURES)
    monkeypatch.setattr(trees, "_WORKING", working)
    parts = tree_scorer(model, FEATURES)
    assert whole is not None
    assert parts is not None
    np.testing.assert_array_equal(parts(rows), whole(rows))


def one_split() -> Ensemble:
    growing = Growing()
    growing.node(0, 0, "BRANCH_LEQ", 1, 0.5, (1, 2), True)
    growing.leaf(0, 1, -1.0)
    growing.leaf(0, 2, 1.0)
    return growing.found


@pytest.mark.parametrize(
    "changed",
    [
        {"nodes_modes": ["BRANCH_LT", "LEAF", "LEAF"]},
        {"nodes_featureids": [FEATURES, 0, 0]},
        {"nodes_values": [float("nan"), 0.0, 0.0]},
        {"nodes_falsenodeids": [1, 0, 0]},
        {"nodes_truenodeids": [7, 0, 0]},
        {"target_ids": [0, 1]},
        {"target_weights": [1.0]},
        {"base_values": [0.5]},
        {"post_transform": "LOGISTIC"},
    ],
    ids=str,
)
def test_what_is_not_understood_in_every_part_is_left_to_onnx_runtime(changed: dict[str, Any]) -> None:
    assert tree_scorer(model_of(one_split()), FEATURES) is not None
    assert tree_scorer(model_of({**one_split(), **changed}), FEATURES) is None


def test_tables_beyond_the_limit_are_left_to_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "LARGEST", 2)
    assert tree_scorer(model_of(one_split()), FEATURES) is None


@given(st.binary(max_size=80))
def test_no_bytes_break_the_reading(data: bytes) -> None:
    assert tree_scorer(data, FEATURES) is None
    assert tree_scorer(model_of(one_split())[: len(data)] + data, FEATURES) is None
