"""One Model object under the operator: the same controller as on a laptop, and what is shown of it on the cluster."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tidegate import runs
from tidegate.controller import published
from tidegate.controller.clock import Clock
from tidegate.controller.feed import Feed
from tidegate.controller.lease import Lease
from tidegate.controller.loop import EVERY, Controller
from tidegate.controller.mirror import AliasMirror, AliasProcess
from tidegate.controller.reconcile import wanted_plan
from tidegate.controller.webhook import webhook_of
from tidegate.errors import Conflict, NotReady, PlatformError, UserError
from tidegate.journal.fold import ModelState
from tidegate.journal.store import Journal
from tidegate.kube import Cluster
from tidegate.orchestrators.choose import orchestrator_of
from tidegate.register.models import trusted
from tidegate.spec import Model, parse_model
from tidegate.targets.kubernetes import KubernetesTarget
from tidegate.targets.manifests import Place

logger = logging.getLogger(__name__)

RESYNC = 300.0
"""Seconds after which the cluster is read again though no watch told of a change."""
RUNNING = 0.5
"""Seconds between two turns while a run or a batch is at work."""
LAG = 3.0
"""Seconds behind a full minute by which every service has written what it answered before it."""
TOLD = 3
"""Failed turns in a row after which the object's status tells of it."""
EVENTS = 3600.0
"""Events older than this, in seconds, are not shown again by a new leader: the cluster has forgotten them, too."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What is the same for every model of one operator."""

    state: Path
    image: str
    token: str
    gateway: str = "tidegate"
    domain: str = ""

    @cached_property
    def aliases(self) -> AliasProcess:
        """What tells MLflow, one process for all models."""
        return AliasProcess(self.state / "aliases.log")


