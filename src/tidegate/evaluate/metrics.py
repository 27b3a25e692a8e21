"""Metrics of scores against 0/1 labels, row by row where they are means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def log_loss(labels: Floats, scores: Floats) -> Floats:
    """Log loss of each row, scores kept 1e-7 away from 0 and 1 (a float32 score may be either)."""
    kept = np.clip(scores, 1e-7, 1 - 1e-7)
    return np.asarray(-(labels * np.log(kept) + (1 - labels) * np.log1p(-kept)))


def brier(labels: Floats, scores: Floats) -> Floats:
    """Squared error of each row."""
    return np.asarray((scores - labels) ** 2)


def roc_auc(labels: Floats, scores: Floats) -> float:
    """Area under the ROC curve by mean ranks (Mann-Whitney), ties count half; both classes must be there."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(labels.sum())
    negatives = len(labels) - positives
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))
