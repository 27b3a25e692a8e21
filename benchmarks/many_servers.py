"""One promotion, and its rollback, on 30 serving processes and 20 edges: when everyone answers with the new digest.

Real: the controller, the journal, Envoy and 30 services a version on this machine, signed bundles over HTTP, edges of
the built folder that look for a bundle each half second. The release is a short shadow and then a person's approval,
which promotes; the rollback is a person's too, both by the functions behind the commands. A bundle is built as soon as
the journal has the event. Two edges look at an address where nobody answers until everyone else is done.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.core import MODEL
from benchmarks.fleet import Place, asked, until
from benchmarks.load import bodies
from benchmarks.results import Budget, Result, say
from demo.story import command
from tidegate.controller import orders
from tidegate.controller.clock import WallClock
from tidegate.controller.feed import Feed
from tidegate.controller.loop import Controller
from tidegate.journal.store import open_journal
from tidegate.observations import Prediction, SegmentReader
from tidegate.orchestrators.local import LocalOrchestrator
from tidegate.register.models import trusted
from tidegate.serve.edge_build import build
from tidegate.spec import Model, ReleaseSpec, Replicas, ServingSpec, TriggersSpec, load_model
from tidegate.state import prepare
from tidegate.targets.local import LocalTarget
from tidegate.targets.processes import Record, free_port

PROCESSES, STEP, EDGES, UNREACHED, EVERY = 30, 2, 20, 2, 0.5
"""`STEP` services of each version start at once. `EVERY`: seconds between an edge's looks."""
UNTIL = ("2013-07-01T04:00Z", "2013-08-01T04:00Z")
WAIT = 900.0
RELEASE = {
    "minDuration": "1s", "block": None, "labelDeadline": "1s",
    "stages": [{"shadow": {"requests": 100}}, {"approval": {}}],
    "judge": {"loss": None, "errors": {"margin": "20%"}},
}  # fmt: skip
"""Only that it answers has to be proved, which takes a hundred requests and no label."""


@dataclass
class Change:
    """What a promotion or a rollback took, in seconds after its event was in the journal."""

    gateway: float
    """The last answer of the gateway with the old digest."""
    processes: float
    """Each of the new version's processes had answered a client."""
    reachable: float
    """The last of the edges that reach the server answered with the new digest."""
    late: float
    """The same of the two others, after their server came back."""
    built: float
    """The bundle was built."""


@dataclass
class Fleet:
    """Everything that runs: the controller's loop and target, edges, and who asks them."""

    folder: Path
    model: Model
    controller: Controller
    target: LocalTarget
    gateway: Place
    edges: list[Place] = field(default_factory=list)

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.folder / "state"

    @property
    def cloud(self) -> Path:
        """The folder whose bundle edges are offered."""
        return self.folder / "cloud"

    def scale(self, replicas: int) -> None:
        """Change the Model file's least replicas; the controller's next turns make it so."""
        serving = ServingSpec(replicas=Replicas(min=replicas, max=PROCESSES))
        spec = self.model.spec.model_copy(update={"serving": serving})
        self.controller.model = self.model.model_copy(update={"spec": spec})

    def running(self, version: str) -> int:
        """Processes of a version that are ready."""
        return sum(p.ready for p in Record(self.state / "target/processes.json").alive if p.version == version)


def run() -> Result:
    """Train two versions, fill the fleet, promote, roll back."""
    with tempfile.TemporaryDirectory(prefix="tidegate-many-") as made, ExitStack() as stack:
        fleet = _started(Path(made), stack)
        body = bodies(1)[0]
        until(lambda: fleet.running("v1") == 1, WAIT, "v1 does not start")
        build(fleet.model, fleet.state, fleet.cloud)
        there, gone = free_port(), free_port()
        fleet.edges = [stack.enter_context(_edge(fleet, n, gone if n < UNREACHED else there)) for n in range(EDGES)]
        stack.enter_context(_offered(fleet.cloud, there))
        say("many_servers: v2 is trained (not counted)")
        command("run", str(MODEL), "--until", UNTIL[1], "--mode", "stateless", "--state", str(fleet.state))
        until(lambda: fleet.running("v2") == 1, WAIT, "v2 does not start")
        stack.enter_context(asked([fleet.gateway], body, 0.01))
        stack.enter_context(asked(fleet.edges, body, EVERY))
        say(f"many_servers: {PROCESSES} processes of each version")
        starts = _fill(fleet)
        until(lambda: _stage(fleet) == "approval", WAIT, "the release waits for nobody")
        v1, v2 = (next(d for d, found in fleet.controller.state.versions.items() if found["version"] == version)
                  for version in ("v1", "v2"))  # fmt: skip
        return _told(fleet, starts, (v1, v2), [_change(fleet, "approve", v1, v2, gone),
                                               _change(fleet, "rollback", v2, v1, gone)])  # fmt: skip


def _started(folder: Path, stack: ExitStack) -> Fleet:
    """v1 is trained, and a controller turns in a thread; no trigger starts a run, and a release waits for a person."""
    state = folder / "state"
    say("many_servers: v1 is trained (not counted)")
    command("run", str(MODEL), "--until", UNTIL[0], "--state", str(state))
    found = load_model(MODEL)
    quiet = found.spec.model_copy(update={"triggers": TriggersSpec(), "release": ReleaseSpec.model_validate(RELEASE)})
    model = found.model_copy(update={"spec": quiet})
    prepare(state)
    target = LocalTarget(state, model=model.name, port=0, clock="wall", control_port=free_port(),
                         public_keys=trusted(model.spec.trust, state))  # fmt: skip
    journal = open_journal(state)
    doing: Any = (target, LocalOrchestrator(state), WallClock(), Feed(state, model))
    controller = Controller(model, journal, *doing)
    target.start()
    stack.callback(target.stop)
    looping = threading.Thread(target=controller.run)
    looping.start()
    stack.callback(looping.join)
    stack.callback(controller.stop)
    return Fleet(folder, model, controller, target, Place("gateway", target.port))


