"""``tidegate serve traffic``: a workload's own rows through the gateway of a running ``tidegate up``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tidegate.errors import UserError
from tidegate.journal.store import Journal, open_journal
from tidegate.spec import Model
from tidegate.state import token
from tidegate.targets.processes import Record, wait_until
from tidegate.traffic.questions import load, share_of
from tidegate.traffic.replay import Replay, Tally

Show = Callable[[float, float], None]
"""Called now and then with event time and the share that was sent."""
LAG = 86400.0
"""Event time by which the controller's looks may be behind."""
PATIENCE = 120.0
START_UP = 60.0
"""Seconds that the first version may take to answer."""
MOST = 20
"""Unanswered requests at which the replay waits: it is there to be learned from, not to find out what is too much."""
RUNNING = "the state folder of a `tidegate up --clock events` that runs"


@dataclass(frozen=True)
class Part:
    """What is played: questions in [since, until), seconds; a `share` of them by `seed`, at `rate` a second."""

    since: float
    until: float
    share: float
    seed: int
    rate: float


def play(model: Model, state: Path, part: Part, show: Callable[[], contextlib.AbstractContextManager[Show]]) -> Tally:
    """Send the questions and their labels, tell event time; returns when the last one is answered.

    Raises UserError where nothing runs on `state`, its clock is the wall's, or the workload has no rows then.
    """
    gateway, secret = gateway_of(state), token(state)
    _check_clock(gateway, secret)
    _wait_for_a_version(gateway)
    times = (datetime.fromtimestamp(moment, UTC) for moment in (part.since, part.until))
    asked = share_of(load(model.spec.workload, *times), part.share, part.seed)
    if not asked:
        raise UserError("--share", part.share, "a share that leaves something to ask")
    with show() as told, contextlib.closing(open_journal(state)) as journal:
        behind = _Behind(journal, model.name)

        def watch(now: float, done: float) -> bool:
            told(now, done)
            return behind(now)

        return asyncio.run(Replay(asked, gateway, secret, part.rate, watch, MOST).run())


class _Behind:
    """Whether the controller's looks are behind the time that was told, so that a replay had better wait for them.

    Each look writes to the journal; one that has not written for `PATIENCE` is not waited for.
    """

    def __init__(self, journal: Journal, model: str) -> None:
        self._journal, self._model = journal, model
        self._seq, self._time, self._moved = 0, 0.0, time.monotonic()

    def __call__(self, now: float) -> bool:
        """Whether to wait at event time `now`."""
        if events := self._journal.read(self._model, self._seq):
            self._seq, self._moved = events[-1].seq, time.monotonic()
            self._time = max(self._time, *(event.time for event in events))
        return now - self._time > LAG and time.monotonic() - self._moved < PATIENCE


def gateway_of(state: Path) -> str:
    """The address of the gateway that runs on a state folder."""
    record = state / "target" / "processes.json"
    if record.is_file():
        for process in Record(record).alive:
            if process.role == "gateway":
                return f"http://127.0.0.1:{process.port}"
    raise UserError(f"--state {state}", "no gateway runs", RUNNING)


def _check_clock(gateway: str, secret: str) -> None:
    """UserError unless event time can be told; telling the beginning of time moves no clock."""
    headers = {"authorization": f"Bearer {secret}"}
    answer = httpx.post(f"{gateway}/clock", json={"now": 1.0}, headers=headers, timeout=30, trust_env=False)
    if answer.status_code == 409:
        raise UserError("--state", "an `up` on the wall's clock", RUNNING)
    if answer.status_code != 200:
        raise UserError("--state", f"/clock answers {answer.status_code}", RUNNING)


def _wait_for_a_version(gateway: str) -> None:
    with httpx.Client(base_url=gateway, trust_env=False) as client:
        if not wait_until(lambda: client.get("/readyz").status_code == 200, START_UP, every=0.1):
            raise UserError("--state", f"no version that answers after {START_UP:.0f} s", "one that `run` registered")


def report(tally: Tally) -> dict[str, Any]:
    """The tally as a JSON document; latencies in milliseconds, from the due time."""
    return {
        "sent": tally.sent,
        "answered": tally.statuses[200],
        "failed": tally.failed,
        "labels": tally.labels,
        "models": dict(sorted(tally.models.items())),
        "seconds": round(tally.seconds, 1),
        "stood_still": round(tally.stood_still, 1),
        "p50_ms": round(tally.latency(0.5), 1),
        "p99_ms": round(tally.latency(0.99), 1),
    }


def text(document: dict[str, Any]) -> str:
    """The report for the terminal."""
    models = ", ".join(f"{name} {count}" for name, count in document["models"].items())
    return (
        f"{document['sent']} sent, {document['answered']} answered, {document['failed']} failed, "
        f"{document['labels']} labels told\nanswered by {models or 'nobody'}\n"
        f"{document['seconds']} s, of which it stood still {document['stood_still']} s for runs and start-ups; "
        f"p50 {document['p50_ms']} ms, p99 {document['p99_ms']} ms"
    )


@contextlib.contextmanager
def bar(quiet: bool) -> Iterator[Show]:
    """A progress bar with the event date on stderr; nothing when `quiet`."""
    if quiet:
        yield lambda now, done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=1.0)

        def show(now: float, done: float) -> None:
            date = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
            progress.update(task, completed=done, description=date)

        yield show
