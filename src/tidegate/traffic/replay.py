"""Questions as live traffic: sent by the clock, labels when they were known, event time announced.

Requests are sent open loop at the stated rate: request k is due k/rate seconds after the start, whatever the answers
do. Event time is that of the request which is due; it is announced once everything up to it has been answered and
labelled, and the replay stands still while a run or a start-up works, for as long as that takes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any
from urllib.parse import urlsplit

import httpx

from tidegate.traffic.openloop import Answer, OpenLoop
from tidegate.traffic.questions import Question

HERALD = 0.05
"""Seconds between two announcements of event time."""


def body_of(question: Question) -> bytes:
    """A question as ``POST /predict`` takes it."""
    return json.dumps({"rows": [question.features], "at": question.at}).encode()


def label_of(question: Question, request_id: str) -> dict[str, Any]:
    """What became of a question, as ``POST /labels`` takes it."""
    return {
        "request_id": request_id,
        "value": question.value,
        "outcome": question.outcome,
        "time": question.label_time,
    }


@dataclass
class Tally:
    """Everything that was sent and everything that came back."""

    sent: int = 0
    answered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    models: Counter[str] = field(default_factory=Counter)
    labels: int = 0
    stood_still: float = 0.0
    seconds: float = 0.0
    pauses: list[tuple[float, float]] = field(default_factory=list)
    """Wall times (seconds since the epoch) between which the replay stood still."""

    @property
    def failed(self) -> int:
        """Requests without an answer of status 200."""
        return self.sent - self.statuses[200]

    def latency(self, quantile: float) -> float:
        """A quantile of the latency in milliseconds, from the scheduled time."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else 0.0


class Replay:
    """One pass over `questions`.

    `watch` is called at every announcement with event time and the share that was sent; while it answers true, or the
    controller is busy or slow to hear the time, the replay stands still. `most`: it also waits while more requests than
    that are unanswered, and whenever time is told; None: it never does, and a machine that is too slow fails some.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        gateway: str,
        token: str,
        rate: float,
        watch: Callable[[float, float], bool] = lambda now, done: False,
        most: int | None = None,
    ) -> None:
        self.questions, self.rate, self.watch, self.most = questions, rate, watch, most
        self.tally = Tally()
        place = urlsplit(gateway)
        self._host, self._port = place.hostname or "", place.port or 80
        self._control = httpx.AsyncClient(
            base_url=gateway, headers={"authorization": f"Bearer {token}"}, timeout=30.0, trust_env=False
        )
        self._ids: dict[int, str] = {}
        self._told = 0
        self._ended = False
        self._by_label = sorted(range(len(questions)), key=lambda i: (questions[i].label_time, i))

    async def run(self) -> Tally:
        """Send everything; returns the tally when the last answer and label is through."""
        self._loop = OpenLoop(self._host, self._port, self._take)
        started = time.monotonic()
        asked = takewhile(lambda _: not self._ended, enumerate(self.questions))
        schedule = ((number / self.rate, "/predict", body_of(q)) for number, q in asked)
        sending = asyncio.create_task(self._loop.run(schedule))
        while not sending.done():
            await asyncio.sleep(HERALD)
            if self.most is None:
                await self._announce(self._reached())
            else:
                await self._announce_at_rest(self.most)
        await sending
        await self._announce(self._reached())
        self._loop.close()
        self.tally.sent, self.tally.seconds = self._loop.sent, time.monotonic() - started
        await self._control.aclose()
        return self.tally

    def end(self) -> None:
        """Send nothing more: `run` returns when what was sent is answered."""
        self._ended = True
        self._loop.drop()

    def _take(self, answer: Answer) -> None:
        tally = self.tally
        tally.answered += 1
        tally.statuses[answer.status] += 1
        tally.latencies.append(answer.latency)
        if answer.status == 200:
            self._ids[int(str(answer.tag))] = answer.request_id
            tally.models[answer.model] += 1

    def _reached(self) -> float:
        """Event time before that of the first request that is not answered yet; many share a minute."""
        oldest = self._loop.oldest_open()
        position = self._loop.sent if oldest is None else int(str(oldest))
        if position == len(self.questions):
            return self.questions[-1].at
        return self.questions[position].at - 1 if position else 0.0

    async def _announce_at_rest(self, most: int) -> None:
        """Tell the time while nothing is sent, so that a slow answer to it does not let event time run away."""
        self._loop.pause()
        while self._loop.in_flight > most and not self._ended:
            await asyncio.sleep(HERALD)
        await self._announce(self._reached())
        self._loop.resume()

    async def _announce(self, now: float) -> None:
        """Tell labels and time up to `now`; stand still while somebody works, or takes long to hear it."""
        if now <= 0:
            return
        hearing = asyncio.ensure_future(self._busy(now))
        await asyncio.wait([hearing], timeout=HERALD)
        if hearing.done() and not hearing.result():
            return
        self._loop.pause()
        stopped = time.time()
        busy = await hearing
        while busy and not self._ended:
            await asyncio.sleep(HERALD)
            busy = await self._busy(self._reached())
        self.tally.pauses.append((stopped, time.time()))
        self.tally.stood_still += self.tally.pauses[-1][1] - stopped
        self._loop.resume()

    async def _busy(self, now: float) -> bool:
        await self._tell_labels(now)
        answer = await self._control.post("/clock", json={"now": now})
        if answer.status_code >= 500:
            return True  # nobody is there to tell the time to: wait for the next controller
        answer.raise_for_status()
        return self.watch(now, self._loop.sent / len(self.questions)) or bool(answer.json()["busy"])

    async def _tell_labels(self, now: float) -> None:
        """Send every label that is due by `now`, in batches; a batch that is not taken is sent again."""
        due: list[dict[str, Any]] = []
        while self._told < len(self._by_label):
            number = self._by_label[self._told]
            question = self.questions[number]
            if question.label_time > now:
                break
            self._told += 1
            if number in self._ids:
                due.append(label_of(question, self._ids.pop(number)))
        for start in range(0, len(due), 2000):
            await self._deliver(due[start : start + 2000])

    async def _deliver(self, labels: list[dict[str, Any]]) -> None:
        body = json.dumps({"labels": labels})
        while True:
            answer = await self._control.post("/labels", content=body)
            if answer.status_code == 200:
                self.tally.labels += len(labels)
                return
            if answer.status_code < 500:
                answer.raise_for_status()
            await asyncio.sleep(HERALD)
