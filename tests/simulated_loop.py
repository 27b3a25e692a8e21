"""The real controller on drawn traffic: real journal, observation store, evidence and judge; target and runs in memory.

What a controller does to the world goes through a fuse, which can kill it before or after any single effect; the next
one starts on what is left: journal, observation store, target and orchestrator.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.controller.clock import EventClock
from tidegate.controller.feed import Feed
from tidegate.controller.loop import Controller
from tidegate.evaluate.gate import Policy, gate
from tidegate.journal.events import Draft, canonical
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.store import open_journal
from tidegate.observations import Prediction, SegmentWriter
from tidegate.orchestrators.memory import MemoryOrchestrator
from tidegate.spec import Model, load_model
from tidegate.targets.memory import MemoryTarget

ROOT = Path(__file__).resolve().parents[1]
START = 1372636800.0
"""2013-07-01T00:00:00Z."""
LOOK = 4 * 3600.0


def quick(**spec: Any) -> Model:
    """tests/models/quick.yaml with other parts of its spec, as in a Model file."""
    model = load_model(ROOT / "tests/models/quick.yaml")
    document = model.model_dump(mode="json", by_alias=True)
    return Model.model_validate({**document, "spec": {**document["spec"], **spec}})


def digest_of(version: str) -> str:
    return "sha256:" + hashlib.sha256(version.encode()).hexdigest()


def candidate(version: str, run: str = "", rows: int = 4000) -> dict[str, Any]:
    """The data of a register.candidate event whose gate was passed."""
    days = {"rows": [300] * 14, "sums": [300 * (0.001 if day % 2 else -0.001) for day in range(14)]}
    policy = asdict(Policy("log_loss", 0.002))
    measured = {"compared_with": "champion", "reference_distance": 1e-7, "days": days, "slices": {"origin": {}}}
    verdict = asdict(gate(Policy(**policy), measured))
    return {
        "run": run or f"run-{version}", "version": version, "digest": digest_of(version), "rows": rows,
        "feature_schema_digest": "sha256:f", "architecture_digest": "sha256:a", "train_until": START,
        "gate": {"policy": policy, "measurements": measured, **verdict}, "reason": verdict["reason"],
    }  # fmt: skip


class Killed(BaseException):
    """The controller's process is gone."""


@dataclass
class Fuse:
    """Kills at a share of all effects, half of the times before and half after the effect took place."""

    chance: float = 0.0
    seed: int = 0
    deaths: int = 0

    def __post_init__(self) -> None:
        self._draw = np.random.default_rng(self.seed)

    def burn(self, effect: Callable[[], Any]) -> Any:
        dies, late = self._draw.random() < self.chance, self._draw.random() < 0.5
        self.deaths += dies
        if dies and not late:
            raise Killed
        result = effect()
        if dies:
            raise Killed
        return result


@dataclass
class Once(Fuse):
    """Kills at the effect with this number, counted from 0, before or after it took place."""

    number: int = -1
    late: bool = False
    burnt: int = 0

    def burn(self, effect: Callable[[], Any]) -> Any:
        self.burnt += 1
        if self.burnt - 1 != self.number:
            return effect()
        self.deaths += 1
        if self.late:
            effect()
        raise Killed


class Fused:
    """`inner`, whose method `name` goes through the fuse."""

    def __init__(self, inner: Any, name: str, fuse: Fuse) -> None:
        self._inner, self._name, self._fuse = inner, name, fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._name:
            return found
        return lambda *args, **more: self._fuse.burn(lambda: found(*args, **more))


