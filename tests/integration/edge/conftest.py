from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from edges import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "state")
    made.promote(0.1)
    return made
