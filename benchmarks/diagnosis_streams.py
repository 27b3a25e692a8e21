"""Streams of windows without drift: how often looking again and again, pools included, gives an alarm."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks import diagnosis_worlds as worlds
from tidegate.monitor.diagnose import diagnose
from tidegate.monitor.pooling import Stream

WINDOWS, ROWS = 200, 500


@dataclass(frozen=True)
class OneStream:
    """A stream of `WINDOWS` windows of `ROWS` rows of a world."""

    world: str
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        """What tells it from others."""
        return {"stream": True, "windows": WINDOWS, "rows": ROWS, **asdict(self)}


def follow(one: OneStream) -> dict[str, Any]:
    """The windows that alarmed, with what was found in them."""
    world = {"synth": worlds.synth, "flights": worlds.flights}[one.world](one.seed)
    rng, stream, alarms = np.random.default_rng([one.seed, 77]), Stream(), []
    for number in range(WINDOWS):
        stream, looked = stream.look(world.draw(ROWS, rng), lambda window: diagnose(world.reference, window))
        if looked.alarm:
            alarms.append([number, list(looked.findings)])
    return {"alarms": alarms}
