"""One release from its events: stages, looks, evidence, and its verdict in a sentence. Pure.

Everything is as the judge wrote it; nothing is worked out again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.journal.events import Event
from tidegate.journal.views import release_summary
from tidegate.reasons import REASONS
from tidegate.release.policy import SHADOW, SPLIT, WATCH, policy_of
from tidegate.release.stages import ENDED
from tidegate.spec import ReleaseSpec, format_share

Json = Mapping[str, Any]
PLACES = {SHADOW: "on copies", SPLIT: "on the split", WATCH: "in the watch", "interleave": "in mixed lists"}
RATIOS = ("sample_ratio", "sample_ratio_labels")
COUNTS = {
    "requests": "requests",
    "matured": "matured",
    "champion": "by the champion",
    "challenger": "by the challenger",
    "cancelled": "cancelled",
    "missing": "without a label",
    "late": "behind the watermark",
}
"""What is counted of the evidence, and how it is called."""


@dataclass(frozen=True)
class Look:
    """One look of the judge: when (event seconds), where, and its checks by name."""

    time: float
    place: str
    checks: Json


@dataclass(frozen=True)
class Turn:
    """Something that happened to the release; `mark`: the stage or weight that began, empty where none did."""

    seq: int
    time: float
    what: str
    text: str
    mark: str = ""


@dataclass(frozen=True)
class Panel:
    """One check at one place with its looks, oldest first. proves: this is where it must be proved."""

    name: str
    place: str
    margin: float | None
    proves: bool
    looks: Sequence[Look]

    @property
    def last(self) -> Json:
        """The newest look's numbers."""
        return dict(self.looks[-1].checks[self.name])

    @property
    def title(self) -> str:
        """The check and its place, in words."""
        return f"{self.name.replace('_', ' ')} {PLACES.get(self.place.partition(':')[0], self.place)}"


@dataclass(frozen=True)
class Story:
    """A release as its page tells it; times are event seconds."""

    release: Json
    opened: float
    until: float
    turns: Sequence[Turn]
    panels: Sequence[Panel]
    slices: Sequence[Panel]
    counts: Mapping[str, Json]
    judgement: Json
    decided: str = ""
    """What was said when it was promoted, aborted or expired; empty while it is open."""
    ended: float | None = None

    @property
    def challengers(self) -> str:
        """Their names."""
        return ", ".join(one["name"] for one in self.release["challengers"])

    @property
    def open(self) -> bool:
        """Whether it has not ended; a watch is open."""
        return self.release["state"] not in ENDED

    @property
    def verdict(self) -> str:
        """``promoted``, ``aborted``, ``rolled back``, ``expired``, or what goes on."""
        state = str(self.release["state"])
        return {"watch": "promoted"}.get(state, state.replace("_", " ") if state in ENDED else "open")

    @property
    def sentence(self) -> str:
        """The verdict in one plain sentence."""
        release, who, old = self.release, self.challengers, self.release["champion"]["name"]
        state, why = release["state"], self.decided
        if state in ENDED or state == "watch":
            done = {
                "watch": f"{who} took the place of {old} and is watched",
                "promoted": f"{who} took the place of {old}",
                "aborted": f"{old} stays",
                "expired": f"{old} stays",
                "rolled_back": f"{old} serves again",
            }[state]
            return f"{done}: {why}"
        told = self.judgement.get("sentence") or REASONS["no_evidence"]
        share = f" with {format_share(release['weight'])} of the answers" if release["weight"] else ""
        paused = "; paused by a person" if release["paused"] else ""
        return f"{who} is in {state}{share}{paused}: {told}"