@dataclass
class World:
    """One model's life in `folder`.

    bad: versions that answer the opposite of what is right. tardy: share of labels whose time is in time, but that
    come a day late, and of labels whose time itself is after the deadline. alerts: what sends alerts.
    """

    folder: Path
    model: Model = field(default_factory=quick)
    fuse: Fuse = field(default_factory=Fuse)
    bad: frozenset[str] = frozenset()
    per_look: int = 160
    tardy: float = 0.0
    seed: int = 0
    alerts: Any = None

    def __post_init__(self) -> None:
        self.journal = open_journal(self.folder, create=True)
        self.target, self.orchestrator = MemoryTarget(), MemoryOrchestrator()
        self.writer = SegmentWriter(self.folder / "observations" / "predictions", "services", background=False)
        self.now, self.asked, self.made = START, 0, 0
        self._due: list[tuple[float, dict[str, Any]]] = []

    def fork(self, folder: Path, **changed: Any) -> World:
        """This life copied to `folder`, with a controller of its own, to go on differently."""
        shutil.copytree(self.folder, folder)
        other = replace(self, **{"fuse": Fuse(), **changed, "folder": folder})
        for name in ("target", "orchestrator", "now", "asked", "made", "_due"):
            setattr(other, name, deepcopy(getattr(self, name)))
        other.start()
        return other

    def start(self) -> None:
        """A new controller, on what the last one left."""
        journal, target = Fused(self.journal, "append", self.fuse), Fused(self.target, "apply", self.fuse)
        runs = Fused(self.orchestrator, "submit", self.fuse)
        events = self.journal.read(self.model.name)
        clock = EventClock(max((event.time for event in events), default=0.0))
        self.clock, self.feed = clock, Feed(self.folder, self.model)
        alerts = Fused(self.alerts, "send", self.fuse) if self.alerts else None
        self.controller = Controller(self.model, journal, target, runs, clock, self.feed, alerts=alerts)

    def hand_in(self, version: str) -> None:
        """A person's run that ends with a candidate."""
        self.made += 1
        run = f"hand-{version}"
        started = {"run": run, "causes": ["manual"], "by": "person", "arguments": {}}
        self._write(Draft("trigger.started", self.now, started))
        self._register(version, run)
        self._write(
            Draft("trigger.finished", self.now, {"run": run, "ok": True, "rows": 4000, "steps": [], "error": ""})
        )

    def looks(self, count: int) -> None:
        """Traffic, labels and turns for `count` looks of event time."""
        for _ in range(count):
            self._end_runs()
            self._traffic()
            self.now += LOOK
            self._settle()

    def until(self, reached: Callable[[ModelState], Any], looks: int = 120) -> ModelState:
        """Go on until the state is as asked for; fails when it is not within `looks`."""
        for _ in range(looks):
            self.looks(1)
            if reached(self.state):
                return self.state
        raise AssertionError(f"not reached in {looks} looks: {self.controller.status()}")

    @property
    def state(self) -> ModelState:
        """The journal folded."""
        return fold(self.journal.read(self.model.name))

    def told(self) -> list[tuple[str, float, str]]:
        """The journal without the machine's clock and the folder."""
        events = self.journal.read(self.model.name)
        return [(event.kind, event.time, canonical(event.data).replace(str(self.folder), "")) for event in events]

    def _settle(self) -> None:
        """Turn until nothing more is written; a controller that dies is replaced."""
        before = -1
        while True:
            try:
                self._deliver()
                self.clock.announce(self.now)
                self.controller.turn()
                if (seq := self.controller.state.seq) == before:
                    return
                before = seq
            except Killed:
                self._replace()

    def _replace(self) -> None:
        try:
            self.start()
        except Killed:  # pragma: no cover - starting has no effect
            raise AssertionError("a start-up wrote something") from None

    def _end_runs(self) -> None:
        for run in [run for run in self.state.running if run.name in self.orchestrator.submitted]:
            self.made += 1
            self._register(f"v{self.made}", run.name)
            self.orchestrator.finish(run.name)

    def _register(self, version: str, run: str) -> None:
        self._write(Draft("register.candidate", self.now, candidate(version, run)))

    def _write(self, draft: Draft) -> None:
        self.journal.append(self.model.name, [draft], self.state.seq)

    def _traffic(self) -> None:
        """Draw one look's requests: the same ones, whatever happens to a controller."""
        draw, seen = np.random.default_rng((self.seed, int(self.now))), self.target.observe()
        at = np.sort(draw.uniform(self.now, self.now + LOOK, self.per_look))
        for time, arm, chance, noise, truth in zip(at, *draw.random((4, self.per_look)), strict=True):
            self.asked += 1
            right = chance if truth < chance else 1 - (1 - chance)
            for version, share, answered_by in answers(seen, arm):
                score = 1 - right if answered_by in self.bad else min(1.0, max(0.0, right + 0.02 * (noise - 0.5)))
                self.writer.append(
                    Prediction(
                        f"q{self.asked}/0", float(time), 0.0, answered_by, digest_of(answered_by), version, share,
                        seen.release or None, float(score), False, 5.0, [],
                    )
                )  # fmt: skip
            label = {"request_id": f"q{self.asked}", "value": float(truth < chance), "outcome": "observed"}
            told = float(time) + 3600 * (2 + 6 * noise + 30 * (noise > 1 - self.tardy))
            comes = told + 24 * 3600 * (noise < self.tardy)
            self._due.append((comes, {**label, "time": told}))
        self.writer.flush()

    def _deliver(self) -> None:
        labels = [label for time, label in self._due if time <= self.now]
        if labels:
            self.feed.take_labels(json.dumps({"labels": labels}).encode())
            self._due = [(time, label) for time, label in self._due if time > self.now]


def answers(seen: Any, draw: float) -> Iterator[tuple[str, float, str]]:
    """(arm, propensity, answering version) of a request and its copies."""
    total = 0.0
    for version, share in seen.split:
        total += share
        if draw < total or version == seen.split[-1][0]:
            yield version, share, version
            break
    else:
        return
    for copy in seen.mirrors:
        yield version, share, copy
