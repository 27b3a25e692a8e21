"""``tidegate operator``: every Model object of a namespace under one leader.

kopf watches and finalizes; who leads, when a model is turned and what is written is our own (docs/decisions/0017).
A replica that does not lead waits, ready to; one that leads no more ends at once. The Service's requests reach the
leader alone, by a label that each leader puts on its own pod and takes from others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tidegate.console.app import create_app
from tidegate.console.exported import exported
from tidegate.console.reader import Reader
from tidegate.console.routes import Console
from tidegate.console.serve import server as server_of
from tidegate.controller.clock import ClockKind, EventClock, WallClock
from tidegate.controller.lease import Lease
from tidegate.controller.scheduler import Scheduler
from tidegate.controller.worker import Settings, Worker
from tidegate.errors import PlatformError, TidegateError, UserError
from tidegate.journal.store import Journal, open_journal
from tidegate.kube import Cluster
from tidegate.serve.http import Receive, Scope, Send
from tidegate.targets.gateway import MODEL as MODEL_HEADER
from tidegate.targets.gateway import control_route
from tidegate.targets.manifests import MANAGED, MODEL

logger = logging.getLogger(__name__)

THREADS = 8
HEADS = 3.0
"""Seconds between two looks at whether a run or a person wrote to the journal."""
WATCHED = (
    ("gateway.networking.k8s.io", "v1", "httproutes"),
    ("apps", "v1", "deployments"),
    ("", "v1", "pods"),
    ("", "v1", "services"),
    ("batch", "v1", "jobs"),
    ("tidegate.dev", "v1alpha1", "releases"),
)
"""Objects of ours whose changes wake their model, by label."""

LEADS = "tidegate.dev/leads"
"""Label of the pod that leads, with the name of its Lease: the Service selects by it."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Where:
    """Where an operator runs. `selector`: ``key=value`` labels of the Models that are its own; empty takes all."""

    namespace: str
    port: int = 8090
    host: str = "0.0.0.0"  # noqa: S104 - of a pod
    selector: tuple[tuple[str, str], ...] = ()
    identity: str = ""

    @property
    def lease(self) -> str:
        """Name of the Lease; operators with different selectors lead beside each other."""
        return "-".join(["tidegate-operator", *(value for _, value in self.selector)])


class MovingClock(EventClock):
    """Tells when it was moved on."""

    def __init__(self, now: float, moved: Callable[[], None]) -> None:
        super().__init__(now)
        self._moved = moved

    def announce(self, now: float) -> float:
        """As `EventClock.announce`."""
        before, found = self.now(), super().announce(now)
        if found > before:
            self._moved()
        return found


