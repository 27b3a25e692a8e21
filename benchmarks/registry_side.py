"""One storm on the registry: 8 processes register and promote 50 candidates at once and are killed at random points.

Every process does what a run's register step and a controller do: it stores and registers its share of the candidates,
and it opens releases, looks at their evidence and promotes or aborts, each by one compare-and-swap on the journal. Two
things are made up: evidence, which is drawn from each candidate's true loss, and MLflow's mirror, which is left out.
"""

from __future__ import annotations

import importlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from tidegate.controller.reconcile import Seen, reconcile
from tidegate.errors import Conflict
from tidegate.journal.events import Event
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.store import Journal, open_journal, verify
from tidegate.register import registry
from tidegate.register.models import public_key
from tidegate.register.step import register
from tidegate.release.stages import ENDED
from tidegate.spec import Model, parse_model
from tidegate.train import model_file
from tidegate.train.model_file import FILES, folder_name, write_manifest

NAME, UNTIL, START = "storm", "2024-02-01T00:00:00Z", 1706745600.0
CANDIDATES, PROCESSES, KILLS = 50, 8, 12
_IMPORTED_LATE = ("tidegate.steps", "scipy.special", "cryptography.hazmat.primitives.asymmetric.ed25519", "sqlite3")
"""Imported once by the parent, not in every process that is forked."""
DEADLINE = 180.0
"""Seconds after which a round that has not ended has failed."""


def model() -> Model:
    """Releases of one stage that a single look decides."""
    release = {
        "minDuration": "1h",
        "block": None,
        "stages": [{"canary": {"weights": ["50%"], "requests": 1}}],
        "judge": {"loss": {"metric": "brier", "margin": 0.05}, "errors": None},
    }
    spec = {"workload": "flights.workload:flight_delay", "release": release}
    document = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "Model", "metadata": {"name": NAME}, "spec": spec}
    return parse_model(document, "storm")


def make_candidates(folder: Path, count: int, draw: random.Random) -> None:
    """What the steps before register leave of `count` runs; a candidate's true loss stands in its training.json.

    Losses fall with the number by more than the draw adds: the first one registered is never the best of them.
    """
    for number in range(count):
        loss = (count - number) / count + 0.5 * draw.random()
        made = folder / f"{number}"
        (made / "model").mkdir(parents=True)
        (made / "valid").mkdir()
        for name in FILES:
            (made / "model" / name).write_text(f"{number} {name}")
        training = {
            "digest": write_manifest(made / "model"),
            **dict.fromkeys(("parent", "lineage", "search", "params", "seeds")),
            **{"mode": "stateless", "reason": "", "rows": 10, "train_rows": 8, "train_from": 0.0, "train_until": 5.0},
            **{"feature_schema_digest": "sha256:s", "architecture_digest": "sha256:a"},
            "metrics": {"train_log_loss": loss},
        }
        (made / "model" / "training.json").write_text(json.dumps(training))
        (made / "valid" / "report.json").write_text(json.dumps({"ok": True}))
        (made / "valid" / "profile.json").write_text("{}")
        (made / "data_version.json").write_text(json.dumps({"version": f"{number}.dir"}))
        (made / "gate.json").write_text(json.dumps({"verdict": "passed", "reason": "not_worse"}))


def loss_of(state: ModelState, digest: str) -> float:
    """The true loss of a registered version."""
    return float(state.versions[digest]["metrics"]["train_log_loss"])


def evidence_of(state: ModelState, now: float) -> dict[str, Any] | None:
    """What the open release would have seen: proof of the difference that the true losses have; None without one."""
    release = state.release
    if release is None or release["state"] in ENDED:
        return None
    old, new = (loss_of(state, side["digest"]) for side in (release["champion"], release["challengers"][0]))
    watched = release["state"] == "watch"
    effect, n = 0.0 if watched else -0.2 if new < old else 0.2, 20_000
    told = {"n": n, "sum_y": effect * n, "S": effect * n, "V": abs(effect) * n, "W": float(n)}
    counts = {"requests": n, "matured": n, "by_weight": {"0.5": n}}
    place = {"states": {"loss": told}, "blocks": {}, "counts": counts}
    return {"watermark": now, "places": {"split": place, "watch": place}, "late_labels": 0}


def work(base: Path, state: Path, acks: Path, share: Sequence[int]) -> None:
    """A process of the storm: it registers its share, then helps until all is decided. It may start again."""
    _note_acknowledged(acks)
    registry.mirror = lambda *given: ""  # type: ignore[assignment]
    journal, wanted, known = open_journal(state, create=True), model(), ModelState(model=NAME)
    for number in share:
        made = base / f"{number}"
        inputs = {name: made / name for name in ("model", "valid")}
        inputs |= {name: made / f"{name}.json" for name in ("data_version", "gate")}
        register(inputs, acks.with_suffix(".candidate"), state, NAME, UNTIL, f"run-{number}", "manual")
        known = turn(journal, wanted, known)
    while not settled(known):
        known = turn(journal, wanted, known)


