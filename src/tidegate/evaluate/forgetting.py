"""Forgetting: is the candidate worse than the champion on the past that the champion knew? Pure.

Frozen slices are rows at or before the end of the champion's training window: each calendar month (seasons), and each
value of the gate's slices over all of that past (regions, a rare event where the workload names one as a slice). Of
each the same `MOST` rows, evenly spaced in time, whichever candidate asks. The difference in loss, days as clusters,
must not be proved above the most that may be forgotten; the 5 % are shared by all slices asked about.

The champion learned from these rows and so did most candidates; a champion looks a little too good on them. The
allowance is therefore held against a proof, not against the bare difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.evaluate.days import LEAST_DAYS, LEAST_SLICE, Check, held, moments, paired_moments, shared

MOST = 2000
DAY = 86_400.0
Positions = NDArray[np.int64]


def frozen(
    times: NDArray[np.float64], columns: Mapping[str, NDArray[Any]], until: float, least: int = 1
) -> dict[str, Positions]:
    """Positions of the rows of each frozen slice of at least `least` rows; `times` in seconds in order.

    `until`: the champion's training end.
    """
    past = np.flatnonzero(times <= until)
    months = np.asarray(times, "datetime64[s]").astype("datetime64[M]").astype(str)
    named = {"month": months, **columns}
    found = {
        f"{column}={value}": past[values[past] == value]
        for column, values in named.items()
        for value in np.unique(values[past]).tolist()
    }
    return {name: _spaced(positions) for name, positions in found.items() if len(positions) >= least}


def measure(slices: Mapping[str, Positions], times: NDArray[np.float64], losses: NDArray[np.float64]) -> dict[str, Any]:
    """The day moments of each slice; `losses` are candidate - champion by row, known at least where a slice is."""
    days = np.floor(times / DAY).astype(np.int64)
    return {name: _moments(days[rows], losses[rows]) for name, rows in slices.items() if len(rows)}


def forgetting_checks(found: Mapping[str, Mapping[str, Any]], most: float) -> tuple[dict[str, Check], dict[str, str]]:
    """A check for each frozen slice with enough rows and days, and the others by name with their size."""
    asked = {name: m for name, m in found.items() if m["rows"] >= LEAST_SLICE and m["days"] >= LEAST_DAYS}
    level = shared(len(asked))
    checks = {f"past {name}": held(paired_moments(m, level), most) for name, m in asked.items()}
    small = {f"past {n}": f"{m['rows']:.0f} rows on {m['days']:.0f} days" for n, m in found.items() if n not in asked}
    return checks, small


def _spaced(positions: Positions) -> Positions:
    if len(positions) <= MOST:
        return positions
    return positions[np.linspace(0, len(positions) - 1, MOST).astype(np.int64)]


def _moments(days: Positions, losses: NDArray[np.float64]) -> dict[str, float]:
    _, index = np.unique(days, return_inverse=True)
    rows: Sequence[int] = np.bincount(index).tolist()
    return moments(np.bincount(index, losses).tolist(), rows)
