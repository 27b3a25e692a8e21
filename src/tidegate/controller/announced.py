"""Announced events with release settings of their own: which ones hold now, and what ends when the event does.

A release belongs to the event that it was opened in, or to none. Where another event holds, or none any more, the
release ends; and what an event's easier settings promoted gives its place back when the event is over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tidegate.errors import UserError
from tidegate.journal.fold import ModelState
from tidegate.release.check import check_spec
from tidegate.release.stages import ENDED
from tidegate.spec import CalendarEvent, ModelSpec, ReleaseSpec, format_span
from tidegate.trigger.calendar import bounds

DENSE = 600.0
"""Event seconds between two looks while an event with release settings of its own lasts."""


def in_force(spec: ModelSpec, now: float) -> str:
    """The name of the first event with release settings that lasts at `now`; empty where there is none."""
    found = (event.name for event in _own(spec) if _lasts(event, now))
    return next(found, "")


def settings_of(spec: ModelSpec, event: str) -> ReleaseSpec:
    """The release settings while `event` lasts: its own where it has them, else the Model file's."""
    own = next((one.release for one in _own(spec) if one.name == event), None)
    if own is None:
        return spec.release
    return spec.release.model_copy(update={name: value for name, value in own if value is not None})


def next_look(spec: ModelSpec, after: float, every: float) -> float:
    """The first moment after `after` to look at: multiples of `every`; while an event lasts, of `DENSE`; its bounds."""
    found = (math.floor(after / every) + 1) * every
    for event in _own(spec):
        start, end = bounds(event)
        dense = (math.floor(after / DENSE) + 1) * DENSE
        found = min([found, *(time for time in (start, end, dense) if after < time and start <= time <= end)])
    return found


def run_settings(spec: ModelSpec, until: float) -> dict[str, Any]:
    """The fields of `RunSettings` that differ for a run at `until`, while an event with `gateWindow` lasts.

    Empty where none lasts, or where its rows do not yet make a part to fit, one to choose by and a gate window, each
    with its gap.
    """
    event = next((one for one in _own(spec) if one.name == in_force(spec, until)), None)
    if event is None or event.gate_window is None:
        return {}
    deadline, window = settings_of(spec, event.name).label_deadline, event.gate_window
    recent = timedelta(seconds=math.floor(until - bounds(event)[0])) - 2 * deadline - window
    if recent < 2 * window + deadline:
        return {}
    training = spec.training.model_copy(update={"mode": "stateless"})
    return {"training": training, "label_deadline": deadline, "gate_window": window, "recent": recent}


def check_events(spec: ModelSpec) -> None:
    """UserError where the settings of an event are those of no release, or of no run."""
    for at, event in enumerate(spec.triggers.schedule.events if spec.triggers.schedule else ()):
        if event.gate_window is not None and not (event.release and event.gate_window):
            takes = "a span above 0, beside `release` of the same event"
            raise UserError(f"spec.triggers.schedule.events[{at}].gateWindow", format_span(event.gate_window), takes)
    for event in _own(spec):
        check_spec(settings_of(spec, event.name))


def ends_release(spec: ModelSpec, state: ModelState, now: float) -> Mapping[str, Any] | None:
    """The command that ends the open release because an event began or is over; None where it goes on."""
    release, event = state.release, in_force(spec, now)
    if release is None or release["state"] in ENDED or state.announced == event:
        return None
    return {"command": "event", "reason": "event_begins" if event else "event_over"}


def given_back(spec: ModelSpec, state: ModelState, now: float) -> Mapping[str, Any] | None:
    """The data of release.reverted: the version that served before the event serves again; None while it lasts."""
    lent = state.lent
    if lent is None or lent["event"] == in_force(spec, now) or lent["digest"] in state.quarantined:
        return None
    names = ("version", "digest", "carried", "event")
    return {**{name: lent[name] for name in names}, "reason": "event_over"}


def _own(spec: ModelSpec) -> tuple[CalendarEvent, ...]:
    schedule = spec.triggers.schedule
    return tuple(event for event in schedule.events if event.release) if schedule else ()


def _lasts(event: CalendarEvent, now: float) -> bool:
    start, end = bounds(event)
    return start <= now < end