def turn(journal: Journal, wanted: Model, known: ModelState) -> ModelState:
    """What a controller does once: read, decide, write by compare-and-swap; a lost swap writes nothing."""
    state = fold(journal.read(NAME, known.seq), known)
    now = state.time + 7200.0
    drafts = reconcile(wanted, state, Seen(now, evidence_of(state, now))) if state.versions else []
    try:
        return fold(journal.append(NAME, drafts, state.seq), state)
    except Conflict:
        return state


def settled(state: ModelState) -> bool:
    """Whether every candidate is registered and none waits or is in a release."""
    gathers = state.release is not None and state.release["state"] not in (*ENDED, "watch")
    return len(state.versions) == CANDIDATES and not state.waiting and not gathers


def _note_acknowledged(acks: Path) -> None:
    """From here on each event that the journal acknowledged to this process is noted in a file of its own."""
    append, file = Journal.append, os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def noted(self: Journal, name: str, drafts: Any, expected: int) -> list[Event]:
        events = append(self, name, drafts, expected)
        os.write(file, "".join(f"{event.seq} {event.hash}\n" for event in events).encode())
        return events

    Journal.append = noted  # type: ignore[method-assign]


@dataclass(frozen=True)
class Round:
    """What a storm left: events, promotions, processes killed, seconds."""

    events: int
    promotions: int
    kills: int
    seconds: float


def storm(folder: Path, seed: int) -> Round:
    """One round in an empty folder; AssertionError says what was lost."""
    draw, began = random.Random(seed), time.monotonic()
    for name in _IMPORTED_LATE:
        importlib.import_module(name)
    make_candidates(folder / "made", CANDIDATES, draw)
    kills = _blow(folder, draw, began)
    events = open_journal(folder / "state").read(NAME)
    check(folder, events)
    return Round(len(events), len(fold(events).history), kills, time.monotonic() - began)


def _blow(folder: Path, draw: random.Random, began: float) -> int:
    """Run the processes and kill `KILLS` of them, each at once started again; returns how many were killed at work."""
    context, kills, starts = multiprocessing.get_context("fork"), 0, 0

    def start(number: int) -> Any:
        nonlocal starts
        starts += 1
        acks, share = folder / f"acks-{number}-{starts}", range(number, CANDIDATES, PROCESSES)
        process = context.Process(target=work, args=(folder / "made", folder / "state", acks, share), daemon=True)
        process.start()
        return process

    working = {number: start(number) for number in range(PROCESSES)}
    while working:
        assert time.monotonic() - began < DEADLINE, "the storm does not end"
        pause = draw.expovariate(1 / 0.06) if kills < KILLS else 1.0
        wait([process.sentinel for process in working.values()], pause)
        if kills < KILLS:
            victim = draw.choice(sorted(working))
            os.kill(working[victim].pid, signal.SIGKILL)
            working[victim].join()
            if working[victim].exitcode == -signal.SIGKILL:
                kills, working[victim] = kills + 1, start(victim)
        ended = [number for number, process in working.items() if not process.is_alive()]
        for number in ended:
            process = working.pop(number)
            assert process.exitcode == 0, f"process {number} ended with {process.exitcode}"
    return kills


def check(folder: Path, events: Sequence[Event]) -> None:
    """AssertionError unless `events` are one whole history of the round in `folder`."""
    verify(events)
    hashes = {event.seq: event.hash for event in events}
    noted = [line.split() for path in folder.glob("acks-*[0-9]") for line in path.read_text().splitlines()]
    lost = [seq for seq, told in noted if hashes.get(int(seq)) != told]
    assert noted, "nothing was acknowledged"
    assert not lost, f"acknowledged and lost: events {lost}"
    candidates = [event.data for event in events if event.kind == "register.candidate"]
    assert sorted(data["run"] for data in candidates) == sorted(f"run-{n}" for n in range(CANDIDATES)), "runs"
    assert {data["version"] for data in candidates} == {f"v{n}" for n in range(1, CANDIDATES + 1)}, "version names"
    check_champions(events)
    for data in candidates:
        kept = folder / "state" / "models" / folder_name(data["digest"])
        model_file.verify(kept, data["digest"], [public_key(folder / "state")])


def check_champions(events: Sequence[Event]) -> None:
    """The champion only ever got better, and each candidate's fate is in the journal."""
    state = fold(events)
    losses = [loss_of(state, served.digest) for served in state.history]
    assert all(later < earlier for earlier, later in itertools.pairwise(losses)), f"went back: {losses}"
    superseded = {event.data["digest"] for event in events if event.kind == "release.superseded"}
    served = {one.digest for one in state.history}
    assert served | set(state.quarantined) | superseded == set(state.versions), "a candidate without a fate"
    assert not served & (set(state.quarantined) | superseded), "a champion that was aborted or passed over"
    tried = [loss_of(state, digest) for digest in served | set(state.quarantined)]
    assert losses[-1] == min(tried), "a better one was tried, and another serves"
