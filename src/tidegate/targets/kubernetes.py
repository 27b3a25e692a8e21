"""Target `kubernetes`: a Deployment for each version, and an HTTPRoute that says how requests go.

Order of a change: a route that others edited or deleted is put back, new versions start and are ready, the route is
changed and the gateway has taken it, then what left the plan is deleted: its pods answer on while proxies forget them,
and drain.

Fencing: whatever changes traffic carries the leader's epoch and the journal's position, and the version of the object
that was read. A leader that was deposed meanwhile reads a later epoch, or writes to a version that is gone: Conflict.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tidegate.errors import Conflict, NotReady, PlatformError
from tidegate.kube import Cluster
from tidegate.release.plan import Backend, Plan
from tidegate.targets.base import Observed, Running
from tidegate.targets.gateway import between, http_route, padded, read_route, service_name
from tidegate.targets.manifests import DIGEST, MANAGED, MODEL, VERSION, Place, merge_objects, names, selector
from tidegate.targets.manifests import version_objects as objects_of
from tidegate.targets.pods import Kept, Pods, Stopped
from tidegate.targets.routes import MERGE

READY_SECONDS = 120.0
"""Longest wait for a version's pods; given up at once when one of them cannot start."""
ROUTE_SECONDS = 15.0
"""Longest wait for the gateway to take a route."""
SETTLES = 1.0
"""Seconds for the proxies to have what the gateway took."""
EPOCH, POSITION = "tidegate.dev/epoch", "tidegate.dev/journal"
Stamp = tuple[int, int]
"""(the leader's epoch, the journal's position)."""

Json = dict[str, Any]
There = dict[tuple[str, str], Json]
_KINDS = ("Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler")
"""What each version is made of, all under one name."""


