"""Which alerts the journal asks for, in Alertmanager's format: a pure function of the state.

A condition has a key with the moment at which it began. It is written down once as `monitor.alert`, then sent, then
written down as `monitor.alerted`; so whoever starts again neither forgets one nor writes a second. One that died
between sending and noting sends the same bytes again, which Alertmanager, by labels and start, takes for one alert.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.journal.fold import ModelState
from tidegate.monitor.agreement import agreement
from tidegate.monitor.times import iso
from tidegate.reasons import ALERTS, REASONS

STANDS = 24 * 3600.0
"""Seconds from `startsAt` to `endsAt`; an alert that nobody renews is over then."""


@dataclass(frozen=True)
class Condition:
    """Something that a person should know. `alert` is a key of `ALERTS`, `since` event time."""

    alert: str
    since: float
    about: str
    """What it is about, a version or a release: with `alert` and `since` the key."""
    more: str = ""

    @property
    def key(self) -> str:
        """The same however often it is looked at."""
        return f"{self.alert}:{self.about}@{self.since:.0f}"


def due(state: ModelState) -> Iterator[Mapping[str, Any]]:
    """The data of each monitor.alert that was not written yet, in a fixed order."""
    for condition in _conditions(state):
        if condition.key not in state.alerts:
            yield {"key": condition.key, "alert": _alert(state.model, condition)}


def _conditions(state: ModelState) -> Iterator[Condition]:
    champion = state.champion.version if state.champion else ""
    if state.finding and state.finding["finding"] in ALERTS:
        yield Condition(state.finding["finding"], state.finding["since"], champion)
    if state.degraded:
        told = state.degraded
        yield Condition("degraded", told["since"], told["version"], _degraded(told))
    release = state.release
    if release and release["state"] == "rolled_back":
        yield Condition("rolled_back", release["entered"], release["name"], release["sentence"])
    counted = agreement(state.verdicts)
    if counted.since:
        opened = next(one["time"] for one in state.verdicts if one["release"] == counted.since)
        yield Condition("agreement", opened, counted.since, counted.sentence)
    if state.failed:
        yield Condition("run_failed", state.failed["time"], state.failed["run"])


def _degraded(told: Mapping[str, Any]) -> str:
    look, to = told["look"], told["to"]
    value = "unknown" if look["value"] is None else f"{look['value']:.4g}"
    back = f"; {to['version']} serves again" if to else ""
    return f"{look['name']} {value} over {look['labels']} labels; {REASONS[told['reason']]}{back}"


def _alert(model: str, condition: Condition) -> dict[str, Any]:
    severity, summary = ALERTS[condition.alert]
    name = "Tidegate" + "".join(part.capitalize() for part in condition.alert.split("_"))
    labels = {"alertname": name, "model": model, "severity": severity, "about": condition.about}
    told = {"summary": f"{model} {condition.about}: {summary}", "description": condition.more or summary}
    starts, ends = iso(condition.since), iso(condition.since + STANDS)
    return {"labels": labels, "annotations": told, "startsAt": starts, "endsAt": ends}
