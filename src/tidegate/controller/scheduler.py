"""Turns many models in few threads: each when it is woken or when its time has come, none twice at once.

A model that is idle costs nothing between two turns.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

logger = logging.getLogger(__name__)

LEAST = 0.1
"""Seconds between two turns of one model."""


class Scheduler:
    """`turn(name)` returns seconds until the model's next turn; whatever it raises ends the scheduler (`failed`)."""

    def __init__(self, turn: Callable[[str], float], threads: int) -> None:
        self._turn = turn
        self._pool = ThreadPoolExecutor(threads, "turn")
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self._at: dict[str, float] = {}
        """When each model's next turn is; what the heap says beside it is out of date."""
        self._turning: set[str] = set()
        self._again: set[str] = set()
        self._stopped = False
        self.failed: BaseException | None = None

    def wake(self, name: str, after: float = 0.0) -> None:
        """Let the next turn come `after` seconds from now at the latest; a model that is in its turn has another."""
        with self._changed:
            if name in self._turning:
                self._again.add(name)
                return
            self._push(name, time.monotonic() + after)

    def forget(self, name: str) -> None:
        """No more turns for it."""
        with self._changed:
            self._at.pop(name, None)
            self._again.discard(name)

    def run(self) -> None:
        """Until `stop`; then returns when every turn at hand has ended."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                while self._due and self._due[0][0] <= now:
                    at, _, name = heapq.heappop(self._due)
                    if self._at.get(name) == at:
                        del self._at[name]
                        self._turning.add(name)
                        self._pool.submit(self._one, name)
                self._changed.wait(self._due[0][0] - now if self._due else None)
        self._pool.shutdown(wait=True)

    def stop(self) -> None:
        """End `run`."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _push(self, name: str, at: float) -> None:
        if name not in self._at or at < self._at[name]:
            self._at[name] = at
            heapq.heappush(self._due, (at, next(self._order), name))
            self._changed.notify()

    def _one(self, name: str) -> None:
        try:
            after = self._turn(name)
        except BaseException as error:
            logger.exception("turn of %s", name)
            self.failed = error
            return self.stop()
        with self._changed:
            self._turning.discard(name)
            if after < 0:
                self._again.discard(name)
            else:
                self._push(name, time.monotonic() + (LEAST if name in self._again else max(after, LEAST)))
                self._again.discard(name)
