"""ONNX graphs: the preparation of rows, then a tree ensemble or a linear model, then the sigmoid.

Prepared numbers are float64 until a tree model takes them, as in `tidegate.train.prepare`. A model that only keeps
some features has no such nodes: its trees name the kept columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.train.prepare import CLIP, Preparation


class Graph:
    """Nodes and constants in the order in which they are added; every node has one output of its own name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """A constant tensor; returns its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """A node of operator `kind`; returns its output's name."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def take(self, columns: Sequence[int], output: str) -> str:
        """Some columns of the input."""
        indices = self.constant(f"{output}_columns", np.array(columns, np.int64))
        return self.add("Gather", ["features", indices], output, axis=1)

    def cast(self, source: str, output: str, kind: str) -> str:
        """`source` as FLOAT or DOUBLE."""
        from onnx import TensorProto

        return self.add("Cast", [source], output, to=getattr(TensorProto, kind))

    def model(self, features: int) -> bytes:
        """The model: input ``features`` float32 [N, F]; output ``score`` float32 [N, 1] = sigmoid of ``raw``."""
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            [*self.nodes, helper.make_node("Sigmoid", ["raw"], ["score"])],
            "tidegate",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, features])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="tidegate", ir_version=8)
        return bytes(model.SerializeToString(deterministic=True))


def tree_model(ensemble: Mapping[str, Any], features: int, prepared: Preparation | None) -> bytes:
    """A model of the TreeEnsembleRegressor with these attributes, whose features are prepared columns."""
    graph, source, attributes = Graph(), "features", dict(ensemble)
    if prepared and prepared.numbers:
        parts = [graph.cast(_numbers(graph, prepared), "numbers_float", "FLOAT")]
        parts += [graph.take(prepared.passed, "passed")] if prepared.passed else []
        source = graph.add("Concat", parts, "prepared", axis=1)
    elif prepared:
        attributes["nodes_featureids"] = [prepared.passed[column] for column in attributes["nodes_featureids"]]
    graph.add("TreeEnsembleRegressor", [source], "raw", domain="ai.onnx.ml", n_targets=1, **attributes)
    return graph.model(features)


def linear_model(coefficients: NDArray[np.float64], intercept: float, features: int, prepared: Preparation) -> bytes:
    """A model of one coefficient a prepared column."""
    graph, terms = Graph(), []
    if prepared.numbers:
        weights = graph.constant("number_weights", coefficients[: prepared.width, None])
        terms.append(graph.add("MatMul", [_numbers(graph, prepared), weights], "numbers_part"))
    if prepared.one_hot:
        weights = graph.constant("code_weights", coefficients[prepared.width :, None])
        terms.append(graph.add("MatMul", [_one_hot(graph, prepared), weights], "codes_part"))
    terms.append(graph.constant("intercept", np.array([intercept])))
    total = terms[0]
    for number, term in enumerate(terms[1:]):
        total = graph.add("Add", [total, term], f"sum_{number}")
    graph.cast(total, "raw", "FLOAT")
    return graph.model(features)


def _numbers(graph: Graph, prepared: Preparation) -> str:
    """`Preparation.numeric`, operation by operation."""
    wide = graph.cast(graph.take(prepared.numbers, "numbers"), "numbers_double", "DOUBLE")
    centred = graph.add("Sub", [wide, graph.constant("mean", np.array(prepared.mean))], "centred")
    scaled = graph.add("Div", [centred, graph.constant("scale", np.array(prepared.scale))], "scaled")
    zero = graph.constant("zero", np.array(0.0))
    known = graph.add("Where", [graph.add("IsNaN", [scaled], "missing"), zero, scaled], "known")
    low, high = (graph.constant(name, np.array(value)) for name, value in (("low", -CLIP), ("high", CLIP)))
    clipped = graph.add("Clip", [known, low, high], "clipped")
    if not prepared.components:
        return clipped
    projection = graph.constant("components", np.array(prepared.components).T)
    return graph.add("MatMul", [clipped, projection], "projected")


def _one_hot(graph: Graph, prepared: Preparation) -> str:
    columns = [column for column, largest in prepared.one_hot for _ in range(largest + 1)]
    codes = [float(code) for _, largest in prepared.one_hot for code in range(largest + 1)]
    wanted = graph.constant("codes", np.array(codes, np.float32))
    equal = graph.add("Equal", [graph.take(columns, "coded"), wanted], "equal")
    return graph.cast(equal, "one_hot", "DOUBLE")
