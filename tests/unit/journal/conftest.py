from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.simulated_loop import World, quick


@pytest.fixture(scope="package")
def lived(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A folder whose model lived six days: v2 was trained by a trigger and promoted, v3 was aborted by the judge."""
    model = quick(triggers={"volume": {"increase": "50%"}, "cooldown": "1h"})
    world = World(tmp_path_factory.mktemp("lived"), model, bad=frozenset({"v3"}))
    world.start()
    world.hand_in("v1")
    world.until(lambda state: state.quarantined)
    world.looks(1)
    return world
