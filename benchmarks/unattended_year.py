"""A year of flights in event time: the real controller and pipeline on one side, retraining by hand on the other."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.judge_flights import Floats, times_and_labels
from benchmarks.results import say
from flights.requests import load_traffic
from flights.workload import flight_delay
from tidegate import runs
from tidegate.controller.clock import EventClock
from tidegate.controller.feed import Feed
from tidegate.controller.loop import EVERY, Controller
from tidegate.journal.events import Event
from tidegate.journal.store import open_journal
from tidegate.observations import Prediction, SegmentWriter
from tidegate.orchestrators.base import RunStatus
from tidegate.orchestrators.local import LocalOrchestrator
from tidegate.serve.loaded import load_model as load_served
from tidegate.spec import Model
from tidegate.state import prepare
from tidegate.steps import read_records
from tidegate.targets.memory import MemoryTarget
from tidegate.train.model_file import folder_name

SINCE, UNTIL = datetime(2013, 3, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC)
MONTHS = tuple(datetime(2013, month, 1, tzinfo=UTC) for month in range(4, 13))
LOOK = EVERY["events"]
BATCH = 5_000
"""Labels a request; a body holds 1 MiB at most."""


@dataclass(frozen=True)
class Traffic:
    """Every flight of the year in order of its prediction time; label nan: cancelled, then known at `told`."""

    rows: Any
    """A polars frame with the features as served."""
    time: Floats
    told: Floats
    label: Floats

    def features(self) -> list[list[Any]]:
        """Each request's features as they are logged."""
        names = [feature.name for feature in flight_delay.features]
        return [list(row) for row in self.rows.select(names).iter_rows()]


def traffic() -> Traffic:
    """The flights of `SINCE` to `UNTIL`."""
    rows = load_traffic(SINCE, UNTIL)
    return Traffic(rows, *times_and_labels(rows))


class Seeded:
    """The local orchestrator, whose runs train with a stated seed; CPU-seconds are kept by run."""

    def __init__(self, state: Path, seed: int) -> None:
        self._inner, self._seed, self._state = LocalOrchestrator(state), seed, state
        self.names: list[str] = []

    def submit(self, package: Path, arguments: Mapping[str, str], key: str) -> str:
        """As `tidegate.orchestrators.base.Orchestrator`."""
        settings = {**json.loads(arguments["settings"]), "seed": self._seed}
        run = self._inner.submit(package, {**arguments, "settings": json.dumps(settings, sort_keys=True)}, key)
        if run not in self.names:
            self.names.append(run)
        return run

    def status(self, run: str) -> RunStatus:
        """As `tidegate.orchestrators.base.Orchestrator`."""
        return self._inner.status(run)

    def stop(self, run: str) -> None:
        """As `tidegate.orchestrators.base.Orchestrator`."""
        self._inner.stop(run)

    @property
    def cpu(self) -> float:
        """CPU-seconds of the steps of every run, in all."""
        return sum(one.cpu_seconds for run in self.names for one in read_records(self._state, run))


class Scores:
    """Every request's score by each version that was ever served, [N] by its folder."""

    def __init__(self, asked: Traffic) -> None:
        self._asked, self._known = asked, dict[Path, Floats]()

    def of(self, folder: Path) -> Floats:
        """What the model in `folder` answers; loaded, checked and worked out once."""
        if folder not in self._known:
            model = load_served(folder)
            encoded = model.schema.encode_frame(self._asked.rows)
            self._known[folder] = np.array(model.score(encoded), np.float64)
        return self._known[folder]


def run_by_hand(model: Model, state: Path, orchestrator: Seeded, moment: float) -> Path:
    """One run, waited for and written to the journal; returns the folder of the model that it trained."""
    journal = open_journal(state, create=True)
    run = runs._announce(model, journal, state, moment)
    orchestrator.submit(Path(model.spec.pipeline.package), run.arguments, run.name)
    while (status := orchestrator.status(run.name)).state == "running":
        time.sleep(0.1)
    if status.state == "failed":
        raise SystemExit(f"run {run.name} failed: {status.error}")
    runs._close(model, journal, orchestrator, run.name, moment)
    (found,) = (state / "runs" / run.name / "root").glob("*/train/*/model.onnx")
    return found.parent


