"""The controller's loop: see, decide (`reconcile`), write to the journal, make it so.

Nothing is done that was not written first, and what must be done follows from the journal's state alone. So a
controller that is killed at any instant goes on from where the journal ends.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from tidegate import runs
from tidegate.controller.announced import next_look
from tidegate.controller.clock import Clock
from tidegate.controller.evidence import looks_of
from tidegate.controller.feed import DAY, Feed
from tidegate.controller.mirror import Mirror
from tidegate.controller.reconcile import Ended, Ledger, Seen, command, reconcile, wanted_plan
from tidegate.controller.webhook import Sender
from tidegate.errors import Conflict, NotReady, PlatformError
from tidegate.journal import views
from tidegate.journal.events import Draft, canonical
from tidegate.journal.fold import ModelState, Run, fold
from tidegate.journal.store import Journal, verify
from tidegate.orchestrators.base import Orchestrator
from tidegate.release.plan import Plan, Regions, Split
from tidegate.release.stages import ENDED
from tidegate.spec import Model
from tidegate.targets.base import Observed, Target

logger = logging.getLogger(__name__)

TURN = 0.1
"""Seconds of wall time between two turns."""
EVERY = {"events": 4 * 3600.0, "wall": 60.0}
"""Event seconds between two moments at which triggers and the judge look."""
AT_ONCE = 24
"""Moments looked at in one turn, so that a turn stays short; the rest follows in the next."""


class MarkedTarget(Target, Protocol):
    """A target whose services can promise that they logged everything up to a time."""

    def mark(self, now: float) -> float:
        """The time up to which every running service has written its rows."""


class Batches(Protocol):
    """Runs scheduled batches; see `tidegate.serve.batch_jobs.LocalBatches`."""

    def end(self, started: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """How a batch that was written down as started ended, None while it is at work; starts it where it is not."""

    def stop(self, run: str) -> None:
        """End its process; the next `end` starts it again."""


class Controller:
    """One model's loop. `turn` does whatever is due; `run` turns until stopped."""

    def __init__(
        self, model: Model, journal: Journal, target: MarkedTarget, orchestrator: Orchestrator, clock: Clock,
        feed: Feed, mirror: Mirror | None = None,
        batches: Batches | None = None, alerts: Sender | None = None,
    ) -> None:  # fmt: skip
        self.model, self.journal, self.target, self.orchestrator = model, journal, target, orchestrator
        self.clock, self.feed, self.folder, self.mirror = clock, feed, feed.folder, mirror
        self.batches, self.alerts = batches, alerts
        events = journal.read(model.name)
        verify(events)
        self.state = fold(events, ModelState(model=model.name))
        self.looked = self.state.time
        self._stop = threading.Event()
        self._applying = ""
        self._submitted: set[str] = set()
        # what the policy was told of: others may have written later times since
        told = (self.state.trigger or {}).get("last_tick") or 0.0
        release = self.state.release
        feed.rebuild(told, release, looks_of(events, release["name"]) if release else ())

    # --- what the control server asks ---------------------------------------------------------------------------------

    def busy(self) -> list[str]:
        """Runs in flight and start-ups: what a replay may stand still for."""
        working = [f"run {run.name}" for run in self.state.running if not run.settled]
        working += [f"batch {batch['run']}" for batch in self._at_work()]
        return [*working, self._applying] if self._applying else working

    def status(self) -> Mapping[str, Any]:
        """The state as JSON."""
        shown = {"mlflow": self.mirror.status()} if self.mirror else {}
        return {**views.describe(self.state), "busy": self.busy(), "now": views.iso(self.clock.now()), **shown}

    # --- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Turn until `stop`; a turn that fails on the machine's account is tried again, anything else ends the loop."""
        try:
            while not self._stop.is_set():
                try:
                    self.turn()
                except (PlatformError, OSError) as error:
                    logger.error("turn failed, trying again: %s", error)
                    self._stop.wait(1.0)
                self._stop.wait(TURN)
        except BaseException:
            logger.exception("the loop ended")
            raise
        finally:
            if self.mirror:
                self.mirror.stop()

    def stop(self) -> None:
        """End `run` after the turn at hand."""
        self._stop.set()

    def turn(self) -> None:
        """See, decide, write, make it so.

        What happens between two looks happened, under the event clock, at the last one, and under the wall clock now.
        """
        self._catch_up()
        if self.mirror:
            self.mirror.follow(self.state)
        watermark = min(self.clock.now(), self.target.mark(self.clock.now()))
        self.feed.read()
        if self.clock.kind == "events":
            self.looked = max(self.looked, self.state.time)
            self._between(self.looked)
        for now in self._moments(watermark):
            self._look(now)
            self._make_it_so()
        if self.clock.kind == "wall":
            self._between(max(watermark, self.state.time))

    def _between(self, now: float) -> None:
        batch = next((end for started in self._at_work() if (end := self.batches.end(started))), None)  # type: ignore[union-attr]
        self._decide(Seen(now, ended=self._ended(), batch=batch))
        self._make_it_so()

    def _at_work(self) -> list[Mapping[str, Any]]:
        """The scheduled batch that has not ended, where this controller can run one."""
        batch = self.state.batch
        return [batch] if self.batches and batch and batch["ok"] is None else []

    def _moments(self, watermark: float) -> list[float]:
        """The moments of event time to look at, up to `watermark`, oldest first.

        Under the event clock every one is looked at, however late the turn, so that a replay decides the same again;
        while an announced event with release settings of its own lasts they are denser.
        Under the wall clock what was slept through is past: the newest moment counts, and the newest midnight.
        """
        every = EVERY[self.clock.kind]
        if self.clock.kind == "wall":
            newest = {watermark // every * every, watermark // DAY * DAY}
            return sorted(moment for moment in newest if moment > self.looked)
        found, now = list[float](), self.looked
        while len(found) < AT_ONCE and (now := next_look(self.model.spec, now, every)) <= watermark:
            found.append(now)
        return found

    def _look(self, now: float) -> None:
        evidence, events = self.feed.look(now, self.state.release, self.state.champion)
        self._decide(Seen(now, evidence, events))
        self.looked = now

    def _decide(self, seen: Seen) -> None:
        """Write what `reconcile` says; when another writer was first, read its events and decide again."""
        while True:
            try:
                return self._append(reconcile(self.model, self.state, seen))
            except Conflict:
                self._catch_up()

    def _ended(self) -> list[Ended]:
        found = []
        for run in self.state.running:
            if run.arguments is None:
                continue
            if run.name not in self._submitted:
                # whoever announced it may have died before it was submitted; a second submit is the first one's run
                self._hand_over(run.name, run.arguments)
            if ended := runs.ended(self.orchestrator, self.journal, self.model.name, run.name):
                found.append(ended)
        return found

    def _catch_up(self) -> None:
        """Read what others wrote: candidates by a run's register step, commands by a person."""
        self.state = fold(self.journal.read(self.model.name, self.state.seq), self.state)

    def _append(self, drafts: list[Draft]) -> None:
        self.state = fold(self.journal.append(self.model.name, drafts, self.state.seq), self.state)

    # --- making it so -------------------------------------------------------------------------------------------------

    def _make_it_so(self) -> None:
        for run in self.state.running:
            if run.arguments is None:
                self._submit(run)
        self._apply()
        self._send_alerts()

    def _send_alerts(self) -> None:
        """Send what was written down and not yet sent; what does not arrive is sent at a later turn."""
        waiting = {key: known["alert"] for key, known in self.state.alerts.items() if not known["sent"]}
        if waiting and self.alerts and self.alerts.send(list(waiting.values())):
            self._append([Draft("monitor.alerted", max(self.looked, self.state.time), {"keys": list(waiting)})])

    def _submit(self, run: Run) -> None:
        arguments = runs.arguments(self.model, self.state, self.folder, run.time, run.name, run.causes, run.mode)
        self._hand_over(run.name, arguments)
        data = {"run": run.name, "causes": run.causes, "by": "trigger", "arguments": arguments}
        self._append([Draft("trigger.started", max(self.looked, self.state.time), data)])

    def _hand_over(self, name: str, arguments: Mapping[str, str]) -> None:
        self.orchestrator.submit(Path(self.model.spec.pipeline.package), arguments, name)
        self._submitted.add(name)

    def _apply(self) -> None:
        plan = wanted_plan(self.model, self.state)
        if plan is None:
            return
        before = self.target.observe()
        if matches(plan, before):
            # a controller that died between the change and its note leaves the note to the next one
            return self._note_traffic(before, self.state.traffic)
        self._applying = f"traffic of {plan.release or plan.model}"
        try:
            self.target.apply(plan)
        except NotReady as error:
            if not challenges(self.state, error.version):
                raise
            self._challenger_failed(error.version, str(error))
            return
        finally:
            self._applying = ""
        self._note_traffic(self.target.observe(), traffic_of(before))

    def _note_traffic(self, observed: Observed, known: Mapping[str, Any] | None) -> None:
        """Write down how traffic goes, unless it is known."""
        if canonical(traffic_of(observed)) != canonical(known):
            self._append([Draft("serve.traffic", max(self.looked, self.state.time), traffic_of(observed))])

    def _challenger_failed(self, version: str, error: str) -> None:
        """A challenger that does not start has its verdict; a champion that does not is our trouble."""
        logger.error("plan not applied: %s", error)
        ledger = Ledger(self.state, self.model.name)
        told = {"command": "challenger_failed", "reason": error, "version": version}
        command(ledger, told, max(self.looked, self.state.time))
        self._append(ledger.drafts)


def challenges(state: ModelState, version: str) -> bool:
    """Whether it is the challenger of a release that has not ended."""
    release = state.release
    if release is None or release["state"] in ENDED:
        return False
    return version in [challenger["name"] for challenger in release["challengers"]]


def traffic_of(observed: Observed) -> dict[str, Any]:
    """How traffic goes, as the data of a serve.traffic event; what only some releases have stands where there is."""
    more = {"sticky": observed.sticky, "merge": observed.merge, "regions": observed.regions}
    told = {name: asdict(value) if isinstance(value, Regions) else value for name, value in more.items() if value}
    return {"release": observed.release, "split": observed.split, "mirrors": observed.mirrors, **told}


def matches(plan: Plan, observed: Observed) -> bool:
    """Whether the target already is what `plan` asks for."""
    ready = {running.version: running.ready for running in observed.running}
    enough = all(ready.get(backend.version, 0) >= backend.replicas for backend in plan.backends)
    extra = set(ready) - {backend.version for backend in plan.backends}
    return enough and not extra and _traffic(plan) == _traffic(observed)


def _traffic(of: Plan | Observed) -> tuple[Any, ...]:
    """What must be equal: splits as sets of rounded weights, mirrors as a set, the rest as it is."""
    regions = of.regions and (of.regions.header, [(name, _rounded(split)) for name, split in of.regions.splits])
    return _rounded(of.split), set(of.mirrors), of.release, of.sticky, of.merge, regions


def _rounded(split: Split) -> dict[str, float]:
    return {version: round(weight, 6) for version, weight in split}
