"""What the page of performance shows: looks and findings over time, and what gate and judge said of slices."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tidegate.console import draw, shown
from tidegate.console.reader import Reader
from tidegate.console.release_page import draw_check, judged_slice, scale
from tidegate.console.story import releases_of
from tidegate.console.summary import summarize
from tidegate.journal.events import Event
from tidegate.journal.fold import ModelState, fold

Json = dict[str, Any]
SLICED = 6
"""Versions beside each other in the table of slices."""


def performance(reader: Reader, name: str) -> Json:
    """Looks at the champion's performance and for drift over time, and what gate and judge said of slices."""
    events = reader.turning(name)
    state = fold(events, ModelState(model=name))
    looks = reader.looks(name)
    looked = [event for event in _of_kind(looks, "metric") if event.data["event"]["value"] is not None]
    trigger = ((state.spec or {}).get("triggers") or {}).get("performance")
    champions = [(served.since, served.version) for served in state.history]
    by_version: dict[str, list[Mapping[str, Any]]] = {}
    for event in looked:
        version = next((v for since, v in reversed(champions) if since <= event.time), "")
        by_version.setdefault(version, []).append(event.data["event"])
    versions = shown.versions_of(state, ())
    series = [
        draw.Metric(
            version,
            versions.index(version) % draw.COLOURS if version in versions else 0,
            *([(one["time"], one[key]) for one in found] for key in ("value", "lower", "upper")),
        )
        for version, found in by_version.items()
    ]
    marks = [(served.since, served.version) for served in state.history if looked and served.since >= looked[0].time]
    limit = float(trigger["below"]) if trigger else None
    metric = trigger["metric"] if trigger else ""
    label = f"{metric} of each champion over its window, with 95 % limits; {len(looked)} looks"
    return {
        "model": name,
        "one": summarize(state),
        "metric": metric,
        "trigger": trigger,
        "picture": draw.metrics(series, limit, marks, label) if series else "",
        "legend": [(one.version, one.colour) for one in series],
        "looks": [event.data["event"] for event in reversed(looked)][:30],
        "drift": _drift(_of_kind(looks, "drift")),
        "drift_set": bool(((state.spec or {}).get("triggers") or {}).get("drift")),
        "slices": _gate_slices(state),
        "releases": _judged_slices(reader, name, releases_of(events)[:6]),
        "labels": _labels(reader.folder_of(name)),
    }


def _of_kind(looks: Sequence[Event], kind: str) -> list[Event]:
    return [event for event in looks if event.data["event"]["kind"] == kind]


def _drift(looks: Sequence[Event]) -> list[Json]:
    """Findings, newest first; looks in a row that found the same are one."""
    found: list[Json] = []
    for event in looks:
        finding = event.data["event"]["finding"]
        if found and found[-1]["finding"] == finding:
            found[-1] |= {"until": event.time, "looks": found[-1]["looks"] + 1}
        else:
            found.append({"finding": finding, "since": event.time, "until": event.time, "looks": 1})
    return list(reversed(found))


def _gate_slices(state: ModelState) -> Json:
    """What the model gate measured of each version by slice: the rows are slices, the columns versions."""
    found = {data["version"]: slices_of(data["gate"]) for data in state.versions.values()}
    measured = dict([pair for pair in found.items() if pair[1]][-SLICED:])
    names = dict.fromkeys(name for checks in measured.values() for name in checks)
    scales = {version: scale(checks.values()) for version, checks in measured.items()}
    rows = [
        {"name": name, "cells": [(gate_bar(c.get(name), scales[v]), c.get(name)) for v, c in measured.items()]}
        for name in names
    ]
    return {"versions": list(measured), "rows": rows}


def slices_of(gate: Mapping[str, Any]) -> Mapping[str, Any]:
    """The checks of a gate that are of one value of a slice."""
    return {name: check for name, check in gate.get("checks", {}).items() if "=" in name}


def gate_bar(check: Mapping[str, Any] | None, most: float = 0.0) -> str:
    """A check of the model gate, drawn; empty where it has no interval."""
    return draw_check(check, check["margin"], most) if check else ""


def _judged_slices(reader: Reader, name: str, releases: Sequence[Json]) -> list[Json]:
    """The last judgement of each of these releases by guarded slice."""
    found = []
    for one in releases:
        story = reader.release(name, one["name"])
        found += [{"release": one["name"], "story": story, **judged_slice(panel)} for panel in story.slices]
    return found


def _labels(folder: Path) -> Json | None:
    """What `tidegate monitor labels` said last; None where it was not asked."""
    try:
        return dict(json.loads((folder / "joined" / "labels.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None
