"""Features that are worked out at request time: one function, called by the Feast on-demand view and by the traffic.

Arithmetic is in float64 and the outcome is float32, so that both callers get the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DERIVED = ("hour_sin", "hour_cos")
INPUTS = ("hour",)
_ANGLE = 2 * np.pi * np.arange(24) / 24
_SIN, _COS = np.sin(_ANGLE).round(12), np.cos(_ANGLE).round(12)


def derived(hour: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
    """The on-demand features, each [N] float32; NaN in, NaN out.

    `hour`: local hour of the scheduled departure, 0 to 23, set on a circle so that 23 and 0 are neighbours.
    """
    known = np.nan_to_num(np.asarray(hour, dtype=np.float64)).astype(np.int64) % 24
    missing = np.isnan(hour)
    return {
        "hour_sin": np.where(missing, np.nan, _SIN[known]).astype(np.float32),
        "hour_cos": np.where(missing, np.nan, _COS[known]).astype(np.float32),
    }
