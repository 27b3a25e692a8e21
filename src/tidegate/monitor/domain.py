"""Rows from a region that the reference does not know: unseen categories, numbers far away, a group hardly seen.

A strong tilt and a group that the reference hardly has are one continuum; that a region has to be `TIMES` as frequent
as in the reference is a convention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate.monitor.clusters import own_shift
from tidegate.monitor.drift import Column, Evidence, Window, codes, is_numeric
from tidegate.monitor.learn import folds, some
from tidegate.monitor.ratio import Ratio

UNSEEN_MARGIN, FAR_MARGIN, REGION_MARGIN = 0.005, 0.02, 0.03
BEYOND, NEIGHBOURS, MOST_REFERENCE, MOST_CURRENT = 0.005, 5, 1_500, 20_000
DENSE, TIMES = 5.0, 15.0
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outside:
    """One test and the current rows that it holds to be outside."""

    evidence: Evidence
    rows: Mask


def domain_shift(reference: Window, current: Window, ratio: Ratio) -> list[Outside]:
    """Per feature unseen categories and numbers out of range; over all features neighbours and the density ratio."""
    tests: list[tuple[str, str | None, Mask, float]] = []
    for name, before in reference.features.items():
        after = current.features[name]
        if is_numeric(before):
            rows, expected = _out_of_range(before, after)
            tests.append(("far", name, rows, FAR_MARGIN + expected))
        else:
            rows, expected = _unseen(before, after)
            tests.append(("unseen", name, rows, UNSEEN_MARGIN + expected))
    # of very many rows a sample is looked at; the others count as inside
    looked = some(np.arange(len(current)), MOST_CURRENT, 6)
    lonely = np.zeros(len(current), bool)
    lonely[looked] = _lonely(reference, current.take(looked))
    tests.append(("neighbour_distance", None, lonely, FAR_MARGIN + BEYOND))
    tests.append(("hardly_seen_region", None, (ratio.new > DENSE) & _rare(ratio), REGION_MARGIN))
    shifts = [
        own_shift(rows[at].astype(np.float64), None if current.day is None else current.day[at])
        for what, _, rows, _ in tests
        for at in (looked if what == "neighbour_distance" else slice(None),)
    ]
    return [
        Outside(
            Evidence("domain_shift", what, name, one.effect, margin, min(1.0, one.beyond(margin) * len(tests))), rows
        )
        for (what, name, rows, margin), one in zip(tests, shifts, strict=True)
    ]


def _unseen(before: Column, after: Column) -> tuple[Mask, float]:
    """Rows with a category never seen, and how many a reference of this size leaves unseen (Good and Turing)."""
    levels, old, new = codes(before, after)
    counts = np.bincount(old, minlength=len(levels))
    once = float((counts == 1).sum())
    return (counts == 0)[new], (once + 2 * math.sqrt(2 * once)) / len(old)


def _out_of_range(before: Column, after: Column) -> tuple[Mask, float]:
    """Rows beyond the reference's range by more than half the distance of its quartiles, and their expected share."""
    old, new = before.astype(np.float64), after.astype(np.float64)
    if np.isnan(old).all():
        return ~np.isnan(new), 0.0
    low, first, third, high = np.nanquantile(old, (0.001, 0.25, 0.75, 0.999))
    room = 0.5 * (third - first)
    return (new < low - room) | (new > high + room), 0.001


def _rare(ratio: Ratio) -> bool:
    """Whether the dense region is so much rarer in the reference."""
    before = max(float((ratio.old > DENSE).mean()), 1 / len(ratio.old))
    return float((ratio.new > DENSE).mean()) >= TIMES * before


def _lonely(reference: Window, current: Window) -> Mask:
    """Rows whose fifth neighbour in the reference is farther away than that of nearly all other reference rows."""
    old, new = _scaled(reference, current)
    if not old.shape[1]:
        return np.zeros(len(current), bool)
    half = folds(reference.day, len(old), 2, 3)
    base = old[some(np.flatnonzero(half == 0), MOST_REFERENCE, 4)]
    others = old[some(np.flatnonzero(half == 1), MOST_REFERENCE, 5)]
    if min(len(base), len(others)) <= NEIGHBOURS:
        return np.zeros(len(current), bool)
    limit = float(np.quantile(_distances(base, others), 1 - BEYOND))
    return _distances(base, new) > limit


def _scaled(reference: Window, current: Window) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Asinh of the numeric features over their interquartile range; nulls lie in the middle."""
    old: list[NDArray[np.float32]] = []
    new: list[NDArray[np.float32]] = []
    for name, before in reference.features.items():
        values = before.astype(np.float64) if is_numeric(before) else np.array([math.nan])
        if np.isnan(values).all():
            continue
        first, middle, third = np.nanquantile(values, (0.25, 0.5, 0.75))
        width = third - first or float(np.nanstd(values)) or 1.0
        for side, column in ((old, values), (new, current.features[name].astype(np.float64))):
            side.append(np.nan_to_num(np.arcsinh((column - middle) / width), nan=0.0).astype(np.float32))
    if not old:
        return np.zeros((len(reference), 0), np.float32), np.zeros((len(current), 0), np.float32)
    return np.stack(old, axis=1), np.stack(new, axis=1)


def _distances(base: NDArray[np.float32], rows: NDArray[np.float32], block: int = 2_000) -> NDArray[np.float32]:
    """Squared distance of each row to its fifth neighbour in `base`, by blocks of a few megabytes."""
    sizes, found = (base**2).sum(1), []
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        apart = sizes - 2 * (part @ base.T) + (part**2).sum(1)[:, None]
        found.append(np.partition(apart, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1])
    return np.concatenate(found)
