"""What is usual for each feature, told beside a contribution: a range for numbers, the commonest values of a category.

Coarse on purpose, so that no number is one row's own: a limit leaves at least `LEAST` rows out and is rounded outward,
a value that is named has at least `LEAST` rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.train.forget import LEAST, outward
from tidegate.train.model_file import Feature, FeatureSchema

SHARE = 0.05
"""Of the rows, on each side outside the range."""
MOST_VALUES = 5

Typical = dict[str, list[Any] | None]


def typical_of(encoded: NDArray[np.float32], schema: FeatureSchema) -> Typical:
    """For each feature of rows [N, F] ``[5th, 95th percentile]`` or its commonest values; None where rows are few."""
    return {
        feature.name: _range(encoded[:, column]) if feature.kind == "numeric" else _values(encoded[:, column], feature)
        for column, feature in enumerate(schema.features)
    }


def _range(values: NDArray[np.float32]) -> list[Any] | None:
    known = np.sort(values[np.isfinite(values)]).astype(float)
    left_out = max(LEAST, math.ceil(SHARE * len(known)))
    if len(known) <= 2 * left_out:
        return None
    return [outward(known[left_out], math.floor), outward(known[-1 - left_out], math.ceil)]


def _values(codes: NDArray[np.float32], feature: Feature) -> list[Any] | None:
    counts = np.bincount(codes.astype(int), minlength=len(feature.categories or ()) + 1)[1:]
    first = sorted(range(len(counts)), key=lambda code: (-counts[code], code))[:MOST_VALUES]
    return [(feature.categories or ())[code] for code in first if counts[code] >= LEAST] or None
