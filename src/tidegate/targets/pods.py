"""The pods of one model: which are ready, which cannot start, and up to when each has written its rows. Does I/O."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Generic, TypeVar

from tidegate.kube import Cluster
from tidegate.targets.manifests import DIGEST, PORT, VERSION, Place, selector

EVERY = 0.15
"""Seconds between two looks while something is waited for."""
WALL_LAG = 2.0
"""Seconds: more than a service's time between two marks and the one between two flushes."""
BROKEN = ("CrashLoopBackOff", "ErrImagePull", "ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName",
          "CreateContainerConfigError")  # fmt: skip
KILLED = 128
"""Exit codes from here on are signals."""

Json = dict[str, Any]
T = TypeVar("T")


class Stopped(Exception):
    """What was waited for did not come in time."""


@dataclass(frozen=True)
class Pod:
    """One pod as the API server tells it. `broken`: why it cannot start, empty while it may."""

    name: str
    uid: str
    ip: str
    version: str
    digest: str
    ready: bool
    ending: bool
    up: bool
    """Its server's container runs."""
    broken: str = ""

    @property
    def serves(self) -> bool:
        """It may have rows: it answers, or it did until it was told to end."""
        return self.up and bool(self.ip) and (self.ready or self.ending)


class Kept(Generic[T]):
    """What was read last, for `fresh` seconds or until something is said to have changed."""

    def __init__(self, fresh: float) -> None:
        self._fresh, self._touches = fresh, 0
        self._found: tuple[int, float, T] | None = None
        """At which count of touches, until when, what."""

    def touch(self) -> None:
        """Something changed: read again. From any thread."""
        self._touches += 1

    def get(self, read: Callable[[], T], again: bool = False) -> T:
        """What was read, or what `read` gives now; `again` reads in any case."""
        touches, now = self._touches, time.monotonic()  # before reading: a change in the middle is a reason for another
        if again or self._found is None or self._found[0] != touches or now >= self._found[1]:
            self._found = (touches, now + self._fresh, read())
        return self._found[2]


class Pods:
    """Reads them, and tells each that serves the event time."""

    def __init__(self, cluster: Cluster, place: Place, token: str, fresh: float) -> None:
        self._cluster, self._place, self._token = cluster, place, token
        self._kept = Kept[list[Pod]](fresh)
        self._marks: dict[str, float] = {}
        self._now = 0.0

    def touch(self) -> None:
        """As `Kept.touch`."""
        self._kept.touch()

    def read(self, again: bool = False) -> list[Pod]:
        """Every pod of the model."""
        return self._kept.get(self._list, again)

    def _list(self) -> list[Pod]:
        found = [_pod(one) for one in self._cluster.list("Pod", selector(self._place))]
        known = {pod.uid for pod in found}
        self._marks = {uid: mark for uid, mark in self._marks.items() if uid in known}
        return found

    def mark(self, now: float) -> float:
        """As `tidegate.controller.loop.MarkedTarget.mark`.

        One that serves and does not answer holds it at what it promised last. Under the wall clock services promise by
        themselves, and a row is on disk `WALL_LAG` after its answer.
        """
        if self._place.clock == "wall":
            return now - WALL_LAG
        self._now = max(self._now, now)
        return min((self._promised(pod) for pod in self.read() if pod.serves), default=self._now)

    def wait(self, look: Callable[[], T | None], seconds: float) -> T:
        """The first answer of `look` that is not None; Stopped when there is none in time."""
        deadline = time.monotonic() + seconds
        while (found := look()) is None:
            if time.monotonic() > deadline:
                raise Stopped
            time.sleep(EVERY)
        return found

    def _promised(self, pod: Pod) -> float:
        before = self._marks.get(pod.uid, 0.0)
        if before >= self._now:
            return before
        if (told := self._tell(pod)) is not None:
            self._marks[pod.uid] = told
            return told
        # a server that ended holds nobody back: what it accepted is on disk, or lost with it
        alive = any(other.uid == pod.uid and other.serves for other in self.read(again=True))
        return before if alive else self._now

    def _tell(self, pod: Pod) -> float | None:
        """Announce the time to one pod; the time it answers, None without an answer in two seconds."""
        connection = HTTPConnection(pod.ip, PORT, timeout=2.0)
        try:
            headers = {"authorization": f"Bearer {self._token}"}
            connection.request("POST", "/clock", json.dumps({"now": self._now}), headers)
            answer = connection.getresponse()
            body = answer.read()
            return float(json.loads(body)["now"]) if answer.status == 200 else None
        except (OSError, HTTPException, ValueError, KeyError):
            return None
        finally:
            connection.close()


def _pod(found: Json) -> Pod:
    metadata, status = found["metadata"], found.get("status", {})
    conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
    servers = [one for one in status.get("containerStatuses", ()) if one["name"] == "server"]
    return Pod(
        metadata["name"],
        metadata["uid"],
        status.get("podIP", ""),
        metadata["labels"].get(VERSION, ""),
        metadata.get("annotations", {}).get(DIGEST, ""),
        conditions.get("Ready") == "True",
        "deletionTimestamp" in metadata,
        any("running" in one.get("state", {}) for one in servers),
        _broken(status),
    )


def _broken(status: Json) -> str:
    """Why one of its containers does not start: it ended with an error of its own, or cannot be made.

    What was killed from outside (a signal) is started again and may well be ready then.
    """
    for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        ended = one.get("state", {}).get("terminated") or one.get("lastState", {}).get("terminated") or {}
        waiting = one.get("state", {}).get("waiting", {})
        if 0 < ended.get("exitCode", 0) < KILLED and not one.get("ready", False):
            said = " ".join(ended.get("message", "").split()) or ended.get("reason", "")
            return f"{one['name']} ended with {ended['exitCode']}: {said}"[:300]
        if waiting.get("reason") in BROKEN:
            return f"{one['name']}: {waiting['reason']} {waiting.get('message', '')}"[:300]
    return ""
