"""Streams of windows without drift: how often looking again and again, pools included, gives an alarm."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks import diagnosis_worlds as worlds
from benchmarks.diagnosis_report import CODE
from benchmarks.kept import done
from benchmarks.results import Budget, Result
from tidegate.monitor.diagnose import diagnose
from tidegate.monitor.pooling import Stream

WINDOWS, ROWS, STREAMS = 200, 500, 10
"""STREAMS of each of two worlds."""


@dataclass(frozen=True)
class OneStream:
    """A stream of `WINDOWS` windows of `ROWS` rows of a world."""

    world: str
    seed: int

    @property
    def key(self) -> str:
        """One text a stream."""
        return json.dumps({"windows": WINDOWS, "rows": ROWS, **asdict(self)})


def run() -> Result:
    """The alarms of each stream."""
    streams = [OneStream(world, seed) for world in ("synth", "flights") for seed in range(STREAMS)]
    found = {one: answer["alarms"] for one, answer in done("diagnosis_streams", streams, follow, CODE).items()}
    rows = [(one.world, str(one.seed), str(len(alarms)), _told(alarms)) for one, alarms in found.items()]
    counts = [len(alarms) for alarms in found.values()]
    what = f"most alarms in one of {len(counts)} streams of {WINDOWS} windows of {ROWS} rows"
    budget = Budget(what, "at most 1", f"{max(counts)} ({sum(counts)} in all)", max(counts) <= 1)
    notes = (
        "Each window is looked at alone, with the last 4 and with the last 16, at a third of alpha 0.001 a kind each.",
    )
    columns = ("world", "seed", "alarms", "window: findings")
    return Result("diagnosis_streams", "alarms in streams without drift", columns, rows, [budget], notes)


def follow(one: OneStream) -> dict[str, Any]:
    """The windows that alarmed, with what was found in them."""
    world = {"synth": worlds.synth, "flights": worlds.flights}[one.world](one.seed)
    rng, stream, alarms = np.random.default_rng([one.seed, 77]), Stream(), []
    for number in range(WINDOWS):
        stream, looked = stream.look(
            world.draw(ROWS, rng), lambda window, alpha: diagnose(world.reference, window, alpha)
        )
        if looked.alarm:
            alarms.append([number, list(looked.findings)])
    return {"alarms": alarms}


def _told(alarms: list[Any]) -> str:
    return "; ".join(f"{number}: {', '.join(findings)}" for number, findings in alarms)
