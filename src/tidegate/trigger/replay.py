"""`tidegate trigger replay`: the policy over a stream of events, one answer each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tidegate.errors import UserError
from tidegate.spec import TriggersSpec
from tidegate.trigger.events import event_of
from tidegate.trigger.policy import TriggerState, check_triggers, decide


def replay(
    events: Iterable[Mapping[str, Any]], spec: TriggersSpec, where: str = "events", state: TriggerState | None = None
) -> Iterator[dict[str, Any]]:
    """Each event's decision, in order: ``{"time", "decision", "causes", "key", "reason", "details"}``.

    `time` is given back as it came. Raises UserError that names the line of a bad event, or of one whose time is
    before that of the line above.
    """
    check_triggers(spec)
    state = state or TriggerState()
    newest: float | None = None
    for number, document in enumerate(events, 1):
        line = f"{where} line {number}"
        event = event_of(document, line)
        if newest is not None and event.time < newest:
            raise UserError(f"{line}: time", document["time"], "a time not before that of the line above")
        newest = event.time
        state, decision = decide(spec, state, event)
        yield {"time": document["time"], **decision.to_json()}
