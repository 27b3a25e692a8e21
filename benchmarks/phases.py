"""Where the time of one release went, from the journal's wall times and the pauses of the replay. Pure.

The stretch begins with the decision that starts the run and ends when all traffic is on the new version. While the
replay stood still somebody worked: that is our work. The rest of the stretch traffic flowed: waiting for evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.journal.events import Event
from tidegate.steps import STEPS

Pauses = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Phase:
    """A part of the stretch; wall times in seconds since the epoch, `event_days` it took in event time."""

    name: str
    start: float
    end: float
    work: float
    event_days: float

    @property
    def seconds(self) -> float:
        """Wall seconds in all."""
        return self.end - self.start

    @property
    def waiting(self) -> float:
        """Wall seconds of it in which traffic flowed."""
        return self.seconds - self.work


@dataclass(frozen=True)
class Story:
    """One run that a trigger started and what came of it; `phases` follow one another without a gap.

    steps: seconds by step up to the candidate's event. ended: wall time of the run's end, None when it was not seen:
    after the event it still tells MLflow.
    """

    cause: str
    version: str
    decided: Event
    steps: tuple[tuple[str, float], ...]
    ended: float | None
    phases: tuple[Phase, ...]

    @property
    def start(self) -> float:
        """Wall time of the decision."""
        return self.phases[0].start

    @property
    def seconds(self) -> float:
        """Wall seconds in all."""
        return self.phases[-1].end - self.start

    @property
    def work(self) -> float:
        """Seconds of our work."""
        return sum(phase.work for phase in self.phases)


def decision(events: Sequence[Event]) -> Event | None:
    """The first decision of the trigger policy that starts a run."""
    return next((e for e in events if e.kind == "trigger.evaluated" and _decision(e) == "retrain"), None)


def is_over(events: Sequence[Event]) -> bool:
    """Whether the decided run is through: refused, aborted, or its version has all traffic."""
    decided = decision(events)
    after = [e for e in events if decided and e.seq > decided.seq]
    bad = ("validate.refused", "evaluate.refused", "register.refused", "register.unchanged", "release.aborted")
    return any(e.kind in bad for e in after) or _full(after) is not None


def story(events: Sequence[Event], pauses: Pauses) -> Story:
    """The story of the decided run; ValueError, saying how it ended instead, when its version was not promoted."""
    decided = decision(events)
    after = [e for e in events if decided and e.seq > decided.seq]
    last = _full(after)
    if decided is None or last is None:
        ends = ("validate.refused", "evaluate.refused", "release.aborted")
        why = next((f"{e.kind} at {e.time}: {e.data}" for e in after if e.kind in ends), "nothing more was seen")
        raise ValueError(f"no version that a trigger asked for got all traffic: {why[:500]}")
    marks = _marks(after, last)
    starts = [("pipeline", decided), *marks]
    phases = [
        Phase(name, start.wall, end.wall, _inside(pauses, start.wall, end.wall), (end.time - start.time) / 86400)
        for (name, start), end in zip(starts, [*(event for _, event in marks), last], strict=True)
    ]
    cause = ", ".join(decided.data["decision"]["causes"])
    candidate = _first(after, "register.candidate")
    cost = candidate.data["cost"]
    steps = tuple((step, cost[step]["seconds"]) for step in STEPS if step in cost)
    ended = next((e.wall for e in after if e.kind == "trigger.finished"), None)
    return Story(cause, candidate.data["version"], decided, steps, ended, tuple(phases))


def _marks(after: Sequence[Event], last: Event) -> list[tuple[str, Event]]:
    """The phases after the pipeline, each with the event at which it starts."""
    candidate = _first(after, "register.candidate")
    opened = _first(after, "release.opened")
    mirrored = next(e for e in after if e.kind == "serve.traffic" and e.data["mirrors"])
    found = [("release opens", candidate), ("new version starts", opened), ("shadow", mirrored)]
    stages = [e for e in after if e.kind == "release.stage" and e.seq < last.seq and e.data["release"]["weight"]]
    found += [(f"canary {e.data['release']['weight']:.0%}", e) for e in stages]
    return [*found, ("promotion", _first(after, "release.promoted"))]


def _full(after: Sequence[Event]) -> Event | None:
    """The event that tells of all traffic on the version that was promoted first."""
    promoted = next((e for e in after if e.kind == "release.promoted"), None)
    if promoted is None:
        return None
    whole = [[promoted.data["release"]["challengers"][0]["name"], 1.0]]
    later = (e for e in after if e.kind == "serve.traffic" and e.seq > promoted.seq)
    return next((e for e in later if [list(part) for part in e.data["split"]] == whole), None)


def _inside(pauses: Pauses, start: float, end: float) -> float:
    return sum(max(0.0, min(end, stop) - max(start, begun)) for begun, stop in pauses)


def _first(events: Sequence[Event], kind: str) -> Event:
    return next(e for e in events if e.kind == kind)


def _decision(event: Event) -> str:
    return str(event.data["decision"]["decision"])
