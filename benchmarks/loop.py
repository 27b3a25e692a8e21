"""New data on disk -> 100 % of traffic on the retrained model: flights, the committed Model file, nothing skipped.

v1, trained on January to June, serves. All flights from July on are asked about, 500 a second, open loop through the
gateway, labels there when due, event time compressed. The stretch begins with the first decision of the platform's own
trigger to retrain and ends when all traffic is on the version that it brought.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.phases import Story, decision, is_over, story
from benchmarks.results import Budget, Result, say
from demo.replay import Replay, Tally
from demo.story import ROOT, command, rows_in_log, serving, up
from flights.requests import load_traffic, questions
from tidegate.journal.events import Event
from tidegate.journal.store import Journal, open_journal
from tidegate.journal.views import is_quiet, iso, line
from tidegate.orchestrators.local import LocalOrchestrator
from tidegate.spec import load_model
from tidegate.state import token
from tidegate.targets.processes import wait_until

MODEL = ROOT / "k8s/models/flight-delay.yaml"
SINCE, UNTIL = datetime(2013, 7, 1, 4, tzinfo=UTC), datetime(2013, 9, 1, 4, tzinfo=UTC)
"""Traffic that there is; it ends when the story does, long before `UNTIL`."""
RATE = 500.0
COLUMNS = ("part", "seconds", "our work", "waiting for evidence", "event days")


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


@dataclass(frozen=True)
class Played:
    """What was seen: the story, the traffic in all, how many answers came before the stretch, rows in the log."""

    story: Story
    tally: Tally
    before: int
    rows: int

    def latency(self, quantile: float) -> float:
        """Milliseconds from the scheduled time, of the stretch's requests."""
        return Tally(latencies=self.tally.latencies[self.before :]).latency(quantile)


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
    return Played(story(watch.events, tally.pauses), tally, watch.answered_before, rows_in_log(state))


async def _replayed(asked: list, gateway: str, state: Path, watch: Watch) -> Tally:  # type: ignore[type-arg]
    watch.replay = Replay(asked, gateway, token(state), RATE, watch)
    return await watch.replay.run()


@contextmanager
def _runs_ended(state: Path) -> Iterator[None]:
    """After the block wait for runs that are still at work: a promotion lets the next one start."""
    yield
    orchestrator = LocalOrchestrator(state)
    names = [folder.name for folder in (state / "runs").iterdir()]
    wait_until(lambda: all(orchestrator.status(name).state != "running" for name in names), 120.0, every=0.2)


def told(played: Played) -> Result:
    """The result as table, budgets and notes."""
    found, tally = played.story, played.tally
    lost = tally.sent - tally.statuses[200]
    budgets = (
        Budget("new data to 100 % of traffic", "under 60 s", f"{found.seconds:.1f} s", found.seconds < 60),
        Budget("of it our work", "aim: under 20 s", f"{found.work:.1f} s", found.work < 20),
        Budget("requests lost", "0", f"{lost} of {tally.sent}", lost == 0 and played.rows == tally.sent),
    )
    title = "new data on disk -> 100 % of traffic on the retrained model"
    return Result("loop", title, COLUMNS, _rows(found), budgets, _notes(played), _figures(played))


def _rows(found: Story) -> list[tuple[str, ...]]:
    first, *others = found.phases
    steps = [(name, spent) for name, spent, _ in found.finished.data["steps"] if name != "register"]
    rest = first.seconds - sum(spent for _, spent in steps)
    parts = [(f"  {name}", f"{spent:.2f}", f"{spent:.2f}", "", "") for name, spent in steps]
    parts.append(("  register's event, kfp, processes", f"{rest:.2f}", f"{rest - first.waiting:.2f}", "", ""))
    total = ("in all", found.seconds, found.work, found.seconds - found.work, sum(p.event_days for p in found.phases))
    lines = [(p.name, p.seconds, p.work, p.waiting, p.event_days) for p in (first, *others)]
    rows = [(name, *(f"{value:.2f}" for value in values)) for name, *values in (*lines, total)]
    return [rows[0], *parts, *rows[1:]]


def _notes(played: Played) -> list[str]:
    found, tally = played.story, played.tally
    reason = found.decided.data["decision"]["reason"]
    inside = len(tally.latencies) - played.before
    return [
        f"verdict: {found.version} promoted, champion of all traffic; asked for by {reason}, at {iso(found.decided.time)}"
        f" of event time, {found.start - tally.pauses[0][0]:+.2f} s before the replay stood still for the run."
        if False
        else f"verdict: {found.version} was promoted; its run: {reason}, at {iso(found.decided.time)} of event time.",
        "how it was chosen: not at all. v1 trained up to 1 July, all flights from 1 July on, the first run that the "
        "committed file's triggers ask for. A run that the model gate refuses would be another story: none is told here.",
        f"traffic: {tally.sent} requests at {RATE:g}/s open loop, {tally.answered} answered, {tally.failed} failed, "
        f"{played.rows} rows in the log; {inside} of them in the stretch, p50 {played.latency(0.5):.1f} ms, "
        f"p99 {played.latency(0.99):.1f} ms from the scheduled time; {tally.labels} labels when due.",
        "our work: wall time in which the replay stood still because a run or a start-up was at work; waiting for "
        "evidence: wall time in which traffic flowed, set by the requests that the stages ask for and the 7 days.",
    ]


def _figures(played: Played) -> dict[str, object]:
    found, tally = played.story, played.tally
    return {
        "seconds": found.seconds,
        "work_seconds": found.work,
        "phases": [phase.__dict__ for phase in found.phases],
        "steps": found.finished.data["steps"],
        "sent": tally.sent,
        "answered": tally.answered,
        "failed": tally.failed,
        "rows": played.rows,
        "p50_ms": played.latency(0.5),
        "p99_ms": played.latency(0.99),
        "version": found.version,
        "cause": found.cause,
    }