class KubernetesTarget:
    """Runs one model's versions in a namespace.

    Parameters
    ----------
    stamp: the leader's epoch and the position of the model's journal; raises Conflict when this process leads no more.
    token: that of ``POST /clock``, with which services are told event time.
    gateway, domain: as in `targets.gateway.http_route`.
    fresh: seconds for which what was seen may be shown again, unless `touch` says that something changed.
    """

    def __init__(
        self, cluster: Cluster, place: Place, stamp: Callable[[], Stamp], *, token: str,
        gateway: str = "tidegate", domain: str = "", fresh: float = 0.0,
    ) -> None:  # fmt: skip
        self._cluster, self.place, self._stamp = cluster, place, stamp
        self._gateway, self._domain = gateway, domain
        self._pods = Pods(cluster, place, token, fresh)
        self._seen = Kept[Observed](fresh)
        self._sent: dict[tuple[str, str], Any] = {}
        """The spec of every object as the server last took it from us, by kind and name."""
        self._in_use: Json | None = None
        """The route as it was last sent."""

    def touch(self) -> None:
        """Something of this model changed on the cluster: look again. From any thread."""
        self._seen.touch()
        self._pods.touch()

    def apply(self, plan: Plan) -> None:
        """As `Target.apply`; Conflict when another leader has taken over."""
        self.touch()
        try:
            there = self._there()
            self._claim(there)
            self._put_back(plan, there)
            self._start(plan, there)
            self._route(plan)
            left = [one for (kind, name), one in there.items() if kind == "Deployment" and name not in names(plan)]
            self._leave(left)
        finally:
            self.touch()

    def observe(self) -> Observed:
        """As `Target.observe`: pods that are ready, the route as the gateway took it; none where others edited."""
        return self._seen.get(self._look)

    def _look(self) -> Observed:
        there = self._there()
        deployments = [one for (kind, _), one in there.items() if kind == "Deployment"]
        ready = {_who(one): 0 for one in deployments if not _ends(one)}
        for pod in self._pods.read():
            if (pod.version, pod.digest) in ready:
                ready[pod.version, pod.digest] += pod.ready and not pod.ending
        route = there.get(("HTTPRoute", self.place.model))
        ours = all(self._is_as_sent(there, key) for key in self._sent)
        traffic = read_route(route) if route and ours and not _waits(route) else Observed()
        merges = any(count for (version, _), count in ready.items() if version == MERGE)
        running = tuple(Running(*who, count) for who, count in sorted(ready.items()) if who[0] != MERGE)
        return replace(traffic, running=running, merge=traffic.merge if merges else ())

    def _there(self) -> There:
        """Everything of this model that is on the cluster, by kind and name."""
        route = self._cluster.get("HTTPRoute", self.place.model)
        found = [one for kind in _KINDS for one in self._cluster.list(kind, selector(self.place))]
        return {(one["kind"], one["metadata"]["name"]): one for one in (*([route] if route else ()), *found)}

    def _is_as_sent(self, there: There, key: tuple[str, str]) -> bool:
        """Whether an object is as the server last took it from us."""
        return key in there and not _ends(there[key]) and _told(there[key]) == self._sent.get(key)

    def mark(self, now: float) -> float:
        """The time up to which every pod that serves has written its rows; it is told `now` where time is announced."""
        return self._pods.mark(now)

    def writers(self) -> frozenset[str]:
        """Names of the pods that write the prediction log."""
        return frozenset(pod.name for pod in self._pods.read() if pod.serves)

    def leave(self) -> None:
        """Take the model off the gateway, then drain and delete all of its versions; returns when they are gone."""
        self._claim(self._there())
        if route := self._cluster.get("HTTPRoute", self.place.model):
            self._cluster.delete(route, "HTTPRoute")
        self._sent.clear()
        self._in_use = None
        self._leave(self._deployments())
        self._pods.wait(lambda: not self._deployments() or None, READY_SECONDS)

    # --- versions ---------------------------------------------------------------------------------------------------

    def _start(self, plan: Plan, there: There) -> None:
        """Apply every version, and wait until all are ready; those that were started for nothing are deleted again.

        Of one that has traffic already a single pod is enough: a lost one comes back without us, and the judge need not
        wait for it.
        """
        route = there.get(("HTTPRoute", plan.model))
        serves = dict(read_route(route).split) if route else {}
        for name in names(plan):
            if ("Deployment", name) in there and _ends(there["Deployment", name]):
                self._gone(name)
        for backend in plan.backends:
            self._apply_all(objects_of(self.place, backend, self._replicas(backend, there)), there)
        if plan.merge:
            self._apply_all(merge_objects(self.place, plan), there)
        try:
            for backend in plan.backends:
                self._when_ready(
                    backend.version, backend.digest, 1 if serves.get(backend.version) else backend.replicas
                )
            if plan.merge:
                self._when_ready(MERGE, ",".join(plan.merge), 1)
        except PlatformError:
            self._leave([one for one in self._deployments() if ("Deployment", one["metadata"]["name"]) not in there])
            raise

    def _replicas(self, backend: Backend, there: There) -> int:
        """What an HPA has made of it stays; else as the plan says."""
        known = there.get(("Deployment", service_name(self.place.model, backend.version)))
        now = known["spec"].get("replicas", 1) if known else backend.replicas
        return min(max(now, backend.replicas), max(self.place.most, backend.replicas))

    def _apply_all(self, objects: list[Json], there: There) -> None:
        """Those that are as we sent them, and of as many replicas, are left alone: a repair writes what it repairs."""
        for body in objects:
            key = (body["kind"], body["metadata"]["name"])
            many = body["spec"].get("replicas")
            if self._is_as_sent(there, key) and there[key]["spec"].get("replicas") == many:
                continue
            taken = self._fenced(body) if body["kind"] == "Deployment" else self._cluster.apply(body)
            self._sent[key] = _told(taken)

    def _when_ready(self, version: str, digest: str, replicas: int) -> None:
        def ready() -> bool | None:
            pods = [pod for pod in self._pods.read(again=True) if (pod.version, pod.digest) == (version, digest)]
            for pod in pods:
                if pod.broken and not pod.ending:
                    raise NotReady(version, f": {pod.broken}")
            return sum(pod.ready and not pod.ending for pod in pods) >= replicas or None

        try:
            self._pods.wait(ready, READY_SECONDS)
        except Stopped:
            raise NotReady(version, f" in {READY_SECONDS:.0f} s") from None

    def _gone(self, name: str) -> None:
        """A version that comes back while its pods still end: wait for those."""
        try:
            self._pods.wait(lambda: self._cluster.get("Deployment", name) is None or None, READY_SECONDS)
        except Stopped:
            raise PlatformError(f"Deployment {name} does not end") from None

    def _deployments(self) -> list[Json]:
        return self._cluster.list("Deployment", selector(self.place))

    def _leave(self, leaving: list[Json]) -> None:
        """Delete these Deployments, each when its pods have drained, and what belongs to them.

        Read again before the route's stamp is looked at: whoever took over stamps the route first, and then these.
        """
        for known in leaving:
            name = known["metadata"]["name"]
            for kind in _KINDS:
                self._sent.pop((kind, name), None)
            if not self._delete(name):
                continue
            for kind in _KINDS[1:]:
                if other := self._cluster.get(kind, name):
                    self._cluster.delete(other, kind)

    def _delete(self, name: str) -> bool:
        """Begin the end of a Deployment as it was read; False where it ends already."""
        for _ in range(5):
            found = self._cluster.get("Deployment", name)
            if found is None or _ends(found):
                return False
            self._check(self._cluster.get("HTTPRoute", self.place.model))
            try:
                self._cluster.delete(found, "Deployment", foreground=True, exactly=True)
                return True
            except Conflict:
                continue  # its status was written meanwhile, or a later leader was here: look again
        raise Conflict(f"Deployment {name}: somebody else writes it again and again")

    # --- the route --------------------------------------------------------------------------------------------------

    def _route(self, plan: Plan) -> None:
        body = http_route(plan, self._gateway, self.place.namespace, domain=self._domain)
        body["metadata"]["labels"] = {**MANAGED, MODEL: self.place.model, "app.kubernetes.io/part-of": "tidegate"}
        if self.place.owner:
            body["metadata"]["ownerReferences"] = [{**self.place.owner, "controller": True, "blockOwnerDeletion": True}]
        key, live = ("HTTPRoute", plan.model), self._cluster.get("HTTPRoute", plan.model)
        # what others edited is put right at once
        while live and _told(live) == self._sent.get(key) and (step := between(body, live)):
            live = self._in_force(step)
            time.sleep(SETTLES)
        self._in_force(padded(body, live))

    def _put_back(self, plan: Plan, there: There) -> None:
        """The route as it was, or the plan's where it is gone and its versions run: users wait for it."""
        key = ("HTTPRoute", plan.model)
        if self._in_use and not self._is_as_sent(there, key):
            self._in_force(self._in_use)
        elif key not in there and all(("Deployment", name) in there for name in names(plan)):
            self._route(plan)

    def _in_force(self, route: Json) -> Json:
        """Write a route and wait until the gateway has taken it."""
        name = route["metadata"]["name"]
        taken = self._fenced(route)
        self._sent["HTTPRoute", name], self._in_use = _told(taken), route
        try:
            self._pods.wait(lambda: not _waits(self._cluster.get("HTTPRoute", name)) or None, ROUTE_SECONDS)
        except Stopped:
            why = _waits(self._cluster.get("HTTPRoute", name))
            raise PlatformError(f"HTTPRoute {name}: not in force after {ROUTE_SECONDS:.0f} s: {why}") from None
        return taken

    # --- the fence --------------------------------------------------------------------------------------------------

    def _fenced(self, body: Json) -> Json:
        """Write an object with our stamp onto the version that was read; Conflict when a later leader wrote it."""
        for _ in range(5):
            found = self._cluster.get(body["kind"], body["metadata"]["name"])
            epoch, position = self._check(found)
            stamps = {EPOCH: str(epoch), POSITION: str(position)}
            metadata = {**body["metadata"], "annotations": {**body["metadata"].get("annotations", {}), **stamps}}
            try:
                if found is None:
                    return self._cluster.create({**body, "metadata": metadata})
                version = found["metadata"]["resourceVersion"]
                return self._cluster.apply({**body, "metadata": {**metadata, "resourceVersion": version}})
            except Conflict:
                continue  # its status was written meanwhile, or a later leader was here: look again
        raise Conflict(f"{body['kind']} {body['metadata']['name']}: somebody else writes it again and again")

    def _claim(self, there: There) -> None:
        """Put our epoch on what an earlier leader wrote, the route first: from then on it can write none of it."""
        for kind in ("HTTPRoute", "Deployment"):
            for found in (one for (other, _), one in there.items() if other == kind):
                epoch, position = self._check(found)
                if epoch == _stamp_of(found)[0]:
                    continue
                version, stamps = found["metadata"]["resourceVersion"], {EPOCH: str(epoch), POSITION: str(position)}
                body = {"metadata": {"resourceVersion": version, "annotations": stamps}}
                self._cluster.merge(kind, found["metadata"]["name"], body)

    def _check(self, found: Json | None) -> Stamp:
        """Our stamp; Conflict when the object has a later one."""
        ours, theirs = self._stamp(), _stamp_of(found)
        if theirs[0] > ours[0] or theirs[1] > ours[1]:
            raise Conflict(f"{self.place.model}: epoch and position {theirs} are on the cluster, ours are {ours}")
        return ours


