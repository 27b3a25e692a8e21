"""Requests of one turn of the event loop: one run of the model, and every answer and row as if each had come alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asked import Server, server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import reference_score

from tidegate.errors import PlatformError
from tidegate.observations import SegmentReader
from tidegate.serve.loaded import LoadedModel
from tidegate.serve.prediction_log import Heard
from tidegate.serve.scoring import Scored, Scorer

ROW = st.lists(st.floats(0, 5), min_size=3, max_size=3).map(lambda v: [v[0], "UA" if v[1] > 2 else None, v[2]])


class Counting:
    """The model, and how many rows each of its runs had."""

    def __init__(self, model: LoadedModel) -> None:
        self.schema, self._model, self.runs = model.schema, model, list[int]()

    def checked(self, encoded: Any) -> Any:
        self.runs.append(len(encoded))
        return self._model.checked(encoded)


@pytest.fixture
def wall(model_folder: Path, tmp_path: Path) -> Iterator[Server]:
    found = server(model_folder, tmp_path / "rows", "wall")
    found.app.scorer.model = Counting(found.app.scorer.model)  # type: ignore[assignment]
    yield found
    found.app.scorer.log.close()


async def at_once(scorer: Scorer, requests: list[list[Any]]) -> list[Any]:
    started = time.perf_counter()
    made = map(scorer.decoder.rows.of_lists, requests)
    waiting = [scorer.score(rows, float(n), Heard(f"r{n}"), started) for n, rows in enumerate(made)]
    return await asyncio.gather(*waiting, return_exceptions=True)


@given(st.lists(st.lists(ROW, min_size=1, max_size=3), min_size=1, max_size=6))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_together_is_as_alone_to_the_bit(wall: Server, requests: list[list[Any]]) -> None:
    scorer = wall.app.scorer
    scorer.model.runs.clear()  # type: ignore[attr-defined]
    before = len(wall.rows())
    together: list[Scored] = asyncio.run(at_once(scorer, requests))
    assert scorer.model.runs == [sum(map(len, requests))]  # type: ignore[attr-defined]
    logged = wall.rows()[before:]
    alone = [asyncio.run(at_once(scorer, [rows]))[0] for rows in requests]
    assert [one.scores for one in together] == [one.scores for one in alone]
    assert all(np.array_equal(a.encoded, b.encoded) for a, b in zip(together, alone, strict=True))
    assert [one.rows.lists() for one in together] == requests
    assert [(row.request_id, row.time, row.score) for row in logged] == [
        (f"r{n}/{index}", float(n), score) for n, one in enumerate(alone) for index, score in enumerate(one.scores)
    ]


def test_a_request_that_makes_the_model_fail_fails_alone(wall: Server) -> None:
    good, bad = [[1.0, None, 1.0]], [[-1.0, None, 1.0]]
    first, second, third = asyncio.run(at_once(wall.app.scorer, [good, bad, good]))
    assert isinstance(second, PlatformError)
    assert first.scores == third.scores == pytest.approx([reference_score({"distance": 1, "dep hour": 1})], abs=1e-6)
    assert [(row.request_id, row.error) for row in wall.rows()] == [("r0/0", False), ("r1/0", True), ("r2/0", False)]


def test_whatever_breaks_every_request_gets_an_answer(wall: Server) -> None:
    def broken(encoded: Any) -> Any:
        raise MemoryError

    wall.app.scorer.model.checked = broken  # type: ignore[method-assign]
    found = asyncio.run(at_once(wall.app.scorer, [[[1.0, None, 1.0]]] * 2))
    assert [type(one) for one in found] == [MemoryError, MemoryError]


def waits_then_marks(wall: Server, mark: Callable[[], None]) -> list[str]:
    """What stands in the log when a mark is put there while a request waits."""

    async def marked() -> None:
        rows = wall.app.scorer.decoder.rows.of_lists([[1.0, None, 1.0]])
        wall.app.scorer.score(rows, 5.0, Heard("r"), time.perf_counter())
        mark()

    asyncio.run(marked())
    wall.app.scorer.log.flush()
    text = b"".join(path.read_bytes() for path in sorted(wall.folder.iterdir()))
    return ["mark" if b'"t":"m"' in line else "row" for line in text.splitlines()]


def test_a_mark_never_overtakes_a_row_that_waits(wall: Server) -> None:
    assert waits_then_marks(wall, lambda: wall.app.scorer.log.promise(10.0)) == ["row", "mark"]
    reader = SegmentReader(wall.folder)
    assert [row.time for row in reader.read()] == [5.0]
    assert reader.watermark == 10.0
