"""What the report tells of traffic and releases, taken from the journal's events. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.journal.events import Event
from tidegate.reasons import REASONS
from tidegate.release.stages import ENDED

Json = Mapping[str, Any]
VERDICTS = {"watch": "promoted", "promoted": "promoted"}
"""State of a release to the word for it; other states are their own word."""


@dataclass(frozen=True)
class Moment:
    """An instant in event time and on the machine's clock, seconds since the epoch."""

    time: float
    wall: float


@dataclass(frozen=True)
class Traffic:
    """How requests are split from a moment on: shares that sum to 1, and who gets copies."""

    at: Moment
    split: Mapping[str, float]
    mirrors: tuple[str, ...]
    release: str


@dataclass(frozen=True)
class Look:
    """One look of the judge at one place (shadow, split or watch): its checks by metric."""

    at: Moment
    place: str
    checks: Json


@dataclass(frozen=True)
class Release:
    """A release from its opening to its end. `stages`: (moment, what began); `counts`: the last evidence, by place.

    verdict: promoted, rolled back, aborted, expired, or open. deciding: the checks that the deciding look saw.
    """

    name: str
    champion: str
    challenger: str
    digest: str
    spec: Json
    opened: Moment
    stages: tuple[tuple[Moment, str], ...]
    looks: tuple[Look, ...]
    decided: Moment | None
    ended: Moment | None
    verdict: str
    sentence: str
    afterwards: str
    counts: Mapping[str, Json]


def moment(event: Event) -> Moment:
    """When an event happened, in both times."""
    return Moment(event.time, event.wall)


def traffic(events: Iterable[Event]) -> list[Traffic]:
    """Every change of the traffic, in order."""
    return [
        Traffic(moment(e), dict(e.data["split"]), tuple(e.data["mirrors"]), e.data["release"])
        for e in events
        if e.kind == "serve.traffic"
    ]


def versions_in_traffic(changes: Iterable[Traffic]) -> list[str]:
    """Versions that answered or got copies, in order of their first appearance."""
    return list(dict.fromkeys(name for change in changes for name in (*change.split, *change.mirrors)))


def releases(events: Sequence[Event]) -> list[Release]:
    """The releases in order of their opening."""
    by_name: dict[str, list[Event]] = {}
    for event in events:
        if "release" in event.data and event.kind.startswith("release."):
            by_name.setdefault(event.data["release"]["name"], []).append(event)
    return [_release(found) for found in by_name.values()]


def _release(events: Sequence[Event]) -> Release:
    first, last = events[0].data["release"], events[-1].data["release"]
    decided = next((e for e in events if e.data["release"]["state"] in ("watch", *ENDED)), None)
    ended = next((e for e in events if e.data["release"]["state"] in ENDED), None)
    evidence: Json = next((e.data["evidence"] for e in reversed(events) if e.data.get("evidence")), {"places": {}})
    judged = [e for e in events if "judgement" in e.data and e.data["judgement"]["checks"]]
    return Release(
        name=first["name"],
        champion=first["champion"]["name"],
        challenger=first["challengers"][0]["name"],
        digest=first["challengers"][0]["digest"],
        spec=first["spec"],
        opened=moment(events[0]),
        stages=tuple(_stages(events)),
        looks=tuple(Look(moment(e), e.data["judgement"]["place"], e.data["judgement"]["checks"]) for e in judged),
        decided=moment(decided) if decided else None,
        ended=moment(ended) if ended else None,
        verdict=_verdict(last, decided),
        sentence=_sentence(decided, judged),
        afterwards=_afterwards(last, decided, ended),
        counts={place: stats["counts"] for place, stats in evidence["places"].items()},
    )


def _verdict(last: Json, decided: Event | None) -> str:
    if decided is None:
        return "open"
    return VERDICTS.get(last["state"], str(last["state"]).replace("_", " "))


def _sentence(decided: Event | None, judged: Sequence[Event]) -> str:
    """Why it was decided; while it is open, what the last look said."""
    if decided is None:
        return str(judged[-1].data["judgement"]["sentence"]) if judged else REASONS["no_evidence"]
    told = decided.data["release"]
    return str(told["sentence"] or REASONS.get(told["reason"], told["reason"]))


def _afterwards(last: Json, decided: Event | None, ended: Event | None) -> str:
    """What came after a promotion: its watch."""
    if decided is None or decided is ended:
        return ""
    if ended is None:
        return "still watched at the end"
    if ended.data.get("command", {}).get("command") == "end_watch":
        hours = (ended.time - decided.time) / 3600
        return f"its watch ended after {hours:.0f} h, because the next release began"
    return str(ended.data["release"]["sentence"] or REASONS.get(last["reason"], last["reason"]))


def _stages(events: Sequence[Event]) -> Iterator[tuple[Moment, str]]:
    """Each (moment, label) at which the stage or the challenger's share changed."""
    before = None
    for event in events:
        release = event.data["release"]
        now = release["state"], release["weight"] if release["state"] in ("canary", "ab") else None
        if now != before and release["state"] not in ENDED:
            yield moment(event), release["state"] if now[1] is None else f"{now[1] * 100:g} %"
        before = now
