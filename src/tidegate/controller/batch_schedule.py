"""When a scheduled batch starts: a pure decision from the Model file, the journal's state and event time.

One batch of a model runs at a time, by whoever is champion when it starts. A cron time that passed while nobody looked,
or while a batch ran, starts one batch, however many have passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.journal.fold import ModelState
from tidegate.monitor.times import iso
from tidegate.spec import BatchSpec, Model
from tidegate.trigger.calendar import first_after

WHERE = "spec.batch.cron"


def check_batch(batch: BatchSpec | None) -> None:
    """UserError where its cron does not parse or never comes."""
    if batch is not None:
        first_after(batch.cron, 0.0, WHERE)


def due(model: Model, state: ModelState, now: float) -> Mapping[str, Any] | None:
    """The data of the serve.batch_started event to write now; None when nothing is due.

    Its predictions are of the event's time.
    """
    batch, last = model.spec.batch, state.batch
    if batch is None or state.champion is None or (last is not None and last["ok"] is None):
        return None
    time = first_after(batch.cron, max(state.batch_since, last["time"] if last else 0.0), WHERE)
    if time > now:
        return None
    return {
        "run": f"{state.model}-batch-{state.seq + 1}",
        "cause": {"cron": batch.cron, "due": iso(time)},
        "version": state.champion.version,
        "digest": state.champion.digest,
        "input": batch.input,
        "output": batch.output,
    }
