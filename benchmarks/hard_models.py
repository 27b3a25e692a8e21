"""Model versions of the flights' schema that are good at something and bad at something else, as real ONNX files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flights.workload import FEATURES, ORIGINS
from tidegate.train.model_file import FeatureSchema, folder_name, write_manifest

KNOWN, LIMITED = "origin_delay_3h", "precip"
"""The column that tells the truth's logit; the one by which a version fails or is slow, even in [0, 1]."""
WORK = 1600
"""Rows of the two matrices whose product a slow answer takes: about 100 ms of one core."""


@dataclass(frozen=True)
class Version:
    """P(late) = sigmoid(gain x KNOWN + off[origin]).

    fails, slow: shares of the requests, those with the highest LIMITED, that get no score, or one that takes long.
    torn: the file is no model.
    """

    off: Sequence[float] = (0.0, 0.0, 0.0)
    gain: float = 1.0
    fails: float = 0.0
    slow: float = 0.0
    torn: bool = False


def write_version(store: Path, version: Version) -> tuple[Path, str]:
    """Write its folder under `store`; returns it with its digest."""
    folder = store / "new"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"no model" if version.torn else _graph(version).SerializeToString())
    (folder / "model.txt").write_text(f"{version}\n")
    plain = [
        {"name": f.name, "kind": f.kind, "categories": None if f.categories is None else list(f.categories)}
        for f in FEATURES
    ]
    (folder / "feature_schema.json").write_text(FeatureSchema.parse(json.dumps({"features": plain})).dump())
    row = {"origin": ORIGINS[0], KNOWN: 0.5}
    score = 1 / (1 + math.exp(-(version.gain * 0.5 + version.off[0])))
    (folder / "reference.json").write_text(json.dumps({"rows": [row], "scores": [score]}))
    digest = write_manifest(folder)
    return folder.rename(store / folder_name(digest)), digest


def _graph(version: Version) -> Any:
    from onnx import TensorProto, helper

    names = [feature.name for feature in FEATURES]
    ints, floats = TensorProto.INT64, TensorProto.FLOAT
    tensors = [
        helper.make_tensor("zero", floats, [1], [0.0]),
        helper.make_tensor("gain", floats, [1], [version.gain]),
        helper.make_tensor("fails_above", floats, [1], [1 - version.fails]),
        helper.make_tensor("slow_above", floats, [], [1 - version.slow]),
        helper.make_tensor("off", floats, [4], [0.0, *version.off]),
        helper.make_tensor("square", ints, [2], [WORK] * 2),
        *(helper.make_tensor(name, ints, [1], [names.index(name)]) for name in ("origin", KNOWN, LIMITED)),
    ]
    into = helper.make_tensor_value_info("features", floats, [None, len(names)])
    out = helper.make_tensor_value_info("score", floats, [None, 1])
    graph = helper.make_graph(_nodes(version), "hard", [into], [out], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _nodes(version: Version) -> list[Any]:
    from onnx import TensorProto, helper

    node, taken = helper.make_node, []
    for name in ("origin", KNOWN, LIMITED):
        taken.append(node("Gather", ["filled", name], [f"{name}_taken"], axis=1))
    nodes = [
        node("IsNaN", ["features"], ["missing"]),
        node("Where", ["missing", "zero", "features"], ["filled"]),
        *taken,
        node("Cast", ["origin_taken"], ["code"], to=TensorProto.INT64),
        node("Gather", ["off", "code"], ["shift"]),
        node("Mul", [f"{KNOWN}_taken", "gain"], ["known"]),
        node("Add", ["known", "shift"], ["logit"]),
    ]
    last = "logit"
    if version.fails:
        nodes += [node("Sub", ["fails_above", f"{LIMITED}_taken"], ["room"]), node("Sqrt", ["room"], ["root"])]
        nodes += [node("Mul", ["root", "zero"], ["nothing"]), node("Add", [last, "nothing"], ["limited"])]
        last = "limited"
    if version.slow:
        nodes += [node("ReduceMax", [f"{LIMITED}_taken"], ["most"], keepdims=0)]
        nodes += [node("Greater", ["most", "slow_above"], ["is_slow"])]
        nodes += [node("If", ["is_slow"], ["taken"], then_branch=_slowly(last), else_branch=_at_once(last))]
        last = "taken"
    return [*nodes, node("Sigmoid", [last], ["score"])]


def _slowly(logit: str) -> Any:
    """The logit after a product of large matrices, which are made of the input so that nothing is known beforehand."""
    from onnx import helper

    node = helper.make_node
    nodes = [
        node("ReduceMean", ["filled"], ["some"], keepdims=1),
        node("Expand", ["some", "square"], ["big"]),
        node("MatMul", ["big", "big"], ["product"]),
        node("ReduceMean", ["product"], ["mean"], keepdims=1),
        node("Mul", ["mean", "zero"], ["idle"]),
        node("Add", [logit, "idle"], ["worked"]),
    ]
    return helper.make_graph(nodes, "slowly", [], [_logit("worked")])


def _at_once(logit: str) -> Any:
    from onnx import helper

    return helper.make_graph([helper.make_node("Identity", [logit], ["same"])], "at_once", [], [_logit("same")])


def _logit(name: str) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1])
