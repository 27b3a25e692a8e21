"""The points of the model card's plots: calibration, ROC, contribution of each feature. Shown, never decided on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.evaluate.measure import Compared
from tidegate.evaluate.metrics import Floats
from tidegate.train.model_file import FeatureSchema

if TYPE_CHECKING:
    import polars as pl

BINS, POINTS, EXPLAINED = 10, 40, 500


def curves(rows: Compared, model: Path, frame: pl.DataFrame) -> dict[str, Any]:
    """Points of both models (of the candidate alone for a first version) and the candidate's contributions."""
    scores = {"candidate": rows.candidate} | ({} if rows.first else {"champion": rows.champion})
    return {
        "calibration": {name: calibration(rows.labels, found) for name, found in scores.items()},
        "roc": {name: roc(rows.labels, found) for name, found in scores.items()},
        "contributions": _contributions(model, frame),
    }


def calibration(labels: Floats, scores: Floats) -> list[list[float]]:
    """[mean score, share of label 1, rows] of up to `BINS` bins of equally many rows, by score."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return [[float(scores[part].mean()), float(labels[part].mean()), len(part)] for part in parts]


def roc(labels: Floats, scores: Floats) -> list[list[float]]:
    """[false-positive rate, true-positive rate] at up to `POINTS` thresholds, from (0, 0) to (1, 1)."""
    if not len(labels) or not 0 < labels.mean() < 1:
        return []
    order = np.argsort(-scores, kind="stable")
    hits, falls = np.cumsum(labels[order]), np.cumsum(1 - labels[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # rows of one score are decided together
    places = np.flatnonzero(last)
    chosen = places[np.unique(np.linspace(0, len(places) - 1, POINTS).astype(int))]
    points = np.stack([falls[chosen] / falls[-1], hits[chosen] / hits[-1]], 1)
    return [[0.0, 0.0], *points.tolist()]


def _contributions(model: Path, frame: pl.DataFrame) -> list[list[Any]]:
    """[feature, mean of |contribution to the log-odds|], largest first; empty where the family stores no text."""
    from tidegate.train.estimators import contributions

    if not (model / "model.txt").is_file() or not frame.height:
        return []
    schema = FeatureSchema.load(model)
    rows = frame[np.linspace(0, frame.height - 1, min(EXPLAINED, frame.height)).astype(int)]
    text = (model / "model.txt").read_text(encoding="utf-8")
    names, values = contributions(text, schema, schema.encode_frame(rows))
    found = zip(names, np.abs(values).mean(0).tolist(), strict=True)
    return [[name, mean] for name, mean in sorted(found, key=lambda pair: -pair[1])]
