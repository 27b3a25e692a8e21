"""The whole life of a model on real flights, told by what the journal says happened.

v1 is trained on January to June and serves. July to October come as live traffic. Nobody starts the retraining: a
trigger does. Once its challenger is in canary a sabotaged candidate is handed in, which passes the model gate and must
be stopped in production. Nothing here decides: `check` reads the journal and fails when the story did not happen.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flights.requests import Question, load_traffic, questions
from flights.workload import ZONE
from tidegate.journal.events import Event
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.store import Journal, open_journal
from tidegate.journal.views import iso
from tidegate.spec import load_model
from tidegate.state import token
from tidegate.traffic.questions import share_of
from tidegate.traffic.replay import Replay, Tally

ROOT = Path(__file__).resolve().parents[1]
TIDEGATE = (sys.executable, "-m", "tidegate.cli")


@dataclass(frozen=True)
class Setting:
    """What is played: `share` of the flights between `since` and `until` (UTC), drawn with `seed`, at `rate` a second.

    `sabotaged` is the Model file whose candidate is handed in once a challenger has this share of the traffic.
    """

    model: Path
    sabotaged: Path
    state: Path
    since: datetime
    until: datetime
    share: float
    seed: int
    rate: float
    sabotage_at: float = 0.05


@dataclass
class Played:
    """What happened: the traffic's tally, seconds by part, the journal's events, faults found by `check`."""

    setting: Setting
    tally: Tally = field(default_factory=Tally)
    seconds: dict[str, float] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    rows: int = 0
    replayed: str = ""
    left: list[str] = field(default_factory=list)

    @property
    def state(self) -> ModelState:
        """The journal folded."""
        return fold(self.events)

    @property
    def speed(self) -> float:
        """Event days a second of wall time while the traffic moved."""
        days = (self.setting.until - self.setting.since).total_seconds() / 86400
        return days / max(self.tally.seconds - self.tally.stood_still, 1e-9)


def day(text: str) -> datetime:
    """Its first moment in New York; ValueError for what is no date."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE)).astimezone(UTC)


def play(setting: Setting, console: Console) -> Played:
    """Train v1, serve it, send the traffic, stop; raises SystemExit with the output when a command fails."""
    played = Played(setting)
    with _timed(played, "first version", console):
        command("run", str(setting.model), "--until", setting.since.isoformat(), "--state", str(setting.state))
    with _timed(played, "traffic prepared", console):
        asked = share_of(list(questions(load_traffic(setting.since, setting.until))), setting.share, setting.seed)
    with (
        _timed(played, "gateway, service and controller started", console),
        up(setting.model, setting.state) as gateway,
    ):
        serving(gateway)
        started = time.monotonic()
        with _progress(console, asked, played) as watch:
            replay = Replay(asked, gateway, token(setting.state), setting.rate, watch)
            played.tally = asyncio.run(replay.run())
        played.seconds["replay"] = time.monotonic() - started
    played.left = [line for line in _processes() if str(setting.state) in line]
    played.events = open_journal(setting.state).read(load_model(setting.model).name)
    played.rows = rows_in_log(setting.state)
    with _timed(played, "journal replayed", console):
        played.replayed = command("replay", "--state", str(setting.state))
    return played


def rows_in_log(state: Path) -> int:
    """Rows that the services logged as answers to users: copies for a shadow are not counted."""
    from tidegate.observations import Prediction, SegmentReader

    found = SegmentReader(state / "observations" / "predictions").read()
    return sum(isinstance(r, Prediction) and r.arm in (None, r.version) for r in found)


class Sabotage:
    """Hands the sabotaged candidate in, once, as somebody would: by ``tidegate run``."""

    def __init__(self, setting: Setting) -> None:
        self._setting, self._process = setting, None

    def working(self, state: ModelState) -> bool:
        """Start when a challenger has its share of the traffic; whether the run is at work."""
        if self._process is None and self._is_time(state):
            words = (*TIDEGATE, "run", str(self._setting.sabotaged), "--state", str(self._setting.state), "--json")
            until = ("--until", iso(state.time))
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                (*words, *until), cwd=ROOT, stdout=subprocess.DEVNULL
            )
        return self._process is not None and self._process.poll() is None

    def _is_time(self, state: ModelState) -> bool:
        release = state.release
        return release is not None and release["state"] == "canary" and release["weight"] >= self._setting.sabotage_at


@contextmanager
def _progress(console: Console, asked: list[Question], played: Played) -> Iterator[Any]:
    """A progress bar over the traffic with event date, champion and release; yields the replay's `watch`."""
    setting = played.setting
    sabotage, journal = Sabotage(setting), open_journal(setting.state)
    name = load_model(setting.model).name
    state = ModelState(model=name)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("flights", total=len(asked))

        def watch(now: float, done: float) -> bool:
            nonlocal state
            state = follow(journal, state, console)
            progress.update(task, completed=int(done * len(asked)), description=_where(now, state))
            return sabotage.working(state)

        yield watch


def follow(journal: Journal, state: ModelState, console: Console) -> ModelState:
    """Read what the journal got, say what matters, return the state after it."""
    from tidegate.journal.views import is_quiet, line

    events = journal.read(state.model, state.seq)
    for event in events:
        if not is_quiet(event) and not event.kind.startswith("serve."):
            console.print(line(event), highlight=False, soft_wrap=True)
    return fold(events, state)


def _where(now: float, state: ModelState) -> str:
    release = state.release
    on_way = release and release["state"] in ("shadow", "canary")
    way = f", {release['challengers'][0]['name']} in {release['state']} {release['weight']:.0%}" if on_way else ""
    return f"{iso(now)[:10]} {state.champion.version if state.champion else '-'}{way}"


@contextmanager
def _timed(played: Played, part: str, console: Console) -> Iterator[None]:
    started = time.monotonic()
    with console.status(part):
        yield
    played.seconds[part] = time.monotonic() - started
    console.print(f"{part}: {played.seconds[part]:.1f} s", highlight=False)


def command(*words: str) -> str:
    """Run ``tidegate`` with these words; returns what it printed, raises SystemExit with it when it fails."""
    done = subprocess.run((*TIDEGATE, *words), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"tidegate {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


@contextmanager
def up(model: Path, state: Path) -> Iterator[str]:
    """``tidegate up`` while the block runs; yields the gateway's address."""
    words = ("up", str(model), "--state", str(state), "--port", "0", "--clock", "events", "--json")
    process = subprocess.Popen((*TIDEGATE, *words), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield _ready(process.stdout)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _ready(output: IO[str] | None) -> str:
    line = output.readline() if output else ""
    if not line:
        raise SystemExit("tidegate up ended before it was ready")
    return str(json.loads(line)["gateway"])


def serving(gateway: str, seconds: float = 60) -> None:
    """Wait until the first version answers; SystemExit when it does not in so many seconds."""
    import httpx

    limit = time.monotonic() + seconds
    with httpx.Client(base_url=gateway, trust_env=False) as client:
        while time.monotonic() < limit:
            if client.get("/readyz").status_code == 200:
                return
            time.sleep(0.05)
    raise SystemExit(f"no version serves after {seconds:g} s")


def _processes() -> list[str]:
    """Command lines of the processes of this machine that are not this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return found
