from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def postgresql():
    """The URL of an empty database of a real server."""
    from tests.real_postgresql import postgresql_server

    with postgresql_server() as url:
        yield url


@pytest.fixture(scope="session")
def trees(tmp_path_factory) -> tuple[Path, str]:
    """A state folder in whose journal v1 serves, and its digest; to be copied."""
    from tests.batch_flights import crown, write_trees

    state = tmp_path_factory.mktemp("trees") / "state"
    state.mkdir()
    digest = write_trees(state)
    crown(state, digest)
    return state, digest
