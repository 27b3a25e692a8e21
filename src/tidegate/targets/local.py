"""Target `local`: Envoy and one process for each replica, detached, under one state folder.

Order of a change: new services start and answer their readiness probe, Envoy learns their clusters, then the routes;
what left the plan is drained, leaves the clusters and is stopped. So no request meets a service that is not there.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from tidegate.errors import NotReady, PlatformError
from tidegate.release.plan import Backend, Plan
from tidegate.targets.base import Observed, Running
from tidegate.targets.gatewayd import Gateway, http
from tidegate.targets.processes import Process, Record, Role, listen, spawn, stop, tail, wait_until
from tidegate.targets.routes import MERGE
from tidegate.train.model_file import folder_name

READY_SECONDS = 60.0
"""Longest wait for a service's readiness probe; it is given up at once when its process ends."""


WALL_LAG = 2.0
"""Seconds: more than a service's time between two marks and the one between two flushes."""


class LocalTarget:
    """Runs one model's services on this machine.

    Parameters
    ----------
    state: the state folder; models are read from STATE/models/<hex>, rows go to STATE/observations/predictions.
    port: the gateway's port, 0 to choose a free one.
    clock: ``wall`` or ``events``, handed to the services.
    control_port: where /labels, /clock, /status and /console go.
    public_keys: Ed25519 keys in hex; with none, signatures are not checked.
    services: further arguments of the services, as those with which they answer by entity key.
    """

    def __init__(
        self, state: Path, *, model: str, port: int, clock: str, control_port: int, public_keys: Sequence[str] = (),
        services: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._state, self._model, self._clock, self._public_keys = state.resolve(), model, clock, tuple(public_keys)
        self._service_arguments = tuple(services)
        folder = self._state / "target"
        self._logs = folder / "logs"
        self._record = Record(folder / "processes.json")
        self._gateway = Gateway(folder, self._record, port, control_port)
        self._marks: dict[str, float] = {}
        self._now = 0.0
        self._changing = threading.RLock()

    @property
    def port(self) -> int:
        """The gateway's port."""
        return self._gateway.port

    def start(self) -> None:
        """Adopt the gateway and the services that run, or start the gateway; UserError when its port is in use."""
        with self._changing:
            self._gateway.ensure(keep_routes=bool(self._services()))

    def apply(self, plan: Plan) -> None:
        """As `Target.apply`."""
        with self._changing:
            self.start()
            wanted = self._ensure(plan.backends)
            wanted += self._ensure_merge(plan, wanted)
            leaving = [process for process in self._writing() if process not in wanted]
            self._gateway.clusters(_endpoints([*leaving, *wanted]))
            self._gateway.routes(plan)
            self._leave(leaving, wanted)
            self._record.prune()

    def observe(self) -> Observed:
        """As `Target.observe`: readiness probes, and the routes that Envoy has in force."""
        ready: dict[tuple[str, str], int] = defaultdict(int)
        for process in self._services():
            if (seen := self._answers(process)) is not None:
                ready[seen] += 1
        running = tuple(Running(version, digest, count) for (version, digest), count in sorted(ready.items()))
        traffic = self._gateway.in_force()
        merges = any(self._answers(process) is not None for process in self._of("merge"))
        return replace(traffic, running=running, merge=traffic.merge if merges else ())

    def mark(self, now: float) -> float:
        """Announce event time to every running service; the time up to which all of them have written their rows.

        One that runs and does not answer holds it at what it promised last. Under the wall clock services promise by
        themselves, and a row is on disk `WALL_LAG` after its answer.
        """
        if self._clock == "wall":
            return now - WALL_LAG
        self._now = max(self._now, now)
        services = [process for process in self._writing() if process.ready]
        return min((self._announce(process) for process in services), default=self._now)

    def writers(self) -> frozenset[str]:
        """Names under which running services write the prediction log."""
        return frozenset(process.writer for process in self._writing() if process.ready)

    def stop(self) -> None:
        """Drain and stop the gateway, then the services; no process is left."""
        with self._changing:
            self._gateway.stop()
            stop(self._writing())
            self._record.prune()

    def _services(self) -> list[Process]:
        return self._of("service")

    def _writing(self) -> list[Process]:
        """Whatever writes the prediction log: services, and the merge service where there is one."""
        return self._of("service", "merge")

    def _of(self, *roles: str) -> list[Process]:
        return [process for process in self._record.alive if process.role in roles]

    def _ensure(self, backends: Iterable[Backend]) -> list[Process]:
        """The processes of the plan, all ready; those that were missing are started."""
        running = self._services()
        wanted: list[Process] = []
        started: list[Process] = []
        for backend in backends:
            found = [p for p in running if (p.version, p.digest) == (backend.version, backend.digest)]
            missing = [self._spawn(backend) for _ in range(backend.replicas - len(found))]
            wanted += [*found[: backend.replicas], *missing]
            started += missing
        try:
            return [self._when_ready(process) for process in wanted]
        except PlatformError:
            stop(started, grace=2.0)
            self._record.prune()
            raise

    def _spawn(self, backend: Backend) -> Process:
        model = self._state / "models" / folder_name(backend.digest)
        arguments = ["--model-dir", str(model), "--digest", backend.digest, "--version", backend.version]
        arguments += self._service_arguments
        for key in self._public_keys:
            arguments += ["--public-key", key]
        return self._start("service", backend.version, backend.digest, arguments)

    def _ensure_merge(self, plan: Plan, services: Sequence[Process]) -> list[Process]:
        """The merge service between these services, ready; none where no lists are merged."""
        if not plan.merge:
            return []
        places = _endpoints(services)
        sides = [f"{version}={','.join(map(str, places[version]))}" for version in plan.merge]
        between = " ".join(sides)
        words = ["--champion", sides[0], "--challenger", sides[1]]
        same = [process for process in self._of("merge") if process.digest == between]
        process = same[0] if same else self._start("merge", MERGE, between, words)
        try:
            return [self._when_ready(process)]
        except PlatformError:
            stop([process], grace=2.0)
            self._record.prune()
            raise

    def _start(self, role: Role, version: str, digest: str, words: Sequence[str]) -> Process:
        """Start ``tidegate.serve.<role>`` with these arguments and those that every writer of the log gets."""
        writer = f"{version}-{time.time_ns() // 1000:x}"
        log = self._logs / f"{writer}.log"
        with listen() as listening:
            arguments = [
                sys.executable, "-m", f"tidegate.serve.{role}", *words,
                "--name", self._model, "--writer", writer, "--clock", self._clock,
                "--observations", str(self._state / "observations" / "predictions"),
                "--token-file", str(self._state / "token"), "--fd", "3",
            ]  # fmt: skip
            pid, created = spawn(arguments, log, listening)
            port = int(listening.getsockname()[1])
        process = Process(role, pid, created, port, str(log), version=version, digest=digest, writer=writer)
        self._record.put(process)
        return process

    def _when_ready(self, process: Process) -> Process:
        """Wait for the readiness probe, once in a process's life; then tell it the time: it must hold nobody back."""
        if process.ready:
            return process
        if not wait_until(lambda: self._answers(process) is not None or not process.alive, READY_SECONDS):
            raise NotReady(process.version, f" in {READY_SECONDS:.0f} s")
        if not process.alive:
            raise NotReady(process.version, f": {tail(Path(process.log))}")
        if self._clock == "events" and self._now:
            self._announce(process)
        ready = msgspec.structs.replace(process, ready=True)
        self._record.put(ready)
        return ready

    def _leave(self, leaving: Sequence[Process], staying: Sequence[Process]) -> None:
        """Wait until nothing is in flight to what left, take it out of the clusters, and stop it."""
        if not leaving:
            return
        versions = {process.version for process in leaving} - {process.version for process in staying}
        wait_until(lambda: all(self._gateway.drained(version) for version in versions), 15.0)
        self._gateway.clusters(_endpoints(staying))
        stop(leaving)

    def _answers(self, process: Process) -> tuple[str, str] | None:
        """(version, digest) that the process itself states when it is ready, else None."""
        status, headers, _ = http(process.port, "/readyz")
        if status != 200:
            return None
        return headers.get("x-tidegate-model", "").rpartition("@")[2], headers.get("x-tidegate-digest", "")

    def _announce(self, process: Process) -> float:
        token = (self._state / "token").read_text().strip()
        body = json.dumps({"now": self._now}).encode()
        status, _, answer = http(process.port, "/clock", "POST", body, token)
        if status == 200:
            self._marks[process.writer] = float(json.loads(answer)["now"])
        elif not process.alive:
            return self._now
        return self._marks.get(process.writer, 0.0)


def _endpoints(processes: Iterable[Process]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for process in processes:
        found[process.version].append(process.port)
    return dict(found)
