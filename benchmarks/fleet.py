"""Places that answer (a gateway, edges), asked all the time: which digest each answered with, and when."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

DIGEST = "x-tidegate-digest"


@dataclass
class Place:
    """One address. `answers` holds (moment, digest) of each answer with 200; `other` counts everything else."""

    name: str
    port: int
    host: str = "127.0.0.1"
    path: str = "/predict"
    answers: list[tuple[float, str]] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)

    def ask(self, body: bytes) -> None:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request("POST", self.path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                self.answers.append((time.monotonic(), answer.headers[DIGEST]))
            else:
                self.other[str(answer.status)] += 1
        except (OSError, http.client.HTTPException) as error:
            self.other[type(error).__name__] += 1
        finally:
            connection.close()

    def newest(self) -> str:
        """The digest of the newest answer; empty before the first."""
        return self.answers[-1][1] if self.answers else ""

    def last(self, digest: str, since: float) -> float:
        """Seconds after `since` of the last answer with `digest`; 0 without one."""
        return max((at - since for at, found in self.answers if found == digest and at >= since), default=0.0)

    def first(self, digest: str, since: float) -> float:
        """Seconds after `since` of the first answer with `digest`; raises ValueError without one."""
        return min(at - since for at, found in self.answers if found == digest and at >= since)


@contextmanager
def asked(places: Sequence[Place], body: bytes, every: float) -> Iterator[None]:
    """Ask each of `places` about every `every` seconds, from one thread, while the block runs."""
    ending = threading.Event()

    def turn() -> None:
        due = time.monotonic()
        while not ending.is_set():
            for place in places:
                place.ask(body)
                due += every / len(places)
                ending.wait(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def status(port: int) -> dict[str, object]:
    """What an edge says of itself."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/status")
        return dict(json.loads(connection.getresponse().read()))
    finally:
        connection.close()


def until(good: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until `good`; the seconds that it took. Raises AssertionError after `seconds`."""
    began = time.monotonic()
    while not good():
        assert time.monotonic() < began + seconds, what
        time.sleep(0.02)
    return time.monotonic() - began
