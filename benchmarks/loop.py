"""New data on disk -> 100 % of traffic on the retrained model: flights, the committed Model file, nothing skipped.

v1, trained on January to June, serves. All flights from July on are asked about, 500 a second, open loop through the
gateway, labels there when due, event time compressed. The stretch begins with the first decision of the platform's own
trigger to retrain and ends when all traffic is on the version that it brought.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.loop_table import MODEL, RATE, Played, told
from benchmarks.phases import decision, is_over, story
from benchmarks.results import Result, say
from demo.story import command, rows_in_log, serving, up
from flights.requests import Question, load_traffic, questions
from tidegate.journal.events import Event
from tidegate.journal.store import Journal, open_journal
from tidegate.journal.views import is_quiet, line
from tidegate.orchestrators.local import LocalOrchestrator
from tidegate.spec import load_model
from tidegate.state import token
from tidegate.targets.processes import wait_until
from tidegate.traffic.replay import Replay, Tally

SINCE, UNTIL = datetime(2013, 7, 1, 4, tzinfo=UTC), datetime(2013, 9, 1, 4, tzinfo=UTC)
"""Traffic that there is; it ends when the story does, long before `UNTIL`."""


class Watch:
    """Reads the journal as it grows and ends the replay when the decided run is through."""

    def __init__(self, journal: Journal, model: str) -> None:
        self._journal, self._model = journal, model
        self.events: list[Event] = []
        self.replay: Replay | None = None
        self.answered_before = 0

    def __call__(self, now: float, done: float) -> bool:
        """As `Replay.watch`; nothing of ours stands in the way."""
        for event in self._journal.read(self._model, self.events[-1].seq if self.events else 0):
            self.events.append(event)
            if not is_quiet(event):
                say(line(event)[:150])
        assert self.replay is not None
        if decision(self.events) is None:
            self.answered_before = len(self.replay.tally.latencies)
        elif is_over(self.events):
            self.replay.end()
        return False


def run(state: Path | None = None) -> Result:
    """Play it in a state folder that is thrown away, or in `state`, which must be new."""
    with tempfile.TemporaryDirectory(prefix="tidegate-loop-") as made:
        return told(_play(state or Path(made)))


def _play(state: Path) -> Played:
    name = load_model(MODEL).name
    say("v1 is trained (not counted)")
    command("run", str(MODEL), "--until", SINCE.isoformat(), "--state", str(state))
    asked = list(questions(load_traffic(SINCE, UNTIL)))
    with _runs_ended(state), up(MODEL, state) as gateway:
        serving(gateway)
        watch = Watch(open_journal(state), name)
        say(f"v1 serves; traffic starts, {RATE:g} requests a second")
        tally = asyncio.run(_replayed(asked, gateway, state, watch))
    try:
        found = story(watch.events, tally.pauses)
    except ValueError as error:
        raise SystemExit(f"loop: {error}") from None
    return Played(found, tally, watch.answered_before, rows_in_log(state))


async def _replayed(asked: Sequence[Question], gateway: str, state: Path, watch: Watch) -> Tally:
    watch.replay = Replay(asked, gateway, token(state), RATE, watch)
    return await watch.replay.run()


@contextmanager
def _runs_ended(state: Path) -> Iterator[None]:
    """After the block wait for runs that are still at work: a promotion lets the next one start."""
    yield
    orchestrator = LocalOrchestrator(state)
    names = [folder.name for folder in (state / "runs").iterdir()]
    wait_until(lambda: all(orchestrator.status(name).state != "running" for name in names), 120.0, every=0.2)
