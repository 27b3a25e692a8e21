"""The pure core on made-up rows: one look of the judge, the label join, a long journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from demo.story import ROOT
from tidegate.controller.reconcile import Seen, reconcile
from tidegate.journal.events import Draft
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.store import open_journal
from tidegate.monitor.join import LabelJoin
from tidegate.observations import Label, Prediction
from tidegate.release.evidence import Evidence
from tidegate.release.fold import EvidenceFold
from tidegate.release.machine import open_release, step_from_json
from tidegate.release.policy import policy_of
from tidegate.release.rows import Labels, Rows, rows_of
from tidegate.release.stages import Version
from tidegate.spec import Model, load_model

DAY, LOOK = 86400.0, 4 * 3600.0
MODEL = ROOT / "k8s/models/flight-delay.yaml"


def looks(rows: int, count: int, seed: int = 1) -> list[tuple[float, float]]:
    """(wall, CPU) seconds of each of `count` looks of a canary at one half, `rows` new observations and labels each.

    From rows and labels in hand to the recorded judgement: what the controller does at one moment. The first look has
    no matured row yet.
    """
    model, rng = load_model(MODEL), np.random.default_rng(seed)
    release = open_release(
        name="r",
        model=model.name,
        champion=Version("v1", "sha256:a"),
        challengers=(Version("v2", "sha256:b"),),
        spec=model.spec.release,
        now=0.0,
    )
    canary = replace(release, state="canary", stage=1, step=3).to_json()
    gathered, seconds = EvidenceFold(policy_of(model.spec.release)), []
    for look in range(count):
        new, labels = _split(rng, rows, look * DAY, look * rows)
        began, cpu = time.perf_counter(), time.process_time()
        gathered.add(new)
        gathered.label(labels)
        step_from_json(canary, gathered.advance((look + 1) * DAY).to_json(), (look + 1) * DAY)
        seconds.append((time.perf_counter() - began, time.process_time() - cpu))
    return seconds


def _split(rng: np.random.Generator, size: int, start: float, first: int) -> tuple[Rows, Labels]:
    """A day's rows of two arms, half and half, and their labels two hours later."""
    at, ids = np.sort(rng.uniform(start, start + DAY, size)), [f"q{first + i}" for i in range(size)]
    score, late = rng.uniform(0, 1, size), (rng.random(size) < 0.3).astype(float)
    error, latency = rng.random(size) < 0.001, np.full(size, 9.0)
    rows = rows_of(
        at, ids, rng.integers(0, 2, size), np.full(size, 0.5), score=score, error=error, latency_ms=latency
    )  # fmt: skip
    return rows, Labels(at + 7200, ids, late)


def label_join(rows: int, batches: int) -> list[float]:
    """Seconds of each batch of `rows` predictions and as many labels through the join, in order of time."""
    join, seconds = LabelJoin(deadline=DAY), []
    for batch in range(batches):
        predictions, labels = _batch(rows, batch)
        began = time.perf_counter()
        join.add_predictions(predictions)
        join.add_labels(labels)
        join.rows((batch + 1) * DAY)
        seconds.append(time.perf_counter() - began)
    return seconds


def _batch(rows: int, batch: int) -> tuple[list[Prediction], list[Label]]:
    times = [(batch + i / rows) * DAY for i in range(rows)]
    names = [f"{batch}-{i}" for i in range(rows)]
    return (
        [
            Prediction(f"{name}/0", at, at, "v1", "sha256:a", "v1", 1.0, None, 0.3, False, 2.0, [])
            for name, at in zip(names, times, strict=True)
        ],
        [Label(name, at + 7200, at + 7200, 0.0, "observed") for name, at in zip(names, times, strict=True)],
    )


def fill_journal(state: Path, events: int) -> int:
    """Let the journal of a state folder with a first version grow to about `events`, by looks at a second one."""
    model, journal = load_model(MODEL), open_journal(state)
    known = fold(journal.read(model.name), ModelState(model=model.name))
    for drafts in _life(model, known):
        known = fold(journal.append(model.name, drafts(known), known.seq), known)
        if known.seq >= events:
            break
    journal.close()
    return known.seq


def _life(model: Model, known: ModelState) -> Iterator[Callable[[ModelState], list[Draft]]]:
    """What the journal gets next, as functions of its state: v1 serves, v2 comes, then look after look."""
    start, (digest, first) = known.time, next(iter(known.versions.items()))
    second = {**first, "digest": f"sha256:{'0' * 64}", "version": "v2", "run": "benchmark"}
    assert digest != second["digest"]
    yield lambda state: reconcile(model, state, Seen(start))
    yield lambda state: [Draft("register.candidate", start, second)]
    yield lambda state: reconcile(model, state, Seen(start))
    for seen in _moments(model, start):
        yield partial(reconcile, model, seen=seen)


def _moments(model: Model, start: float) -> Iterator[Seen]:
    """Every four hours of event time: 150 requests with their copies in shadow, rows and a tick for the triggers."""
    rng, gathered, now = np.random.default_rng(3), EvidenceFold(policy_of(model.spec.release)), start
    while True:
        evidence = _shadowed(gathered, rng, now, 150)
        now += LOOK
        events = [{"kind": "rows", "time": now, "count": 150}, {"kind": "tick", "time": now}]
        yield Seen(now, evidence.to_json(), events)


def _shadowed(gathered: EvidenceFold, rng: np.random.Generator, start: float, size: int) -> Evidence:
    at, ids = np.sort(rng.uniform(start, start + LOOK, size)), [f"{start:.0f}-{i}" for i in range(size)]
    for arm in (0, 1):
        copies = np.full(size, arm == 1)
        score, latency = rng.uniform(0, 1, size), np.full(size, 9.0)
        arms = np.full(size, arm)
        gathered.add(rows_of(at, ids, arms, np.ones(size), mirrored=copies, score=score, latency_ms=latency))
    gathered.label(Labels(at + 7200, ids, (rng.random(size) < 0.3).astype(float)))
    return gathered.advance(start + LOOK)
