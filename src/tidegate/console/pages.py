"""What the first pages show, as plain values for their templates. Reads by the `Reader`, decides nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.console import draw, shown
from tidegate.console.reader import Reader
from tidegate.console.rendered import template
from tidegate.console.story import releases_of
from tidegate.console.summary import HEALTHS, Summary, summarize
from tidegate.errors import UserError
from tidegate.journal import browse, views
from tidegate.journal.events import Event, intact
from tidegate.journal.fold import ModelState, fold
from tidegate.reasons import ALERTS, GATE_REASONS, REASONS
from tidegate.trigger.calendar import first_after

Json = dict[str, Any]
ROWS = 25
"""Models on a page, and events on a page of the journal twice as many."""


def prepare() -> None:
    """Have ready what the first page of a process would else wait for."""
    first_after("0 0 * * *", 0.0, "")
    template("models")


def models(reader: Reader, words: str, health: str, page: int) -> Json:
    """The models at a glance."""
    first = (page - 1) * ROWS
    lines, count, unread = reader.overview(words, health, first, ROWS)
    counts = reader.counts()
    return {
        "lines": [_line(one) for one in lines],
        "count": count,
        "unread": unread,
        "total": len(reader.heads()),
        "counts": [(key, name, counts.get(key, 0)) for key, name in HEALTHS.items() if key != "unread"],
        "words": words,
        "health": health,
        "page": page,
        "pages": max(1, math.ceil(count / ROWS)),
        "first": first,
    }


def _line(one: Summary) -> Json:
    colours = {version: i % draw.COLOURS for i, (version, _) in enumerate(one.split)}
    told = ", ".join(f"{version} {share:.0%}" for version, share in one.split)
    bar = draw.share_bar(one.split, colours, f"traffic: {told}") if one.split else ""
    return {"one": one, "bar": bar, "told": told, "health": HEALTHS[one.health]}


def at(reader: Reader, model: str, time: float, page: int) -> Json:
    """What served at an event time, of one model or of all, and the events that said so."""
    first = (page - 1) * ROWS
    names = [model] if model else reader.named("")
    lines = [_served(reader.turning(name, time), name) for name in names[first : first + ROWS]]
    pages = max(1, math.ceil(len(names) / ROWS))
    return {"lines": lines, "time": time, "stamp": views.iso(time)[:16], "model": model, "page": page, "pages": pages}


def _served(events: Sequence[Event], name: str) -> Json:
    one = summarize(fold(events, ModelState(model=name)))
    said = next((event for event in reversed(events) if _crowns(event, one.digest)), None)
    return {**_line(one), "said": said, "last": events[-1].seq if events else 0}


def _crowns(event: Event, digest: str) -> bool:
    """Whether this event gave the champion's place to that digest."""
    before = fold([event]) if event.kind in ("release.first", "release.reverted") else None
    if before is not None:
        return before.champion is not None and before.champion.digest == digest
    acted = [one.get("digest") for one in event.data.get("actions", ()) if one["action"] == "Promote"]
    back = event.kind == "release.rolled_back" or any(o["action"] == "Rollback" for o in event.data.get("actions", ()))
    if back and event.data["release"]["champion"]["digest"] == digest:
        return True
    return digest in acted or (event.kind == "release.degraded" and (event.data["to"] or {}).get("digest") == digest)


def model(reader: Reader, name: str) -> Json:
    """One model: who answers, its releases, its versions."""
    events = reader.turning(name)
    state = fold(events, ModelState(model=name))
    changes = [(e.time, dict(e.data["split"])) for e in events if e.kind == "serve.traffic"]
    versions, one = shown.versions_of(state, changes), summarize(state)
    return {
        "model": name,
        "one": one,
        "line": _line(one),
        "traffic": _traffic(changes, state.time, versions),
        "legend": [(version, i % draw.COLOURS) for i, version in enumerate(versions) if _answered(changes, version)],
        "releases": releases_of(events),
        "versions": [version_line(state, digest, data) for digest, data in reversed(list(state.versions.items()))],
        "alerts": [known["alert"] for known in reversed(list(state.alerts.values()))][:5],
        "alert_words": ALERTS,
        "batch": state.batch,
        "agreement": views.describe(state)["agreement"],
        "reasons": REASONS,
        "health": HEALTHS,
    }


def _answered(changes: Sequence[tuple[float, Mapping[str, float]]], version: str) -> bool:
    return any(split.get(version) for _, split in changes)


def _traffic(changes: Sequence[tuple[float, Mapping[str, float]]], until: float, versions: Sequence[str]) -> str:
    if not changes:
        return ""
    now = ", ".join(f"{version} {share:.0%}" for version, share in changes[-1][1].items())
    label = f"Shares of the answers from {views.iso(changes[0][0])} on; now {now}"
    return draw.traffic(changes, until, versions, label)


def version_line(state: ModelState, digest: str, data: Mapping[str, Any]) -> Json:
    """A version in a table."""
    place = "waits" if digest in state.waiting else ""
    place = "quarantined" if digest in state.quarantined else place
    place = "champion" if state.champion and state.champion.digest == digest else place
    named = ("version", "mode", "rows", "train_rows", "data_version", "run", "cause")
    return {
        **{key: data.get(key) for key in named},
        "digest": digest,
        "parent": data.get("parent"),
        "time": data["time"],
        "gate": GATE_REASONS.get(data["gate"]["reason"], data["gate"]["reason"]),
        "place": place,
    }


def journal(reader: Reader, asked: browse.Asked, before: browse.Key | None) -> Json:
    """A page of the journal, newest first."""
    found = reader.page(asked, before, 2 * ROWS + 1)
    more = found[2 * ROWS - 1] if len(found) > 2 * ROWS else None
    return {
        "events": [(event, views.tell(event)) for event in found[: 2 * ROWS]],
        "asked": asked,
        "older": (more.time, more.model, more.seq) if more else None,
        "newest": before is None,
        "looks": browse.LOOKS,
    }


def event(reader: Reader, model: str, seq: int) -> Json:
    """One event whole, and whether its hash is its content's."""
    found = browse.events(reader.journal, model, [seq])
    if not found:
        raise UserError("event", f"{model} {seq}", "one that the journal has")
    (one,) = found
    return {
        "event": one,
        "told": views.tell(one),
        "text": json.dumps(one.data, indent=2, sort_keys=True, ensure_ascii=False),
        "intact": intact(one),
        "last": reader.heads().get(model, 0),
    }