class Operator:
    """The leader's part: workers by name, turned by a scheduler. It is what the control server asks."""

    def __init__(self, cluster: Cluster, journal: Journal, lease: Lease, settings: Settings, kind: ClockKind) -> None:
        self._cluster, self.journal, self._lease, self._settings = cluster, journal, lease, settings
        self.workers: dict[str, Worker] = {}
        self.scheduler = Scheduler(self._turn, THREADS)
        newest = max((journal.head(model)[1] for model in journal.models()), default=0.0)
        self.clock = MovingClock(newest, self.wake_all) if kind == "events" else WallClock()
        self._apps: dict[str, Any] = {}
        self.reader = Reader(settings.state, lambda model: settings.state / model)
        self.console = Console(self.reader, settings.token)
        self.app = create_app(self, self.clock, self.take_labels, settings.token, self.console)

    def seen(self, body: Json) -> None:
        """A Model object is there, or was changed."""
        name = body["metadata"]["name"]
        worker = self.workers.get(name)
        if worker is None:
            if "deletionTimestamp" in body["metadata"]:
                return
            worker = Worker(self._cluster, self.journal, self._lease, self.clock, self._settings, body)
            more = worker.take_labels, self._settings.token, self.console
            self._apps[name] = create_app(worker, self.clock, *more)
            self.workers[name] = worker
        elif not worker.see(body):
            return
        self.scheduler.wake(name)

    def gone(self, name: str) -> None:
        """A Model object is there no more."""
        self.scheduler.forget(name)
        self.workers.pop(name, None)
        self._apps.pop(name, None)

    def drain(self, body: Json) -> None:
        """Before a Model object may go: nothing of it serves, nothing of it runs."""
        name = body["metadata"]["name"]
        worker = self.workers.get(name) or Worker(
            self._cluster, self.journal, self._lease, self.clock, self._settings, body
        )
        worker.leave()
        self.gone(name)

    def changed(self, name: str) -> None:
        """An object of this model was changed, by us or by others."""
        if worker := self.workers.get(name):
            worker.touch()
            self.scheduler.wake(name)

    def wake_all(self) -> None:
        """The time moved on."""
        for name in list(self.workers):
            self.scheduler.wake(name)

    def look_at_heads(self) -> None:
        """Wake the models whose journal others wrote to."""
        heads = self.journal.heads()
        for name, worker in list(self.workers.items()):
            if worker.behind(heads.get(name, 0)):
                self.scheduler.wake(name)

    def start(self) -> None:
        """What is there for all models: the route of the control paths."""
        route = control_route(self._settings.gateway, self._cluster.namespace)
        route["metadata"]["labels"] = {**MANAGED, "app.kubernetes.io/part-of": "tidegate"}
        self._cluster.apply(route)

    def _turn(self, name: str) -> float:
        worker = self.workers.get(name)
        return worker.turn() if worker else -1.0

    # --- the control server -----------------------------------------------------------------------------------------

    def busy(self) -> list[str]:
        """What any model is working on."""
        return [what for worker in list(self.workers.values()) for what in worker.busy()]

    def status(self) -> Mapping[str, Any]:
        """Of the only model, else of each."""
        found = [worker.status() for worker in list(self.workers.values())]
        return found[0] if len(found) == 1 else {"models": found}

    def take_labels(self, body: bytes) -> Mapping[str, int]:
        """For the only model."""
        workers = list(self.workers.values())
        if len(workers) > 1:
            raise UserError("host", "none of a model", "the host of one model, where there are several")
        if not workers:
            raise PlatformError("no model is there yet")
        return workers[0].take_labels(body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry: by the header that the gateway sets, else for all."""
        headers = dict(scope.get("headers", ()))
        name = headers.get(MODEL_HEADER.encode(), b"").decode("latin-1")
        app = self._apps.get(name) if name else self.app
        if app is None:  # a route outlives its Model for a moment, and is there before this leader has seen it
            return await _answer(send, 503, json.dumps({"error": f"no model {name} here"}).encode())
        await app(scope, receive, send)


class Server:
    """The HTTP side of a replica: it is ready while it can take over, and when it leads and sees everything.

    waits: whether it can take over. leads: whether it leads and sees everything.
    """

    def __init__(self, waits: Callable[[], bool]) -> None:
        self.operator: Operator | None = None
        self.waits, self.leads = waits, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        path = scope["path"]
        if path == "/livez" or (path == "/readyz" and (self.leads or self.waits())):
            return await _answer(send, 200, b'{"ok":true}')
        if path == "/metrics" and self.operator:
            text = self._metrics() + await asyncio.to_thread(exported, self.operator.reader)
            return await _answer(send, 200, text.encode(), b"text/plain; version=0.0.4")
        if self.operator is None or path == "/readyz":
            return await _answer(send, 503, b'{"error":"this replica does not lead"}')
        await self.operator(scope, receive, send)

    def stop(self) -> None:
        """Let go of who watches the console."""
        if self.operator:
            self.operator.console.stop()

    def _metrics(self) -> str:
        calls = self.operator._cluster.calls if self.operator else {}
        name = "tidegate_api_calls_total"
        lines = [f'{name}{{verb="{verb}",kind="{kind}"}} {count}' for (verb, kind), count in sorted(calls.items())]
        return "\n".join([f"# HELP {name} Calls to the API server", f"# TYPE {name} counter", *lines]) + "\n"


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def _answer(send: Send, status: int, body: bytes, kind: bytes = b"application/json") -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def run(where: Where, settings: Settings, kind: ClockKind) -> None:
    """Until SIGTERM, or until this replica leads no more; then TidegateError."""
    asyncio.run(_run(where, settings, kind))


async def _run(where: Where, settings: Settings, kind: ClockKind) -> None:
    import kopf  # noqa: F401 - takes seconds, which a leader does not have

    cluster = Cluster(where.namespace)
    lease = Lease(cluster, where.lease, where.identity or f"{os.uname().nodename}-{os.getpid()}")
    server = Server(lambda: lease.waits)
    with suppress(PlatformError):  # a label of an earlier life of this pod, which another one may lead since
        await asyncio.to_thread(_call, cluster, lease.name, lease.identity, False)
    http = server_of(server, where.host, where.port, server.stop)
    serving = asyncio.create_task(http.serve())
    acquiring = asyncio.create_task(asyncio.to_thread(lease.acquire, lambda: serving.done()))
    await asyncio.wait([serving, acquiring], return_when=asyncio.FIRST_COMPLETED)
    try:
        if not serving.done():
            await _lead(cluster, lease, where, settings, kind, server, serving)
    finally:
        http.should_exit = True
        await asyncio.to_thread(lease.stop)
        await asyncio.gather(serving, acquiring)


async def _lead(
    cluster: Cluster, lease: Lease, where: Where, settings: Settings, kind: ClockKind, server: Server,
    serving: asyncio.Task[None],
) -> None:  # fmt: skip
    """Lead until something ends: the server (by a signal), the lease, the scheduler or the watches."""
    lost = asyncio.create_task(_thread(lease.keep, "lease"))
    journal = await _journal(lease, settings)
    operator = await asyncio.to_thread(Operator, cluster, journal, lease, settings, kind)
    await asyncio.to_thread(operator.start)
    server.operator = operator
    stop = asyncio.Event()

    async def leads() -> None:
        server.leads = True
        await _until_called(cluster, lease)

    parts = {
        "the lease is lost": lost,
        "the scheduler ended": asyncio.create_task(_thread(operator.scheduler.run, "scheduler")),
        "the watches ended": asyncio.create_task(_watch(operator, where, stop, leads)),
        "the journal is not watched": asyncio.create_task(_heads(operator)),
        "": serving,
    }
    done, _ = await asyncio.wait(parts.values(), return_when=asyncio.FIRST_COMPLETED)
    server.leads = False
    why = next(told for told, task in parts.items() if task in done)
    if lost in done:
        # nothing that is still at work here may go on; what it writes is refused anyway
        logger.error("%s", why)
        os._exit(1)
    stop.set()
    operator.scheduler.stop()
    parts["the journal is not watched"].cancel()
    await asyncio.wait([parts["the scheduler ended"], parts["the watches ended"]], timeout=30)
    error = operator.scheduler.failed or next((task.exception() for task in done), None)
    if why and error:  # kopf's watches end without one at a signal
        raise PlatformError(f"{why}: {error}") from error


async def _journal(lease: Lease, settings: Settings) -> Journal:
    """The journal, as soon as its database answers: in a new installation it starts beside the operator."""
    while True:
        try:
            return await asyncio.to_thread(open_journal, settings.state, True)
        except PlatformError as error:
            if not lease.held:
                raise
            logger.warning("no journal yet: %s", error)
            await asyncio.sleep(1.0)


async def _thread(work: Callable[[], None], name: str) -> None:
    """`work` in a thread of its own, which ends with the process."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def run_it() -> None:
        try:
            work()
        finally:
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=run_it, name=name, daemon=True).start()
    await ended.wait()


