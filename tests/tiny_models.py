"""Tiny ONNX model versions for tests: a logistic score over a numeric and a categorical feature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tidegate.train.model_file import FeatureSchema, folder_name, write_manifest

SCHEMA = {
    "features": [
        {"name": "distance", "kind": "numeric", "categories": None},
        {"name": "carrier", "kind": "category", "categories": ["AA", "UA"]},
        {"name": "dep hour", "kind": "numeric", "categories": None},
    ]
}
ROW = {"distance": 0.5, "carrier": "UA", "dep hour": 7}


WEIGHTS = (0.4, -0.3, 0.05)


def reference_score(row: dict, weights=WEIGHTS, bias=0.1) -> float:
    codes = {"AA": 1.0, "UA": 2.0}
    values = [row.get("distance") or 0.0, codes.get(row.get("carrier"), 0.0), row.get("dep hour") or 0.0]
    return float(1 / (1 + np.exp(-(np.dot(values, weights) + bias))))


def write_model(store: Path, bias: float = 0.1, log_of_first: bool = False, weights=WEIGHTS) -> str:
    """Write one model version under `store`/<hex>; returns its digest. `log_of_first`: NaN scores for distance < 0."""
    from onnx import TensorProto, helper

    folder = store / "new"
    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["filled"]),
        helper.make_node("MatMul", ["filled", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["plain"]),
    ]
    if log_of_first:
        nodes += [
            helper.make_node("Gather", ["filled", "first"], ["distance"], axis=1),
            helper.make_node("Sqrt", ["distance"], ["root"]),
            helper.make_node("Mul", ["root", "zero"], ["nothing"]),
            helper.make_node("Add", ["plain", "nothing"], ["score"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["plain"], ["score"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("weights", TensorProto.FLOAT, [3, 1], list(weights)),
            helper.make_tensor("bias", TensorProto.FLOAT, [1], [bias]),
            helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "model.txt").write_text("tiny\n")
    (folder / "feature_schema.json").write_text(FeatureSchema.parse(json.dumps(SCHEMA)).dump())
    rows = [ROW, {"distance": None, "carrier": None, "dep hour": 3}, {"distance": 2.0, "carrier": "??"}]
    scores = [reference_score(row, weights, bias) for row in rows]
    (folder / "reference.json").write_text(json.dumps({"rows": rows, "scores": scores}))
    digest = write_manifest(folder)
    folder.rename(store / folder_name(digest))
    return digest


def write_model_of(store: Path, schema: FeatureSchema, weights=None) -> str:
    """Write one model version of any schema under `store`/<hex>, logistic in the (weighted) sum; returns its digest."""
    from onnx import TensorProto, helper

    folder, width = store / "new", len(schema.features)
    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["filled"]),
        helper.make_node("MatMul", ["filled", "weights"], ["product"]),
        helper.make_node("Sigmoid", ["product"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("weights", TensorProto.FLOAT, [width, 1], weights or [1e-3] * width),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "model.txt").write_text("sum\n")
    (folder / "feature_schema.json").write_text(schema.dump())
    (folder / "reference.json").write_text(json.dumps({"rows": [{}], "scores": [0.5]}))
    digest = write_manifest(folder)
    folder.rename(store / folder_name(digest))
    return digest