def _told(found: Json) -> Json:
    """The spec of an object, without what an HPA says."""
    return {key: value for key, value in found["spec"].items() if (found["kind"], key) != ("Deployment", "replicas")}


def _who(deployment: Json) -> tuple[str, str]:
    """Version and digest of a Deployment of ours."""
    metadata = deployment["metadata"]
    return metadata["labels"][VERSION], metadata["annotations"][DIGEST]


def _ends(found: Json) -> bool:
    return "deletionTimestamp" in found["metadata"]


def _stamp_of(found: Json | None) -> Stamp:
    """What an object that we wrote carries; (-1, -1) without."""
    annotations = (found or {"metadata": {}})["metadata"].get("annotations", {})
    try:
        return int(annotations[EPOCH]), int(annotations[POSITION])
    except (KeyError, ValueError):
        return -1, -1


def _waits(route: Json | None) -> str:
    """Why a route is not in force yet; empty when every gateway that it names has taken it as it is."""
    if route is None:
        return "it is gone"
    parents, generation = route.get("status", {}).get("parents", ()), route["metadata"]["generation"]
    told = [one for parent in parents for one in parent["conditions"] if one["type"] in ("Accepted", "ResolvedRefs")]
    if not told or any(one.get("observedGeneration", 0) < generation for one in told):
        return "no gateway took it"
    return "; ".join(f"{one['reason']}: {one['message']}" for one in told if one["status"] != "True")
