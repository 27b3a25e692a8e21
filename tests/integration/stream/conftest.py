"""A stream on a state folder of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
sys.path.insert(0, str(TESTS))

from streamed.running import Stream  # noqa: E402

from tidegate.state import prepare  # noqa: E402


@pytest.fixture
def stream(tmp_path, monkeypatch) -> Iterator[Stream]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    made = Stream(prepare(tmp_path / "state"))
    try:
        yield made
    finally:
        made.stop()
