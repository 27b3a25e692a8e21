"""A model version in memory: checked, loaded, and proved on its reference rows.

A file of trees alone is scored by `tidegate.serve.trees`, any other by ONNX Runtime, which is then imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import PlatformError
from tidegate.serve.trees import tree_scorer
from tidegate.train.model_file import MANIFEST, TOLERANCE, FeatureSchema, check, verify

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Probabilities of the positive class for encoded rows, float32 [N, F] -> [N]; safe in several threads."""


@dataclass(frozen=True)
class LoadedModel:
    """One model version that answers: its digest, its feature schema and what runs it, on one thread."""

    digest: str
    schema: FeatureSchema
    runner: Run = field(repr=False)

    def run(self, encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities for encoded rows, float32 [N, F] -> [N], as the model gives them.

        Raises PlatformError whatever goes wrong inside: the fault is the model's, not the request's.
        """
        try:
            return self.runner(encoded)
        except Exception as error:  # noqa: BLE001 - the runtime raises many kinds, all of them the model's failure
            raise PlatformError(f"model failed: {' '.join(str(error).split())[:200]}") from None

    def checked(self, encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        """`run`, checked: PlatformError also when a score is not finite."""
        scores = self.run(encoded)
        if len(scores) != len(encoded) or np.count_nonzero(np.isfinite(scores)) < len(scores):
            raise PlatformError(f"model failed: {len(encoded)} rows gave scores {scores[:3].tolist()}")
        return scores

    def score(self, encoded: NDArray[np.float32]) -> list[float]:
        """`checked`, as floats."""
        return self.checked(encoded).tolist()  # type: ignore[no-any-return]


def load_model(folder: Path, digest: str | None = None, public_keys: Iterable[bytes] = ()) -> LoadedModel:
    """Check the files (and, where keys are given, the signature) before any is loaded; then load and prove the model.

    `digest` None takes the one that the folder's manifest states. Raises PlatformError when a file is not what was
    registered, or when a reference row is answered otherwise than in training.
    """
    expected = digest or _stated_digest(folder)
    keys = tuple(public_keys)
    if keys:
        verify(folder, expected, keys)
    else:
        check(folder, expected)
    return load_checked(folder, expected)


def load_checked(folder: Path, digest: str) -> LoadedModel:
    """Load files that were checked, and prove the model; raises PlatformError as `load_model` does."""
    schema, path = FeatureSchema.load(folder), folder / "model.onnx"
    model = LoadedModel(digest, schema, tree_scorer(path.read_bytes(), len(schema.features)) or onnx_runner(path))
    _prove(model, folder / "reference.json")
    return model


def _stated_digest(folder: Path) -> str:
    try:
        return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        raise PlatformError(f"{folder / MANIFEST}: no digest in it") from None


def onnx_runner(path: Path) -> Run:
    """What runs a file by ONNX Runtime on one thread; PlatformError when it is no model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - as in `LoadedModel.run`
        raise PlatformError(f"{path}: {' '.join(str(error).split())[:200]}") from None

    def run(encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = session.run(["score"], {"features": encoded})[0].ravel()
        return scores

    return run


def _prove(model: LoadedModel, path: Path) -> None:
    try:
        reference = json.loads(path.read_text(encoding="utf-8"))
        rows, wanted = reference["rows"], reference["scores"]
    except (OSError, ValueError, KeyError, TypeError):
        raise PlatformError(f"{path}: no reference rows") from None
    scores = model.score(model.schema.encode(rows))
    for index, (got, expected) in enumerate(zip(scores, wanted, strict=True)):
        if not abs(got - expected) <= TOLERANCE:
            raise PlatformError(f"{path}: row {index} scored {got}, in training {expected}; not ready")