async def _heads(operator: Operator) -> None:
    while True:
        await asyncio.sleep(HEADS)
        try:
            await asyncio.to_thread(operator.look_at_heads)
        except TidegateError as error:
            logger.warning("%s", error)


async def _until_called(cluster: Cluster, lease: Lease) -> None:
    """Let the Service find this pod, and no other one."""
    while lease.held:
        try:
            return await asyncio.to_thread(_call, cluster, lease.name, lease.identity, True)
        except PlatformError as error:
            logger.warning("the Service does not lead here yet: %s", error)
            await asyncio.sleep(1.0)


def _call(cluster: Cluster, lease: str, pod: str, leads: bool) -> None:
    """Put the label of who leads on `pod` and take it from every other one; or, without `leads`, from `pod` alone."""
    labelled = {one["metadata"]["name"] for one in cluster.list("Pod", {LEADS: lease})}
    for name in labelled - {pod} if leads else labelled & {pod}:
        cluster.merge("Pod", name, {"metadata": {"labels": {LEADS: None}}})
    # a process outside the cluster has no pod that a Service could find
    if leads and pod not in labelled and cluster.get("Pod", pod):
        cluster.merge("Pod", pod, {"metadata": {"labels": {LEADS: lease}}})


async def _watch(
    operator: Operator, where: Where, stop: asyncio.Event, leads: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Watch with kopf, and let it finalize, until `stop`; `leads` is run when it sees everything."""
    import kopf

    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    settings.persistence.finalizer = "tidegate.dev/drain"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="tidegate.dev")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="tidegate.dev")
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 600
    settings.networking.error_backoffs = [0.5, 1, 1, 2, 2, *[3] * 40]
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    models: Any = ("tidegate.dev", "v1alpha1", "models")
    labels = dict(where.selector)

    @kopf.on.login(registry=registry)  # type: ignore[untyped-decorator, unused-ignore]
    def login(**told: Any) -> Any:
        return kopf.login_via_client(**told)

    @kopf.on.event(*models, registry=registry, labels=labels)
    async def see(event: Any, body: Any, name: str, **_: Any) -> None:
        operator.gone(name) if event["type"] == "DELETED" else operator.seen(_plain(body))

    @kopf.on.delete(*models, registry=registry, labels=labels)
    async def drain(body: Any, **_: Any) -> None:
        try:
            await asyncio.to_thread(operator.drain, _plain(body))
        except (PlatformError, OSError) as error:
            raise kopf.TemporaryError(str(error), delay=2) from None

    for watched in WATCHED:

        @kopf.on.event(*watched, registry=registry, labels=MANAGED, id="-".join(watched))
        async def changed(meta: Any, **_: Any) -> None:
            operator.changed(meta.get("labels", {}).get(MODEL, ""))

    ready = asyncio.Event()

    async def when_ready() -> None:
        await ready.wait()
        await leads()

    waiting = asyncio.create_task(when_ready())
    try:
        await kopf.operator(
            registry=registry, settings=settings, standalone=True, namespaces=[where.namespace], stop_flag=stop,
            ready_flag=ready,
        )  # fmt: skip
    finally:
        waiting.cancel()


def _plain(body: Any) -> Json:
    """An object as kopf shows it, as plain JSON to be kept."""
    return {key: _copy(value) for key, value in body.items()}


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(one) for key, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list) else value
