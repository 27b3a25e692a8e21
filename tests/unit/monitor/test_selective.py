"""Labels that are seen exactly where the model acts are named, as those are that are seen mostly there."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.monitor.diagnose import diagnose
from tidegate.monitor.drift import Window


def rows(seed: int, elsewhere: float) -> Window:
    """28 days of 2,000 rows; labels where the score is below 0.4, and for a share of the rest."""
    draw = np.random.default_rng(seed)
    score = draw.random(2000)
    label = (draw.random(2000) < score).astype(np.float64)
    seen = (score < 0.4) | (draw.random(2000) < elsewhere)
    return Window({"x": score.copy()}, score, np.where(seen, label, np.nan), np.arange(2000) % 28)


@pytest.mark.parametrize("elsewhere", [0.0, 0.05, 0.5])
def test_labels_where_the_model_acted_are_selective(elsewhere):
    assert diagnose(rows(1, 1.0), rows(2, elsewhere)).finding == "selective_labels"


def test_labels_lost_at_random_are_not():
    current = rows(3, 1.0)
    lost = np.random.default_rng(4).random(2000) < 0.4
    hidden = Window(current.features, current.score, np.where(lost, np.nan, current.label), current.day)
    assert diagnose(rows(1, 1.0), hidden).finding == "none"
