"""Ranks by keys are those of a search, for every float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tidegate.serve.ranks import Ranks

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats(-8, 8, width=32)
EDGES = st.lists(NUMBERS, max_size=20).map(lambda cuts: edges_of(np.array(cuts, np.float32)))
PATTERNS = st.lists(st.integers(0, 2**32 - 1), max_size=30)


def edges_of(cuts: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.append(np.unique(cuts), np.array([np.inf, np.nan], np.float32))


def naive(edges: NDArray[np.float32], value: np.float32) -> int:
    """Edges below one value; NaN is above all but the last."""
    return len(edges) - 1 if np.isnan(value) else sum(bool(edge < value) for edge in edges)


def values_for(edges: list[NDArray[np.float32]], bits: list[int]) -> NDArray[np.float32]:
    """Every edge, its neighbours, the ends of what has one key, odd NaNs, and any bits."""
    at = np.concatenate(edges)
    odd = [0x7F800001, 0xFF800001, 0xFFFFFFFF, 0x80000000, 0, 1, 0x80000001, 0xFF800000, *bits]
    patterns = np.concatenate([np.array(odd, np.uint32), at.view(np.uint32) | 0xFFFF, at.view(np.uint32) & 0xFFFF0000])
    with np.errstate(over="ignore"):
        near = np.nextafter(at, np.float32(np.inf)), np.nextafter(at, np.float32(-np.inf))
    return np.concatenate([at, *near, patterns.astype(np.uint32).view(np.float32)])


@given(st.lists(EDGES, min_size=1, max_size=3), PATTERNS)
@settings(max_examples=60, deadline=None)
def test_ranks_are_the_numbers_of_edges_below(edges: list[NDArray[np.float32]], bits: list[int]) -> None:
    columns = np.tile(values_for(edges, bits), (len(edges), 1))
    wanted = [[naive(own, value) for value in column] for own, column in zip(edges, columns, strict=True)]
    assert Ranks(edges)(columns).tolist() == wanted


@pytest.mark.parametrize("features", [1, 16, 17, 200])
@pytest.mark.parametrize("cuts", [0, 1, 300])
def test_however_many_features_and_edges(features: int, cuts: int) -> None:
    edges = [edges_of(np.arange(cuts, dtype=np.float32) / (1 + feature)) for feature in range(features)]
    columns = np.tile(values_for(edges[:2], []), (features, 1))
    wanted = [[naive(own, value) for value in column] for own, column in zip(edges, columns, strict=True)]
    assert Ranks(edges)(columns).tolist() == wanted
