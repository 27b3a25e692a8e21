"""Real parts: one trained pair of versions a session, copied for each test; `tidegate up` on the copy."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from tidegate.journal.fold import ModelState, fold  # noqa: E402
from tidegate.journal.store import open_journal  # noqa: E402
from tidegate.targets.processes import wait_until  # noqa: E402

QUICK = ROOT / "tests/models/quick.yaml"
TIDEGATE = (sys.executable, "-m", "tidegate.cli")
FIRST, SECOND = "2013-04-01T00:00:00Z", "2013-04-08T00:00:00Z"
"""Until when v1 and v2 were trained; traffic goes on from the second one."""


def tidegate(*words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """One command, from the repository's folder, that must end with `status`."""
    done = subprocess.run(
        [*TIDEGATE, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def named(state: Path) -> list[str]:
    """Command lines of this machine's processes that name the state folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(state) in line and process.status() != psutil.STATUS_ZOMBIE:
            found.append(line)
    return found


@dataclass
class Up:
    """``tidegate up`` on a state folder, as a process."""

    state: Path
    model: Path = QUICK
    clock: str = "events"
    port: int = 0
    process: subprocess.Popen[str] | None = None
    gateway: str = ""

    def start(self) -> Up:
        """Start it and wait until it is ready."""
        words = ("up", self.model, "--state", self.state, "--port", self.port, "--clock", self.clock, "--json")
        self.process = subprocess.Popen(
            [*TIDEGATE, *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.gateway = json.loads(line)["gateway"]
        return self

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal to it, and wait; returns its exit status."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        self.process.stdout.close()
        self.process.stderr.close()
        return status

    @property
    def token(self) -> str:
        return (self.state / "token").read_text().strip()

    def ask(self, path: str, token: bool = True, **more: Any) -> httpx.Response:
        """POST with a body, GET without one."""
        headers = {"authorization": f"Bearer {self.token}"} if token else {}
        method = "POST" if more else "GET"
        return httpx.request(method, self.gateway + path, headers=headers, timeout=20, trust_env=False, **more)

    def serving(self) -> Up:
        """Wait until a version answers."""
        assert wait_until(lambda: self.ask("/readyz").status_code == 200, 60, every=0.05)
        return self

    def until(self, reached: Callable[[ModelState], Any], seconds: float = 60) -> ModelState:
        """Wait for the journal to say so."""
        assert wait_until(lambda: reached(journaled(self.state)), seconds, every=0.05), self.ask("/status").text
        return journaled(self.state)


def journaled(state: Path) -> ModelState:
    """The journal folded."""
    journal = open_journal(state)
    try:
        return fold(journal.read("quick"))
    finally:
        journal.close()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which v1 serves by the journal, v2 was trained a week later and waits."""
    state = tmp_path_factory.mktemp("trained") / "state"
    tidegate("run", QUICK, "--state", state, "--until", FIRST, "--mode", "stateless")
    _crown(state)
    tidegate("run", QUICK, "--state", state, "--until", SECOND, "--mode", "stateless")
    return state


def _crown(state: Path) -> None:
    """The decision of a first turn, without a target."""
    from tidegate.controller.reconcile import Seen, reconcile
    from tidegate.spec import load_model

    journal, now = open_journal(state), journaled(state)
    journal.append("quick", reconcile(load_model(QUICK), now, Seen(now.time)), now.seq)
    journal.close()


@pytest.fixture
def state(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained folder; what the steps cached is left out."""
    shutil.copytree(trained, tmp_path / "state", ignore=shutil.ignore_patterns("runs", "dvc-*", "mlflow*"))
    return tmp_path / "state"


@pytest.fixture
def up(state: Path) -> Iterator[Callable[..., Up]]:
    """Starts ``tidegate up`` on the copy; whatever is left is killed at the end."""
    started: list[Up] = []

    def start(**settings: Any) -> Up:
        started.append(Up(state, **settings))
        return started[-1].start()

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end()
    for process in psutil.process_iter(["cmdline"]):
        if str(state) in " ".join(process.info["cmdline"] or []):
            process.kill()


@pytest.fixture(scope="session")
def questions() -> Sequence[Any]:
    """Six days of flights from the second training on, half of them."""
    from datetime import datetime, timedelta

    from flights.requests import load_traffic
    from flights.requests import questions as asked
    from tidegate.traffic.questions import share_of

    since = datetime.fromisoformat(SECOND)
    return share_of(list(asked(load_traffic(since, since + timedelta(days=6)))), 0.5, seed=1)
