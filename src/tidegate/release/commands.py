"""What people and the platform may tell a release, and the event each of them is.

Actions that decide something need a named person and a reason; without them they are no event of the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.reasons import REASONS
from tidegate.release.stages import Release


@dataclass(frozen=True)
class Event:
    """What happened: its name in the table, why (a key of `REASONS`), the sentence, and who.

    only: of several challengers those that it speaks of.
    """

    name: str
    reason: str
    sentence: str
    by: str = ""
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pause:
    """It may still abort or expire, but not go on."""

    by: str = ""


@dataclass(frozen=True)
class Resume:
    """It goes on."""

    by: str = ""


@dataclass(frozen=True)
class Approve:
    """Lets an approval stage go on; where nothing but a person is left to ask (the last stage is an approval, or the
    sample ratio is broken) it promotes.
    """

    by: str
    reason: str


@dataclass(frozen=True)
class Abort:
    """The champion stays, the challenger is quarantined."""

    by: str
    reason: str


@dataclass(frozen=True)
class Rollback:
    """After a promotion: the old champion is champion again."""

    by: str
    reason: str


@dataclass(frozen=True)
class ChallengerFailed:
    """It does not become ready, or it crashed for good. version: which one, where there are several."""

    reason: str
    version: str = ""


@dataclass(frozen=True)
class EndWatch:
    """A new release starts and ends the watch of this one."""


@dataclass(frozen=True)
class EventEnds:
    """An announced event with release settings of its own begins, or is over. reason: a key of `REASONS`."""

    reason: str


Command = Pause | Resume | Approve | Abort | Rollback | ChallengerFailed | EndWatch | EventEnds


def event_of_command(release: Release, order: Command) -> Event:
    """The event that a command is for this release."""
    match order:
        case Pause(by=by):
            return Event("pause", "paused", REASONS["paused"], by)
        case Resume(by=by):
            return Event("resume", release.reason, release.sentence, by)
        case EndWatch():
            return Event("end_watch", "watch_ended", REASONS["watch_ended"])
        case EventEnds(reason=why):
            return Event("event", why, REASONS[why])
        case ChallengerFailed(reason=why, version=version):
            return _failed(release, version, f"{REASONS['not_ready']}: {why}")
        case Approve(by=by, reason=why):
            return _by_person("approve" if only_a_person(release) else "approved", by, why)
        case Abort(by=by, reason=why):
            return _by_person("abort", by, why)
        case Rollback(by=by, reason=why):
            return _by_person("rollback", by, why)


def _failed(release: Release, version: str, why: str) -> Event:
    if len(release.active) > 1 and version in [active.name for active in release.active]:
        return Event("one_failed", "not_ready", why, only=(version,))
    return Event("failed", "not_ready", why)


def only_a_person(release: Release) -> bool:
    """Whether nothing but a person's word is left to ask; where several challengers are left it names none of them."""
    last = release.stage + 1 == len(release.spec.stages)
    return len(release.active) == 1 and (release.latched or (release.state == "approval" and last))


def _by_person(name: str, by: str, why: str) -> Event:
    named = by.strip() and why.strip()
    return Event(name if named else "unnamed", "by_person", f"{by}: {why}", by)