def tell(events: Sequence[Event]) -> Story:
    """The story of the release whose events these are: its opening, what changed it, and some or all of its looks."""
    last = events[-1].data["release"]
    judged = [event for event in events if (event.data.get("judgement") or {}).get("checks")]
    looks = [Look(e.time, e.data["judgement"]["place"], e.data["judgement"]["checks"]) for e in judged]
    ended = next((event.time for event in events if event.data["release"]["state"] in ENDED), None)
    open_ = last["state"] not in (*ENDED, "watch")
    panels = list(_panels(looks, last["spec"]))
    evidence: Json = next((e.data["evidence"] for e in reversed(events) if e.data.get("evidence")), {"places": {}})
    return Story(
        release=last,
        opened=events[0].time,
        until=max(events[-1].time, looks[-1].time if looks else 0.0),
        turns=list(_turns(events)),
        panels=[panel for panel in panels if "[" not in panel.name],
        slices=[panel for panel in panels if "[" in panel.name],
        counts={place: found["counts"] for place, found in evidence["places"].items()},
        judgement=judged[-1].data["judgement"] if judged else {},
        decided="" if open_ else _said(_deciding(events, last["state"])),
        ended=ended,
    )


def releases_of(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Every release of a model's events as it stands or ended, newest first."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        if has_release(event):
            release = event.data["release"]
            found[release["name"]] = {
                **release_summary(release), "time": event.time,
                "said": release["sentence"] or found.get(release["name"], {}).get("said", ""),
            }  # fmt: skip
    return list(reversed(found.values()))


def has_release(event: Event) -> bool:
    """Whether an event carries a release as it then stood."""
    return isinstance(event.data.get("release"), Mapping)


def _deciding(events: Sequence[Event], state: str) -> Event:
    """The event that decided: the promotion of one that was promoted, else the one that ended it."""
    wanted = ("watch", "promoted") if state in ("watch", "promoted") else (state,)
    return next(event for event in events if event.data["release"]["state"] in wanted)


def _said(event: Event) -> str:
    release = event.data["release"]
    order = event.data.get("command") or {}
    if order.get("by"):
        return f"{order['command']} by {order['by']}: {order.get('reason', '')}"
    return str(release["sentence"] or REASONS.get(release["reason"], release["reason"]))


def _panels(looks: Sequence[Look], spec: Json) -> Iterator[Panel]:
    """Each check at each place that had observations: where it is proved first, ratios and slices last."""
    policy = policy_of(ReleaseSpec.model_validate(spec))
    proved = {metric.name: metric.proved_at for metric in policy.metrics}
    known: dict[tuple[str, str], list[Look]] = {}
    for look in looks:
        for name, check in look.checks.items():
            if check["n"]:
                known.setdefault((name, look.place), []).append(look)
    found = [
        Panel(name, place, some[-1].checks[name]["margin"], proved.get(name) == place.partition("@")[0], some)
        for (name, place), some in known.items()
    ]
    yield from sorted(found, key=lambda one: (one.name in RATIOS, not one.proves))


def _turns(events: Iterable[Event]) -> Iterator[Turn]:
    before = None
    for event in events:
        release = event.data["release"]
        now = (release["state"], release["weight"] if release["state"] in ("canary", "ab") else None)
        mark = ""
        if now != before and release["state"] not in ENDED:
            mark = release["state"] if now[1] is None else f"{release['state']} {format_share(now[1])}"
        before = now
        if event.kind != "release.looked":
            yield Turn(event.seq, event.time, _what(event), _text(event), mark)


def _what(event: Event) -> str:
    if event.kind == "release.command":
        return str(event.data["command"]["command"]).replace("_", " ")
    if event.kind == "release.stage":
        release = event.data["release"]
        share = f" {format_share(release['weight'])}" if release["state"] in ("canary", "ab") else ""
        return f"{release['state']}{share}"
    return event.kind.partition(".")[2].replace("_", " ")


def _text(event: Event) -> str:
    release = event.data["release"]
    if event.kind == "release.opened":
        names = ", ".join(one["name"] for one in release["challengers"])
        return f"{names} against {release['champion']['name']}, in {release['state']} first"
    if event.kind == "release.command":
        order = event.data["command"]
        by = f"by {order['by']}" if order.get("by") else "by the controller"
        refused = [one["why"] for one in event.data["actions"] if one["action"] == "Refuse"]
        return ": ".join(part for part in (by, order.get("reason", ""), *refused) if part)
    return str(event.data["judgement"]["sentence"] if event.data.get("judgement") else release["sentence"])
