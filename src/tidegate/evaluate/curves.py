"""The points of the model card's plots: calibration, ROC, contribution of each feature. Shown, never decided on.

No point stands for fewer than `LEAST` rows, so that the same is kept of rows that are not retained.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tidegate.evaluate.measure import Compared
from tidegate.evaluate.metrics import Floats
from tidegate.train.forget import LEAST
from tidegate.train.model_file import FeatureSchema

if TYPE_CHECKING:
    import polars as pl

BINS, POINTS, EXPLAINED, DEALS = 10, 40, 500, 3


def curves(rows: Compared, model: Path, frame: pl.DataFrame) -> dict[str, Any]:
    """Points of both models (of the candidate alone for a first version) and the candidate's contributions."""
    scores = {"candidate": rows.candidate} | ({} if rows.first else {"champion": rows.champion})
    return {
        "calibration": {name: calibration(rows.labels, found) for name, found in scores.items()},
        "roc": {name: roc(rows.labels, found) for name, found in scores.items()},
        **dict(zip(("contributions", "contributions_by"), _contributions(model, frame), strict=True)),
    }


def calibration(labels: Floats, scores: Floats) -> list[list[float]]:
    """[mean score, share of label 1, rows] of up to `BINS` bins of equally many rows, by score."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, max(1, min(BINS, len(order) // LEAST))) if len(part)]
    return [[float(scores[part].mean()), float(labels[part].mean()), len(part)] for part in parts]


def roc(labels: Floats, scores: Floats) -> list[list[float]]:
    """[false-positive rate, true-positive rate] at up to `POINTS` thresholds, from (0, 0) to (1, 1)."""
    if not len(labels) or not 0 < labels.mean() < 1:
        return []
    order = np.argsort(-scores, kind="stable")
    hits, falls = np.cumsum(labels[order]), np.cumsum(1 - labels[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # rows of one score are decided together
    places = np.flatnonzero(last)
    shown = max(2, min(POINTS, len(labels) // LEAST))
    chosen = places[np.unique(np.linspace(0, len(places) - 1, shown).astype(int))]
    points = np.stack([falls[chosen] / falls[-1], hits[chosen] / hits[-1]], 1)
    return [[0.0, 0.0], *points.tolist()]


def _contributions(model: Path, frame: pl.DataFrame) -> tuple[list[list[Any]], str]:
    """[feature, mean of |contribution to the log-odds|], largest first, and how it was found: ``terms`` or ``dealt``.

    ``terms``: SHAP values of trees, linear terms beside their mean. ``dealt``, of a family of which only ONNX is kept:
    how far the log-odds move when a feature's values are dealt to other rows.
    """
    from tidegate.train.estimators import contributions

    if not (model / "model.txt").is_file() or not frame.height:
        return [], ""
    schema = FeatureSchema.load(model)
    rows = schema.encode_frame(frame[np.linspace(0, frame.height - 1, min(EXPLAINED, frame.height)).astype(int)])
    names, values = contributions((model / "model.txt").read_text(encoding="utf-8"), schema, rows)
    sizes, by = np.abs(values).mean(0), "terms"
    if not names:
        names, sizes, by = schema.names, _dealt((model / "model.onnx").read_bytes(), rows), "dealt"
    found = zip(names, sizes.tolist(), strict=True)
    return [[name, mean] for name, mean in sorted(found, key=lambda pair: -pair[1])], by


def _dealt(onnx: bytes, rows: NDArray[np.float32]) -> Floats:
    """Mean |change of the log-odds| by feature, [F], over `DEALS` seeded permutations of its column."""
    from tidegate.train.export import score

    def odds(encoded: NDArray[np.float32]) -> Floats:
        scores = np.clip(score(onnx, encoded), 1e-7, 1 - 1e-7)
        return np.asarray(np.log(scores / (1 - scores)))

    before, draw, moved = odds(rows), np.random.default_rng(0), np.zeros(rows.shape[1])
    for column in range(rows.shape[1]):
        for _ in range(DEALS):
            dealt = rows.copy()
            dealt[:, column] = draw.permutation(dealt[:, column])
            moved[column] += np.abs(odds(dealt) - before).mean() / DEALS
    return moved
