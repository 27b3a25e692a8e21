"""Traffic with regions, cookies and several arms is written down, told and proved again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.releases import LOOK, WAYS, Life, _candidate
from tidegate.controller.loop import traffic_of
from tidegate.journal.events import GENESIS, Draft, canonical, seal
from tidegate.journal.replay import _check_traffic, _Differs
from tidegate.journal.views import line


def opened(way: str) -> Life:
    """A life whose release was just opened."""
    life = Life(list(WAYS).index(way))
    life.target.broken.clear()
    life._write([_candidate("v1", 0.0)])
    life._look(1)
    life._write([_candidate("v2", LOOK), _candidate("v3", LOOK)])
    life._look(2)
    return life


def event_of(life: Life, **other):
    data = {**json.loads(canonical(traffic_of(life.target.observe()))), **other}
    return seal(Draft("serve.traffic", 3 * LOOK, data), "m", 9, 0.0, GENESIS)


@pytest.mark.parametrize(
    ("way", "told", "other"),
    [
        ("by region", "v1 100%; us: v1 80%, v3 20%", {"regions": None}),
        ("A/B/C, sticky", "v1 40%, v3 30%, v2 30%, by cookie", {"sticky": ""}),
        ("A/B/C, sticky", "v1 40%, v3 30%, v2 30%, by cookie", {"merge": ["v1", "v2"]}),
    ],
)
def test_traffic_is_told_and_what_differs_is_found(way, told, other):
    life = opened(way)
    assert line(event_of(life)).endswith(told)
    _check_traffic(life.state, event_of(life))
    with pytest.raises(_Differs, match="the rules"):
        _check_traffic(life.state, event_of(life, **other))
