"""The loss over all rows where labels are seen only for some: those that were acted on, and a share explored by chance.

Each row's label is seen with a probability that is known before it is drawn: 1 where the model's answer is acted on
anyway, the exploration share elsewhere. Weighted by its inverse (Hajek's ratio, Sarndal, Swensson, Wretman 1992,
*Model Assisted Survey Sampling*, 5.7) the rows that were seen stand for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tidegate.errors import UserError
from tidegate.monitor.clusters import Floats

Z = 1.959963984540054
"""95 % of a normal distribution lie within so many standard errors."""
LEAST_EXPLORED = 30
"""Explored rows with a label below which there are no limits."""


@dataclass(frozen=True)
class Whole:
    """Mean loss over all rows of a window with its 95 % interval; infinite limits where too few were explored."""

    value: float
    lower: float
    upper: float
    explored: int
    """Rows seen by exploration alone."""


def loss_of_all(loss: Floats, propensity: Floats) -> Whole:
    """Mean loss over every row, [N], those without a label included.

    loss: nan where no label was seen. propensity: the probability, as it was logged, that a row's label is seen.
    The interval is about the draw of the explored rows, so it is one for these rows and not for those to come.
    Raises UserError where a row could never be seen: nothing stands for it.
    """
    if len(loss) == 0 or not bool(np.all((propensity > 0) & (propensity <= 1))):
        raise UserError(
            "propensity", "0, or no number", "above 0 and at most 1 for every row: keep exploration traffic"
        )
    seen = ~np.isnan(loss)
    value_of, weight = loss[seen], 1.0 / propensity[seen]
    if not seen.any():
        return Whole(math.nan, -math.inf, math.inf, 0)
    value = float((weight * value_of).sum() / weight.sum())
    explored = int((weight > 1).sum())
    if explored < LEAST_EXPLORED and bool(np.any(propensity < 1)):
        return Whole(value, -math.inf, math.inf, explored)
    spread = float(((weight - 1) * weight * (value_of - value) ** 2).sum())
    reach = Z * math.sqrt(spread) / float(weight.sum())
    return Whole(value, value - reach, value + reach, explored)