def _stage(fleet: Fleet) -> str:
    return str((fleet.controller.state.release or {}).get("state"))


def _fill(fleet: Fleet) -> float:
    """Let both versions have all their processes, some at a time; the seconds that it takes."""
    began = time.monotonic()
    for replicas in (*range(STEP, PROCESSES, STEP), PROCESSES):
        fleet.scale(replicas)
        until(lambda wanted=replicas: _least(fleet) >= wanted, WAIT, "a version does not get its processes")
    return time.monotonic() - began


def _least(fleet: Fleet) -> int:
    return min(fleet.running("v1"), fleet.running("v2"))


def _change(fleet: Fleet, word: str, old: str, new: str, gone: int) -> Change:
    """Order it, build the bundle, and wait for everyone."""
    say(f"many_servers: {word}")
    release = fleet.controller.state.release or {}
    orders.order(fleet.state, str(release["name"]), {"command": word, "by": "benchmark", "reason": word})
    began, wall = time.monotonic(), time.time()
    build(fleet.model, fleet.state, fleet.cloud)
    built = time.monotonic() - began
    late, reachable = fleet.edges[:UNREACHED], fleet.edges[UNREACHED:]
    until(lambda: all(place.newest() == new for place in (fleet.gateway, *reachable)), WAIT, "not everyone is reached")
    processes = _answered(fleet, new, wall)
    assert {place.newest() for place in late} == {old}
    back = time.monotonic()
    with _offered(fleet.cloud, gone):
        until(lambda: all(place.newest() == new for place in late), WAIT, "those who were away do not catch up")
    return Change(
        fleet.gateway.last(old, began), processes, max(place.first(new, began) for place in reachable),
        max(place.first(new, back) for place in late), built,
    )  # fmt: skip


def _answered(fleet: Fleet, digest: str, since: float) -> float:
    """Seconds until each process of the version had answered a client, by the log's own times."""
    first: dict[str, float] = {}
    running = {p.writer for p in Record(fleet.state / "target/processes.json").alive if p.digest == digest and p.ready}

    def everyone() -> bool:
        for writer in running - set(first):
            rows = (row for segment in _segments(fleet.state, writer) for row in segment if isinstance(row, Prediction))
            times = [row.wall for row in rows if row.arm == row.version and row.wall >= since]
            first.update({writer: min(times)} if times else {})
        return set(first) == running

    assert len(running) == PROCESSES
    until(everyone, WAIT, "not every process was asked")
    return max(first.values()) - since


def _segments(state: Path, writer: str) -> Iterator[Sequence[object]]:
    """The rows of one writer."""
    with tempfile.TemporaryDirectory() as only:
        for path in (state / "observations/predictions").glob(f"{writer}.*"):
            shutil.copyfile(path, Path(only) / path.name)
        yield list(SegmentReader(Path(only)).read())


@contextmanager
def _edge(fleet: Fleet, number: int, port: int) -> Iterator[Place]:
    """An edge of the first bundle, which looks for the next ones at a port of this machine."""
    folder = fleet.folder / f"edge-{number}"
    shutil.copytree(fleet.cloud, folder)
    words = (sys.executable, str(folder / "edge.py"), "--port", "0", "--every", str(EVERY), "--updates",
             f"http://127.0.0.1:{port}")  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    try:
        yield Place(f"edge {number}", int(process.stdout.readline().rsplit(":", 1)[1]))
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _offered(folder: Path, port: int) -> Iterator[None]:
    """The bundle of a folder behind a plain HTTP server."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    handler = functools.partial(Quiet, directory=str(folder / "bundle"))
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _told(fleet: Fleet, starts: float, known: tuple[str, str], changes: Sequence[Change]) -> Result:
    places = (fleet.gateway, *fleet.edges)
    digests = {digest for place in places for _, digest in place.answers}
    third, other = digests - set(known), sum((place.other for place in places), start=Counter[str]())
    answers = sum(len(place.answers) for place in places)
    rows = [
        (what, *(f"{getattr(change, name):.2f} s" for change in changes))
        for what, name in (
            ("the gateway's last answer with the old digest", "gateway"),
            (f"each of {PROCESSES} processes has answered a client with the new one", "processes"),
            ("the signed bundle for edges is built", "built"),
            (f"the last of {EDGES - UNREACHED} reachable edges answers with it", "reachable"),
            (f"the {UNREACHED} unreachable ones, after their server came back", "late"),
        )
    ]
    budgets = [
        Budget("answers with a third digest", "0", str(len(third)), not third),
        Budget("requests without a 200", "0", json.dumps(dict(other)) if other else "0", not other),
    ]
    notes = [
        f"{answers:,} answers, asked of the gateway about 100 times a second and of each edge every {EVERY} s.",
        f"Before it {2 * PROCESSES} processes were started in {starts:.0f} s, {2 * STEP} at a time, on two cores.",
        f"An edge looks for a bundle every {EVERY} s here; its default is 60 s.",
        "The old version's processes go on as a shadow (watch), so a rollback starts nothing.",
    ]
    figures = {"changes": [vars(change) for change in changes], "starts": starts, "answers": answers}
    columns = ("seconds after the event was in the journal", "promotion", "rollback")
    return Result("many_servers", "one promotion on 30 processes and 20 edges", columns, rows, budgets, notes, figures)