class Worker:
    """One model; `turn` does whatever is due. One turn at a time."""

    def __init__(
        self, cluster: Cluster, journal: Journal, lease: Lease, clock: Clock, settings: Settings, body: Json
    ) -> None:
        self._cluster, self._journal, self._lease, self._clock = cluster, journal, lease, clock
        self._settings, self.body, self.name = settings, body, str(body["metadata"]["name"])
        self.controller: Controller | None = None
        self._target: KubernetesTarget | None = None
        self._turning, self._leaving = threading.Lock(), False
        self._built, self._count = 0, 0
        self._fault, self._failures = "", 0
        self._status: Json = dict(body.get("status", {}))
        self._published, self._told = 0, dict[str, Json]()
        self._releases: dict[str, Json] | None = None

    # --- what the operator asks -------------------------------------------------------------------------------------

    def see(self, body: Json) -> bool:
        """The object as it is now; whether its settings are others than before."""
        before, self.body = self.body, body
        return bool(body["metadata"].get("generation") != before["metadata"].get("generation"))

    def touch(self) -> None:
        """Something of this model changed on the cluster."""
        if self._target:
            self._target.touch()

    def behind(self, seq: int) -> bool:
        """Whether somebody else wrote to the journal."""
        return self.controller is None or seq > self.controller.state.seq

    def take_labels(self, body: bytes) -> Mapping[str, int]:
        """The body of ``POST /labels``."""
        if self.controller is None:
            raise PlatformError(f"{self.name}: its controller is not up yet")
        return self.controller.feed.take_labels(body)

    def busy(self) -> list[str]:
        """As `Controller.busy`; a model that is not up yet is at work."""
        if self.controller is None:
            return [] if self._fault else [f"start of {self.name}"]
        return self.controller.busy()

    def status(self) -> Mapping[str, Any]:
        """As `Controller.status`."""
        return self.controller.status() if self.controller else {"model": self.name, "error": self._fault}

    # --- one turn ---------------------------------------------------------------------------------------------------

    def turn(self) -> float:
        """See, decide, write, make it so, show it; seconds until the next turn, negative when there is to be none."""
        with self._turning:
            if self._leaving:
                return -1.0
            try:
                self._lease.check()
                self._build()
                if self.controller:
                    self.controller.turn()
                self._publish()
                self._failures = 0
                return self._next()
            except (PlatformError, OSError) as error:
                return self._failed(error)
            except Exception as error:
                logger.exception("%s: starting again from the journal", self.name)
                self._close()
                self._built = 0
                return self._failed(error)

    def _failed(self, error: Exception) -> float:
        """Back off, and say so on the object when it goes on."""
        self._failures += 1
        wait = 0.1 if isinstance(error, Conflict) else min(30.0, 0.25 * 2.0**self._failures)
        logger.error("%s: turn failed, trying again in %.1f s: %s", self.name, wait, error)
        self.touch()
        if self._failures >= TOLD:
            with contextlib.suppress(PlatformError, OSError):
                self._publish(f"{type(error).__name__}: {error}")
        return wait

    def leave(self) -> None:
        """The object is to be deleted: end its runs, take it off the gateway, drain and delete its versions."""
        self._leaving = True
        with self._turning:
            self._lease.check()
            if self.controller:
                self._stop_runs(self.controller)
                self._close()
            place = Place(self.name, self._cluster.namespace, self._settings.image, self.name)
            (self._target or self._target_at(place)).leave()

    def _next(self) -> float:
        controller = self.controller
        if controller is None:
            return RESYNC
        if any(not run.settled or run.ok is None for run in controller.state.running) or controller.busy():
            return RUNNING
        if self._clock.kind == "events":
            return RESYNC  # whoever announces the time wakes it
        every = EVERY["wall"]
        # a thousand models do not all look in the same second
        return every - (time.time() - LAG - hash(self.name) % 100 / 10) % every

    def _build(self) -> None:
        """A controller on the settings that the object has; the one before stays where they cannot be carried out."""
        generation = int(self.body["metadata"].get("generation", 0))
        if generation == self._built:
            return
        self._built = generation
        try:
            document = {key: self.body[key] for key in ("apiVersion", "kind", "metadata", "spec")}
            model = parse_model(document, f"Model {self.name}")
            runs.check(model)
            self._fault = ""
        except UserError as error:
            self._fault = str(error)
            logger.error("%s: %s", self.name, error)
            return
        try:
            self._close()
            self.controller = self._compose(model)
            self._claim(self.controller, model)  # takes its time; labels are taken meanwhile
        except BaseException:
            self._built = 0
            raise

    def _compose(self, model: Model) -> Controller:
        folder = self._settings.state / self.name
        for part in ("models", "observations/predictions", "observations/labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        keys = tuple(trusted(model.spec.trust, self._settings.state))
        keep = () if model.spec.training.retain else ("--no-features",)
        place = Place(
            self.name, self._cluster.namespace, self._settings.image, self.name, self._clock.kind,
            model.spec.serving.replicas.max, keys, keep, owner=self.owner,
        )  # fmt: skip
        self._target = self._target_at(place)
        self._count += 1
        feed = Feed(folder, model, f"labels-{self._lease.epoch}-{self._count}")
        parts: Any = (self._target, orchestrator_of(model, folder), self._clock, feed)
        mirror = AliasMirror(folder, self.name, self._settings.aliases)
        beside: Any = (mirror, _batches(model, folder), webhook_of(model.spec))
        return Controller(model, self._journal, *parts, *beside)

    def _target_at(self, place: Place) -> KubernetesTarget:
        settings = self._settings
        return KubernetesTarget(
            self._cluster, place, self._stamp, token=settings.token, gateway=settings.gateway, domain=settings.domain,
            fresh=RESYNC,
        )  # fmt: skip

    def _stamp(self) -> tuple[int, int]:
        return self._lease.check(), self.controller.state.seq if self.controller else self._seq()

    def _seq(self) -> int:
        return self._journal.head(self.name)[0]

    def _claim(self, controller: Controller, model: Model) -> None:
        """Write the plan once more: from then on no leader before this one can change it."""
        plan = wanted_plan(model, controller.state)
        if plan is None or self._target is None:
            return
        try:
            self._target.apply(plan)
        except NotReady as error:
            logger.error("%s: %s", self.name, error)  # the turn tries again, and says what follows

    def _close(self) -> None:
        if self.controller:
            self.controller.feed.close()
            if self.controller.mirror:
                self.controller.mirror.stop()
            self.controller = None

    def _stop_runs(self, controller: Controller) -> None:
        stop: Callable[[str], None] | None = getattr(controller.orchestrator, "stop", None)
        for run in controller.state.running if stop else ():
            if stop and run.by == "trigger":
                stop(run.name)

    # --- what is shown ----------------------------------------------------------------------------------------------

    @property
    def owner(self) -> Json:
        """The Model object as an owner."""
        metadata = self.body["metadata"]
        return {"apiVersion": published.GROUP, "kind": "Model", "name": self.name, "uid": metadata["uid"]}

    def _publish(self, trouble: str = "") -> None:
        """Status, Releases and Events, each written only when it changed."""
        controller = self.controller
        state = controller.state if controller else ModelState(model=self.name)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if controller and state.seq != self._published:
            self._follow(state)
        generation = int(self.body["metadata"].get("generation", 0))
        model = controller.model if controller else None
        status = published.model_status(model, state, generation, self._status, now, self._fault, trouble)
        if not _same(status, self._status):
            self._apply_status("Model", self.name, status)
            self._status = status
        self._publish_releases(state, now)

    def _follow(self, state: ModelState) -> None:
        events = self._journal.read(self.name, self._published)
        self._told = published.follow(self._told, events)
        involved = {**self.owner, "namespace": self._cluster.namespace}
        for event in events:
            told = published.kubernetes_event(event, involved) if event.wall > time.time() - EVENTS else None
            if told:
                try:
                    self._cluster.create(told)
                except Conflict:
                    continue  # it was told before
        self._published = max([state.seq, *(event.seq for event in events)])

    def _publish_releases(self, state: ModelState, now: str) -> None:
        if not self._told:
            return
        if self._releases is None:
            found = self._cluster.list("Release", {"tidegate.dev/model": self.name})
            self._releases = {one["metadata"]["name"]: one.get("status", {}) for one in found}
        for name, told in self._told.items():
            if name not in self._releases:
                self._cluster.apply(published.release_object(self._cluster.namespace, self.owner, told["release"]))
                self._releases[name] = {}
            status = published.release_status(told, state, self._releases[name], now)
            if not _same(status, self._releases[name]):
                self._apply_status("Release", name, status)
                self._releases[name] = status

    def _apply_status(self, kind: str, name: str, status: Json) -> None:
        metadata = {"name": name, "namespace": self._cluster.namespace}
        body = {"apiVersion": published.GROUP, "kind": kind, "metadata": metadata, "status": status}
        self._cluster.apply(body, "/status")


def _batches(model: Model, folder: Path) -> Any:
    from tidegate.serve.batch_jobs import LocalBatches

    return LocalBatches(model, folder) if model.spec.batch else None


def _same(one: Json, other: Json) -> bool:
    """Whether two statuses say the same; what is empty says nothing."""
    return bool(_said(one) == _said(other))


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        found = {key: _said(one) for key, one in value.items()}
        return {key: one for key, one in found.items() if one not in (None, "", [], {}, False, 0)}
    return [_said(one) for one in value] if isinstance(value, list | tuple) else value
