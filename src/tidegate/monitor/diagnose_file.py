"""``tidegate diagnose``: a file, or a folder of windows, against a reference file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.errors import UserError
from tidegate.monitor.clusters import Floats
from tidegate.monitor.diagnose import diagnose
from tidegate.monitor.drift import Window
from tidegate.monitor.files import Roles, read_reference, read_window, read_windows
from tidegate.monitor.pooling import ALPHA, Stream

ONCE = 0.005
"""alpha a kind, for a single report."""


@dataclass(frozen=True)
class Asked:
    """What both forms of the command have in common."""

    reference: Path
    roles: Roles
    model: Path | None = None
    alpha: float | None = None


def diagnose_file(asked: Asked, current: Path) -> dict[str, Any]:
    """The command's document; `seconds` is the time it took, files included."""
    began = time.monotonic()
    reference = read_reference(asked.reference, asked.roles)
    window = read_window(current, asked.roles, reference)
    found = diagnose(reference, window, asked.alpha or ONCE, _scorer(asked.model))
    return found.to_json() | {"seconds": round(time.monotonic() - began, 3)}


def diagnose_stream(asked: Asked, folder: Path) -> Iterator[dict[str, Any]]:
    """One document a window, as soon as it is known."""
    reference = read_reference(asked.reference, asked.roles)
    rescore, stream = _scorer(asked.model), Stream()
    for name, path in read_windows(folder).items():
        window = read_window(path, asked.roles, reference)
        stream, looked = stream.look(
            window, lambda one, alpha: diagnose(reference, one, alpha, rescore), asked.alpha or ALPHA
        )
        yield {"window": name} | asdict(looked)


def text(document: dict[str, Any]) -> str:
    """The document for people."""
    lines = [f"{document['finding']}: {document['action']}"]
    if len(document["findings"]) > 1:
        lines.append(f"all findings: {', '.join(document['findings'])}")
    lines += [f"  {_line(one)}" for one in document["evidence"]]
    lines += [f"not assessable: {one['kind']}: {one['reason']}" for one in document["not_assessable"]]
    loss = document["loss"]
    told = ("reference", "predicted_from_data_drift", "observed")
    shown = ", ".join(f"{name.replace('_', ' ')} {_figure(loss[name])}" for name in told)
    return "\n".join([*lines, f"log loss: {shown}; {document['seconds']:.1f} s"])


def _line(one: dict[str, Any]) -> str:
    of = f" of {one['feature']}" if one["feature"] else ""
    return f"{one['kind']}: {one['statistic']}{of} {one['effect']:+.3f} (margin {one['margin']:.3f}), p {one['p']:.2g}"


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _scorer(model: Path | None) -> Callable[[Window], Floats] | None:
    """Scores a window again with a version's ONNX model; its feature_schema.json lies beside it."""
    if model is None:
        return None
    from tidegate.train.export import score
    from tidegate.train.model_file import FeatureSchema

    path = model / "model.onnx" if model.is_dir() else model
    try:
        schema, graph = FeatureSchema.load(path.parent), path.read_bytes()
    except OSError as error:
        raise UserError(str(path), error.strerror, "model.onnx of a version, beside its feature_schema.json") from None

    def again(window: Window) -> Floats:
        for name in schema.names:
            if name not in window.features:
                raise UserError(f"model {path}", f"no column {name}", "every feature of the model's schema")
        columns = [_encoded(window.features[f], codes) for f, codes in zip(schema.names, schema.codes(), strict=True)]
        return np.asarray(score(graph, np.stack(columns, axis=1).astype(np.float32)), np.float64)

    return again


def _encoded(column: Any, codes: dict[str, int] | None) -> Any:
    return column if codes is None else np.array([codes.get(str(value), 0) for value in column], np.float64)
