"""Days and values taken together until each holds enough rows: what may be kept where rows are not retained. Pure.

A sum over one row is that row's own number. With `least` rows in every cell the days are still clusters, only fewer and
larger, and a slice value of few rows is one of the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

OTHERS = "others"
Days = NDArray[np.int64]
Floats = NDArray[np.float64]


def blocks(days: Days, least: int, groups: NDArray[Any] | None = None) -> Days:
    """For each row [N] the first day of its block: consecutive days until every group has `least` rows in it.

    What is left at the end goes into the last block.
    """
    if least <= 1 or not len(days):
        return days
    known, day = np.unique(days, return_inverse=True)
    values, group = np.unique(days * 0 if groups is None else groups, return_inverse=True)
    counts = np.bincount(day * len(values) + group, minlength=len(known) * len(values)).reshape(len(known), -1)
    return known[_starts(counts, least)][day]


def _starts(counts: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """Index of the first row of each row's block, [D], of counts [D, G]."""
    first, held, starts = 0, np.zeros(counts.shape[1], np.int64), []
    for row, more in enumerate(counts):
        held = held + more
        if (held >= least).all():
            starts.append(first)
            first, held = row + 1, np.zeros_like(held)
    known = np.asarray(starts or [0], np.int64)
    return known[np.searchsorted(known, np.arange(len(counts)), "right") - 1]


def values_of(column: NDArray[Any], least: int) -> NDArray[Any]:
    """The column [N] with each value of fewer than `least` rows as `OTHERS`."""
    values, place, counts = np.unique(column, return_inverse=True, return_counts=True)
    named = [str(value) if rows >= least else OTHERS for value, rows in zip(values.tolist(), counts, strict=True)]
    return np.asarray(named, object)[place] if len(values) else column


def merged_bins(days: Days, bins: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """Bin numbers [N] with neighbouring bins taken together until each has `least` rows on every day."""
    if least <= 1 or not len(bins):
        return bins
    known, day = np.unique(days, return_inverse=True)
    count = int(bins.max()) + 1
    by_bin = np.bincount(bins * len(known) + day, minlength=count * len(known)).reshape(count, -1)
    return np.unique(_starts(by_bin, least), return_inverse=True)[1][bins]
