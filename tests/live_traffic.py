"""Flights as open-loop traffic through a gateway, in a thread: it goes on whatever the controller behind it does."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any
from urllib.parse import urlsplit

import httpx

from tidegate.traffic.openloop import Answer, OpenLoop
from tidegate.traffic.replay import body_of, label_of

HERALD = 0.05
"""Seconds between two announcements of event time."""


class Traffic(threading.Thread):
    """Sends `questions` at `rate` a second until `stop`; tells labels and event time as they fall due.

    rate: may be changed meanwhile.
    answers: everything that came back. refused: statuses other than 200 of the control paths; 0 is no answer. told:
    labels that were taken.
    """

    def __init__(self, questions: Sequence[Any], gateway: str, token: str, rate: float = 100.0) -> None:
        super().__init__(daemon=True)
        self.questions, self.gateway, self.token, self.rate = questions, gateway, token, rate
        self.answers: list[Answer] = []
        self.refused: Counter[int] = Counter()
        self.told = self.sent = 0
        self.fault: BaseException | None = None
        self._ids: dict[int, str] = {}
        self._stopping = False

    def run(self) -> None:
        try:
            asyncio.run(self._send())
        except BaseException as fault:  # noqa: BLE001 - raised again by whoever joins
            self.fault = fault

    def stop(self) -> None:
        """Send nothing more; returns when what was sent is answered."""
        self._stopping = True
        self.join(60)
        if self.fault:
            raise self.fault

    def models(self, since: int = 0) -> Counter[str]:
        """How often each version answered, from an answer on."""
        return Counter(answer.model.rpartition("@")[2] for answer in self.answers[since:])

    async def _send(self) -> None:
        place = urlsplit(self.gateway)
        self._loop = OpenLoop(place.hostname or "", place.port or 80, self._take)
        headers = {"authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(base_url=self.gateway, headers=headers, timeout=30, trust_env=False) as control:
            sending = asyncio.create_task(self._loop.run(self._schedule(), ahead=20))
            while not sending.done():
                await asyncio.sleep(HERALD)
                await self._announce(control)
            await sending
        self.sent = self._loop.sent
        self._loop.close()

    def _schedule(self) -> Iterator[tuple[float, str, bytes]]:
        at = 0.0
        for question in takewhile(lambda _: not self._stopping, self.questions):
            yield at, "/predict", body_of(question)
            at += 1 / self.rate

    def _take(self, answer: Answer) -> None:
        self.answers.append(answer)
        if answer.status == 200:
            self._ids[int(answer.tag)] = answer.request_id

    async def _announce(self, control: httpx.AsyncClient) -> None:
        """Event time up to which all is answered: just before the oldest request that is open, or to be sent."""
        oldest = self._loop.oldest_open()
        position = min(self._loop.sent if oldest is None else int(oldest), len(self.questions) - 1)
        now = self.questions[position].at - 0.001
        due = [number for number in self._ids if self.questions[number].label_time <= now]
        labels = [label_of(self.questions[number], self._ids[number]) for number in due]
        if labels and not await self._post(control, "/labels", {"labels": labels}):
            return
        for number in due:
            del self._ids[number]
        self.told += len(due)
        await self._post(control, "/clock", {"now": now})

    async def _post(self, control: httpx.AsyncClient, path: str, document: Any) -> bool:
        try:
            status = (await control.post(path, content=json.dumps(document))).status_code
        except httpx.TransportError:
            status = 0
        if status != 200:
            self.refused[status] += 1
        return status == 200
