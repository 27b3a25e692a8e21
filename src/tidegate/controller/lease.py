"""Who leads: one holder of a coordination.k8s.io Lease, known by an epoch that only grows. Does I/O.

The epoch (`leaseTransitions`) goes onto everything that changes traffic, so that a leader which was stopped past its
lease cannot write any more, whatever it believes. Clocks of two machines are never compared: a Lease has run out when
this process has seen it unchanged for as long as it lasts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tidegate.errors import Conflict, PlatformError
from tidegate.kube import Cluster

logger = logging.getLogger(__name__)

LASTS, GIVES_UP, EVERY = 20.0, 15.0, 2.0
"""Seconds: how long a Lease holds without renewal, when its holder stops leading, and between two tries."""
BEGINNING = 1735689600
"""2025-01-01T00:00:00Z. A Lease that is made anew starts at the quarters of a second since then, above any that was
deleted (the field has 31 bits: until 2042)."""

Json = dict[str, Any]


class Lease:
    """One try for leadership: `acquire` returns when this process leads, `keep` renews until it does no more.

    identity: of the holder; a process that starts again under the same one takes over at once, with a new epoch.
    """

    def __init__(self, cluster: Cluster, name: str, identity: str) -> None:
        self._cluster, self.name, self.identity = cluster, name, identity
        self.epoch = -1
        self._renewed = self._looked = -GIVES_UP
        self._seen: tuple[str, float] = ("", 0.0)
        self._stop = threading.Event()

    @property
    def held(self) -> bool:
        """Whether this process leads, by its own clock, which goes on while the process is stopped."""
        return self.epoch >= 0 and time.monotonic() < self._renewed + GIVES_UP

    @property
    def waits(self) -> bool:
        """Whether this process would lead if nobody did: it asked for the lease lately, and was answered."""
        return self.epoch < 0 and time.monotonic() < self._looked + GIVES_UP

    def check(self) -> int:
        """The epoch; Conflict when this process leads no more."""
        if not self.held:
            raise Conflict(f"{self.identity} does not lead")
        return self.epoch

    def acquire(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Try until the Lease is ours; False when `stopped` before."""
        while not stopped() and not self._stop.is_set():
            try:
                if self._take():
                    logger.info("%s leads, epoch %d", self.identity, self.epoch)
                    return True
                self._looked = time.monotonic()
            except PlatformError as error:
                logger.warning("no lease yet: %s", error)
            self._stop.wait(EVERY)
        return False

    def keep(self) -> None:
        """Renew until `stop`, or until it is lost; then this process leads no more."""
        while not self._stop.wait(EVERY) and self.held:
            try:
                if not self._renew():
                    break
            except PlatformError as error:
                logger.warning("lease not renewed: %s", error)
        self._renewed = -GIVES_UP

    def stop(self, release: bool = True) -> None:
        """Renew no more; with `release` the next one need not wait until it has run out."""
        held = self.held
        self._stop.set()
        if held and release:
            try:
                found = self._cluster.get("Lease", self.name)
                if found and self._is_ours(found):
                    self._cluster.replace({**found, "spec": {**found["spec"], "holderIdentity": ""}})
            except PlatformError as error:
                logger.warning("lease not released: %s", error)
        self._renewed = -GIVES_UP

    def _take(self) -> bool:
        started, found = time.monotonic(), self._cluster.get("Lease", self.name)
        if found is None:
            epoch = int(4 * (time.time() - BEGINNING))
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.name}}
            return self._won(lambda: self._cluster.create({**body, "spec": self._spec(epoch)}), started, epoch)
        spec = found["spec"]
        if spec.get("holderIdentity") not in ("", None, self.identity) and not self._ran_out(spec):
            return False
        epoch = int(spec.get("leaseTransitions", 0)) + 1
        return self._won(lambda: self._cluster.replace({**found, "spec": self._spec(epoch)}), started, epoch)

    def _won(self, write: Callable[[], Json], started: float, epoch: int) -> bool:
        try:
            self._written = write()
        except Conflict:
            return False
        self.epoch, self._renewed = epoch, started
        return True

    def _renew(self) -> bool:
        """Whether it is still ours; written to the version that we wrote last, else to one that is still ours."""
        started = time.monotonic()
        try:
            self._written = self._cluster.replace({**self._written, "spec": self._spec(self.epoch)})
        except Conflict:
            found = self._cluster.get("Lease", self.name)
            if found is None or not self._is_ours(found):
                logger.error("%s leads no more", self.identity)
                return False
            self._written = found
            return True
        self._renewed = started
        return True

    def _is_ours(self, found: Json) -> bool:
        spec = found["spec"]
        return bool(spec.get("holderIdentity") == self.identity and spec.get("leaseTransitions") == self.epoch)

    def _ran_out(self, spec: Json) -> bool:
        told = f"{spec.get('holderIdentity')} {spec.get('leaseTransitions')} {spec.get('renewTime')}"
        if told != self._seen[0]:
            self._seen = (told, time.monotonic())
        return time.monotonic() > self._seen[1] + float(spec.get("leaseDurationSeconds", LASTS))

    def _spec(self, epoch: int) -> Json:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(LASTS),
            "leaseTransitions": epoch,
            "acquireTime": now,
            "renewTime": now,
        }
