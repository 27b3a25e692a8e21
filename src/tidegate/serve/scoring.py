"""From a request's body to scored and logged rows: what /predict, /rank, /explain and /v2 have in common.

A mark in the log never overtakes a row: whatever waits is scored and logged before one is put there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import UserError
from tidegate.serve.by_key import Found, KeyLookup
from tidegate.serve.decoder import Decoder
from tidegate.serve.loaded import LoadedModel
from tidegate.serve.prediction_log import Heard, PredictionLog
from tidegate.serve.rows import Rows, matrix


@dataclass(frozen=True)
class Identity:
    """Who answers, and by which clock. `token` empty: nothing can be changed over HTTP."""

    name: str
    version: str
    clock: Literal["wall", "events"] = "wall"
    token: str = ""

    @property
    def label(self) -> str:
        """``NAME@vN.M``."""
        return f"{self.name}@{self.version}"


class Scored(NamedTuple):
    """N answered rows in the order asked: as served, as the model saw them, their scores."""

    rows: Rows
    encoded: NDArray[np.float32]
    scores: list[float]
    found: Found | None
    """What was looked up, when the request asked by key."""

    @property
    def fallbacks(self) -> Sequence[str | None]:
        """Each row's level that stood in for an unseen key."""
        return self.found.fallbacks if self.found else [None] * len(self.rows)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A request's rows until they are scored, and what its row in the log needs."""

    rows: Rows
    at: float
    heard: Heard
    started: float
    endpoint: str | None
    found: Found | None
    scored: asyncio.Future[Scored]


class Scorer:
    """Scores rows by one model version and logs them.

    Requests that the event loop has at hand in one turn are scored together: one run of the model instead of many. No
    request waits for others that may come.
    """

    def __init__(self, who: Identity, model: LoadedModel, log: PredictionLog, lookup: KeyLookup | None = None) -> None:
        self.who, self.model, self.log, self.lookup = who, model, log, lookup
        self.decoder = Decoder(model.schema, fields=lookup.fields if lookup else None)
        self.announced: float | None = None
        """The newest event time that was told, under the event clock."""
        self._waiting: list[_Waiting] = []
        log.before_mark = self.settle

    async def answer(self, body: bytes, heard: Heard, endpoint: str | None = None) -> Scored:
        """Decode, look up, score and log; `endpoint` None: a prediction (see `tidegate.observations.Prediction`).

        Raises UserError for a fault of the request and PlatformError when the model failed; that is logged too.
        """
        started = time.perf_counter()
        request = self.decoder.decode(body)
        at = self.time(request.at)
        found = self.lookup.look_up(request.keys, at) if self.lookup and request.keys else None
        rows = self.decoder.rows.of_lists(found.rows) if found else request.rows
        return await self.score(rows, at, heard, started, endpoint, found)

    def score(
        self, rows: Rows, at: float, heard: Heard, started: float, endpoint: str | None = None,
        found: Found | None = None,
    ) -> asyncio.Future[Scored]:  # fmt: skip
        """Score and log rows in this turn of the event loop; `started`: when work on them began (``perf_counter``)."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self.settle)
        waiting = _Waiting(rows, at, heard, started, endpoint, found, loop.create_future())
        self._waiting.append(waiting)
        return waiting.scored

    def settle(self) -> None:
        """Score and log whatever waits; called once a turn, and before a mark is put into the log."""
        waiting, self._waiting = self._waiting, []
        if len(waiting) > 1:
            # one whose rows make the model fail must not fail the others
            with contextlib.suppress(Exception):
                return self._score(waiting)
        for one in waiting:
            if one.scored.done():
                continue
            try:
                self._score([one])
            except Exception as error:  # noqa: BLE001 - whatever it is, the request must get its answer
                one.scored.set_exception(error)
                self.log.record(one.heard, one.at, one.rows, None, _milliseconds(one), one.found, one.endpoint)

    def _score(self, waiting: Sequence[_Waiting]) -> None:
        """Run the model once for all of them, then log and tell each; PlatformError when it fails."""
        encoded = matrix([one.rows for one in waiting])
        packed, start = self.model.checked(encoded), 0
        scores: list[float] = packed.tolist()
        for one in waiting:
            own = slice(start, start := start + len(one.rows))
            self.log.record(one.heard, one.at, one.rows, packed[own], _milliseconds(one), one.found, one.endpoint)
            if not one.scored.done():
                one.scored.set_result(Scored(one.rows, encoded[own], scores[own], one.found))

    def time(self, at: float | None) -> float:
        """The request's own time: wall time, or its `at`, or the last that was announced."""
        if self.who.clock == "wall":
            return time.time()
        if at is None and self.announced is None:
            raise UserError("at", None, "the request's time: no time was announced yet")
        return at if at is not None else self.announced  # type: ignore[return-value]


def _milliseconds(one: _Waiting) -> float:
    return (time.perf_counter() - one.started) * 1000