class Hand:
    """v1 and, on the first of each month, a new stateless version that answers everything at once."""

    def __init__(self, state: Path, model: Model, asked: Traffic, seed: int) -> None:
        self.state, self.model, self.asked = prepare(state), runs.with_mode(model, "stateless"), asked
        self.orchestrator = Seeded(self.state, seed)

    def play(self) -> tuple[Floats, Floats, float]:
        """Scores of v1, of the month's own version, and CPU-seconds of the runs after the first."""
        scores = Scores(self.asked)
        never = scores.of(run_by_hand(self.model, self.state, self.orchestrator, SINCE.timestamp()))
        first, monthly = self.orchestrator.cpu, never.copy()
        for month in MONTHS:
            folder = run_by_hand(self.model, self.state, self.orchestrator, month.timestamp())
            later = self.asked.time >= month.timestamp()
            monthly[later] = scores.of(folder)[later]
        return never, monthly, self.orchestrator.cpu - first


@dataclass
class Loop:
    """The platform's own year; `events` is its journal, `cpu` the CPU-seconds of its runs after the first."""

    state: Path
    model: Model
    asked: Traffic
    seed: int
    events: list[Event] = field(default_factory=list)
    cpu: float = 0.0

    def __post_init__(self) -> None:
        self.state = prepare(self.state)
        self.target, self.orchestrator = MemoryTarget(), Seeded(self.state, self.seed)
        self._writer = SegmentWriter(self.state / "observations" / "predictions", "answers", background=False)
        self._scores, self._features = Scores(self.asked), self.asked.features()
        self._served = np.full(len(self.asked.time), np.nan)
        self._draw = np.random.default_rng(self.seed).random(len(self.asked.time))
        self._by_label, self._told = np.argsort(self.asked.told, kind="stable"), 0

    def play(self) -> Floats:
        """Go through the year, look by look; returns the score that each request's user got."""
        run_by_hand(self.model, self.state, self.orchestrator, SINCE.timestamp())
        first = self.orchestrator.cpu
        journal = open_journal(self.state)
        self.clock, self.feed = EventClock(SINCE.timestamp()), Feed(self.state, self.model)
        self.controller = Controller(
            self.model,
            journal,
            self.target,
            self.orchestrator,
            self.clock,
            self.feed,  # type: ignore[arg-type]
        )
        for start in np.arange(SINCE.timestamp(), UNTIL.timestamp(), LOOK):
            self._settle(float(start))
            self._answer(float(start), float(start) + LOOK)
            self._tell(float(start) + LOOK)
        self._settle(UNTIL.timestamp())
        self.events = journal.read(self.model.name)
        self.cpu = self.orchestrator.cpu - first
        return self._served

    def _settle(self, now: float) -> None:
        """Turn until nothing more is written and no run is in flight: event time stands still for runs."""
        self.clock.announce(now)
        before = -1
        while self.controller.state.seq != before or self.controller.busy():
            before = self.controller.state.seq
            self.controller.turn()
            if self.controller.busy():
                time.sleep(0.05)
        if now % (30 * 86400) < LOOK:
            champion = self.controller.state.champion
            say(f"unattended: {datetime.fromtimestamp(now, UTC):%Y-%m-%d}, {champion.version if champion else '-'}")

    def _answer(self, start: float, end: float) -> None:
        from tests.simulated_loop import answers

        seen = self.target.observe()
        digests = {running.version: running.digest for running in seen.running}
        scores = {version: self._scores.of(self._folder(digest)) for version, digest in digests.items()}
        first, last = np.searchsorted(self.asked.time, (start, end))
        for number in range(first, last):
            for arm, share, by in answers(seen, self._draw[number]):
                score = float(scores[by][number])
                if arm == by:
                    self._served[number] = score
                self._writer.append(
                    Prediction(
                        f"q{number}/0", float(self.asked.time[number]), 0.0, by, digests[by], arm, share,
                        seen.release or None, score, False, 5.0, self._features[number],
                    )
                )  # fmt: skip
        self._writer.flush()

    def _folder(self, digest: str) -> Path:
        return self.state / "models" / folder_name(digest)

    def _tell(self, now: float) -> None:
        """Labels that are known by `now`, as `POST /labels` takes them."""
        until = int(np.searchsorted(self.asked.told[self._by_label], now, side="right"))
        due = [self._label(int(number)) for number in self._by_label[self._told : until]]
        for at in range(0, len(due), BATCH):
            self.feed.take_labels(json.dumps({"labels": due[at : at + BATCH]}).encode())
        self._told = until

    def _label(self, number: int) -> dict[str, Any]:
        value = float(self.asked.label[number])
        told = {"request_id": f"q{number}", "time": float(self.asked.told[number])}
        if np.isnan(value):
            return {**told, "value": None, "outcome": "cancelled"}
        return {**told, "value": value, "outcome": "observed"}
