"""What the demo claims, each claim read off the journal and the tally."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from demo.story import Played
from tidegate.journal.events import Event


@dataclass(frozen=True)
class Claim:
    """One sentence, whether it is true, and what was seen."""

    claim: str
    holds: bool
    seen: str


def check(played: Played) -> list[Claim]:
    """Every claim of the demo on what was played."""
    return [*_story(played), *_traffic(played), *_ends(played)]


def decisions(events: Sequence[Event]) -> list[str]:
    """What was decided, in order, each with its cause or reason; no figures, no times.

    Two runs on the same data and requests decide the same, though their arms are drawn anew.
    """
    return [sentence for event in events if (sentence := _decision(event))]


def to_all_traffic(events: Sequence[Event]) -> dict[str, float]:
    """For each promoted version the seconds by the clock from its run's start to all of the traffic."""
    started = {event.data["run"]: event.wall for event in events if event.kind == "trigger.started"}
    runs = {event.data["digest"]: event.data["run"] for event in events if event.kind == "register.candidate"}
    return {
        _version(event): event.wall - started[runs[_digest(event)]]
        for event in _promotions(events)
        if runs[_digest(event)] in started
    }


def _decision(event: Event) -> str:
    data = event.data
    match event.kind:
        case "trigger.started":
            return f"a run starts: {', '.join(data['causes'])}"
        case "register.candidate":
            return f"{data['version']} is a candidate ({data['cause']}, {data['mode']}): {data['reason']}"
        case "evaluate.refused" | "validate.refused" | "register.refused":
            return f"refused ({data['cause']}): {data['reason']}"
        case "release.opened" | "release.promoted" | "release.aborted" | "release.expired" | "release.rolled_back":
            return f"{_version(event)} {event.kind.removeprefix('release.')}"
    return ""


def _story(played: Played) -> Iterator[Claim]:
    state, events = played.state, played.events
    first = state.history[0].version if state.history else "none"
    yield Claim("v1, trained on the months before, served first", first == "v1", first)
    own = [e for e in _promotions(events) if _cause(played, e) not in ("", "manual")]
    seen = ", ".join(f"{_version(e)} ({_cause(played, e)})" for e in own) or "none"
    yield Claim("a retraining that nobody started was promoted on its evidence", bool(own), seen)
    passed = [_stages(events, e) for e in own]
    through = any({"shadow", "canary"} <= set(stages) for stages in passed)
    yield Claim("it went through shadow and canary", through, "; ".join(" > ".join(stages) for stages in passed))
    sabotaged = [d for d, v in state.versions.items() if v["cause"] == "manual" and v["version"] != "v1"]
    names = ", ".join(state.versions[d]["version"] for d in sabotaged) or "none"
    yield Claim("the sabotaged candidate passed the model gate", bool(sabotaged), names)
    stopped = [d for d in sabotaged if d in state.quarantined]
    aborts = [e for e in events if e.kind == "release.aborted" and _digest(e) in stopped]
    why = "; ".join(e.data["judgement"]["sentence"] for e in aborts) or "not aborted"
    yield Claim("the judge aborted it in production and its digest is in quarantine", bool(aborts), why)


def _traffic(played: Played) -> Iterator[Claim]:
    tally = played.tally
    seen = (
        f"{tally.sent} sent, {tally.answered} answered, {tally.statuses[200]} with 200, {played.rows} rows in the log"
    )
    same = tally.sent == tally.answered == tally.statuses[200] == played.rows
    yield Claim("no request failed, and every one is in the log once", same and tally.sent > 0, seen)


def _ends(played: Played) -> Iterator[Claim]:
    yield Claim("the journal reproduces every decision", played.replayed.startswith("reproduced"), played.replayed)
    yield Claim("no process is left behind", not played.left, "; ".join(played.left) or "none")


def _promotions(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.kind == "release.promoted"]


def _digest(event: Event) -> str:
    return str(event.data["release"]["challengers"][0]["digest"])


def _version(event: Event) -> str:
    return str(event.data["release"]["challengers"][0]["name"])


def _cause(played: Played, event: Event) -> str:
    return str(played.state.versions[_digest(event)]["cause"])


def _stages(events: list[Event], promotion: Event) -> list[str]:
    name = promotion.data["release"]["name"]
    told = [e.data["release"] for e in events if e.kind.startswith("release.") and "release" in e.data]
    return list(dict.fromkeys(release["state"] for release in told if release["name"] == name))
