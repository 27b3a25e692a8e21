"""Whole releases of every kind with a controller that dies at random: a small part of `benchmarks/releases.py`."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.releases import WAYS, both
from tidegate.release.stages import ENDED


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_deaths_change_no_end_and_nothing_forbidden_is_ever_seen(way):
    ends, deaths = Counter(), 0
    for seed in range(way, 5 * len(WAYS), len(WAYS)):
        calm, disturbed = both(seed, chance=0.2)
        assert disturbed.end == calm.end
        assert calm.faults + disturbed.faults == []
        assert calm.end[0] in ENDED
        ends[calm.end[0]] += 1
        deaths += disturbed.deaths
    assert deaths > 5
