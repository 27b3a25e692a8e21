"""Whether labels are missing by the score: seen only where the model acted."""

from __future__ import annotations

import math

import numpy as np

from tidegate.monitor.clusters import Shift, auc_left_out, jackknife_error
from tidegate.monitor.drift import Evidence, Window

AUC_MARGIN, RANGE_MARGIN = 0.05, 0.15
LEAST_UNKNOWN = 20


def selective_labels(current: Window) -> list[Evidence]:
    """Whether the score tells which rows are labelled: AUC beyond its margin and coverage that differs by decile."""
    current = current.take(~np.isnan(current.score))
    known = ~np.isnan(current.label) if current.known is None else current.known
    if min(int(known.sum()), int((~known).sum())) < LEAST_UNKNOWN:
        return []
    day = np.arange(len(current)) % 50 if current.day is None else current.day
    parts = [(current.score[day == one], known[day == one]) for one in np.unique(day)]
    value, left = auc_left_out([s[k] for s, k in parts], [s[~k] for s, k in parts])
    # a score that tells exactly which rows are labelled leaves days nothing to differ in: not below Mann and Whitney's
    least = math.sqrt((len(known) + 1) / (12.0 * known.sum() * (~known).sum()))
    test = Shift(value - 0.5, max(jackknife_error(left), least), max(len(parts) - 1, 1))
    decile = np.searchsorted(np.quantile(current.score, np.arange(1, 10) / 10), current.score)
    rates = [float(known[decile == one].mean()) for one in np.unique(decile)]
    spread = max(rates) - min(rates)
    p = test.beyond(AUC_MARGIN) if spread > RANGE_MARGIN else 1.0
    return [
        Evidence("selective_labels", "auc_of_labelled", None, test.effect, AUC_MARGIN, p),
        Evidence("selective_labels", "coverage_range", None, spread, RANGE_MARGIN, p),
    ]
