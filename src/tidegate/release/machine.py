"""The way of a release, as a table.

Rules
1. A release goes through its stages in their order and is open until it is promoted, aborted or expired.
2. At each step exactly one event is taken from evidence and clock, the first that holds of: `worse` (the judge says
   abort), `one_worse` (of one of several challengers), `ratio` (the split is not the one that was asked for),
   `proved` (the last stage is done and the judge says promote), `deadline`, `left` (the stage is done, another
   follows), none.
3. A stage is done when its least requests were seen (in canary: at each weight, in each region), no check's lower
   bound is above 0 and, at its last weight, its proof is there. Nothing moves by the clock alone, but the deadline,
   which ends.
4. Only `proved` and a named person's `approve` lead to a promotion.
5. A broken sample ratio is latched: the champion answers alone, until the deadline or a person.
6. While paused a release can abort or expire, but not go on.
7. Several challengers go on together: one that is proved worse leaves and is quarantined. A stage that is not the
   last to prove is left when all that are in it are done; the last one when one may be promoted. Of several the one
   with the lowest estimated loss goes on to a stage for one, or is promoted; the others end superseded.
8. After a promotion the old champion stays as a shadow for `watch`; a proved regression rolls back.
9. Where an announced event with settings of its own begins or is over, the open release ends without a verdict.
10. A person's command that has no row in the table is refused and changes nothing.
`step` and `command` are pure and total: any state and any event lead to a known state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tidegate.reasons import REASONS
from tidegate.release.actions import (
    Abort,
    Action,
    Drop,
    End,
    EnterStage,
    Latch,
    Promote,
    Refuse,
    Rollback,
    Supersede,
    action_to_json,
)
from tidegate.release.check import check_spec
from tidegate.release.commands import Command, Event, event_of_command
from tidegate.release.evidence import Evidence
from tidegate.release.judge import Judgement
from tidegate.release.looks import Look, best_of, done_here, explain, hold, look
from tidegate.release.policy import PLACE_OF_STAGE
from tidegate.release.proofs import carried_next, keep_proofs
from tidegate.release.stages import (
    STAGES,
    Release,
    Version,
    at_last_proof,
    at_last_weight,
    requests_seen,
)
from tidegate.spec import ReleaseSpec

OPEN = STAGES
GATHERING = tuple(PLACE_OF_STAGE)
NEXT = "next"
"""The weight or stage that follows, by the release's own list."""

TABLE: tuple[tuple[tuple[str, ...], str, str], ...] = (
    # in state                     event        to
    (OPEN,                         "worse",     "aborted"),
    (OPEN,                         "failed",    "aborted"),
    (OPEN,                         "one_worse", "same"),
    (OPEN,                         "one_failed", "same"),
    (OPEN,                         "abort",     "aborted"),
    (OPEN,                         "ratio",     "same"),
    (OPEN,                         "pause",     "same"),
    (OPEN,                         "resume",    "same"),
    (OPEN,                         "deadline",  "expired"),
    (OPEN,                         "event",     "expired"),
    (GATHERING,                    "left",      NEXT),
    (("approval",),                "approved",  NEXT),
    (OPEN,                         "proved",    "watch"),
    (OPEN,                         "approve",   "watch"),
    (("watch",),                   "worse",     "rolled_back"),
    (("watch",),                   "failed",    "rolled_back"),
    (("watch", "promoted"),        "rollback",  "rolled_back"),
    (("watch",),                   "over",      "promoted"),
    (("watch",),                   "end_watch", "promoted"),
    (("watch",),                   "event",     "promoted"),
)  # fmt: skip
TRANSITIONS = {(state, event): to for states, event, to in TABLE for state in states}


def open_release(
    name: str, model: str, champion: Version, challengers: tuple[Version, ...], spec: ReleaseSpec, now: float,
    carried: float = 0.0,
) -> Release:  # fmt: skip
    """A new release at its first stage; challengers newest first.

    Raises UserError when `spec` asks for what a release cannot do.
    """
    check_spec(spec)
    first = spec.stages[0].kind
    return Release(name, model, champion, challengers, spec, now, first, entered=now, carried=carried)


def step(release: Release, evidence: Evidence, now: float) -> tuple[Release, tuple[Action, ...], Judgement]:
    """Decide once: the release as it is after this look, what is to be done, and the judgement it rests on.

    Deterministic; a second step with nothing new changes nothing.
    """
    seen = look(release, evidence, now)
    event = event_of(release, evidence, seen, now)
    if event is None:
        return _counted(release, evidence), (), explain(release, seen.whole)
    before: tuple[Action, ...] = ()
    if event.name in ("left", "proved"):
        release = keep_proofs(release, evidence, seen.each)
        release, before = go_on_with(release, event, seen)
    after, actions = take_event(release, event, evidence, now)
    return after, (*before, *actions), _told(release, event, seen)


def _told(release: Release, event: Event, seen: Look) -> Judgement:
    """The judgement that the event rests on; what ends nothing is a hold."""
    if event.name == "one_worse":
        return hold(seen.whole, "one_worse")
    if event.name == "proved" and len(seen.each) > 1:
        return replace(seen.whole, sentence=event.sentence)
    return seen.whole if event.name in ("worse", "ratio", "proved") else explain(release, seen.whole)


def event_of(release: Release, evidence: Evidence, seen: Look, now: float) -> Event | None:
    """The one event of this look, by rule 2."""
    if release.ended:
        return None
    if release.state == "watch":
        return watch_event(release, seen.whole, now)
    if seen.worse:
        return _worse(seen)
    if seen.broken and not release.latched:
        return Event("ratio", "sample_ratio", seen.whole.sentence)
    done = () if release.paused or release.latched else done_here(release, evidence, seen, now)
    proves = at_last_weight(release) and at_last_proof(release)
    leaves = bool(done) and (proves or len(done) == len(seen.each))
    if leaves and proves and release.stage + 1 == len(release.spec.stages):
        return Event("proved", "proved_not_worse", seen.each[done[0]].sentence, only=done)
    if now >= release.opened + release.spec.deadline.total_seconds():
        return Event("deadline", "deadline", f"{REASONS['deadline']} ({seen.whole.sentence})")
    told = f"{REASONS['stage_done']} ({seen.whole.sentence})"
    return Event("left", "stage_done", told, only=done) if leaves else None


def _worse(seen: Look) -> Event:
    """`worse` when no challenger is left, else `one_worse`; `only` names those that are."""
    if len(seen.worse) == len(seen.each):
        return Event("worse", seen.whole.reason, seen.whole.sentence)
    told = "; ".join(f"{name}: {seen.each[name].sentence}" for name in seen.worse)
    return Event("one_worse", seen.each[seen.worse[0]].reason, told, only=seen.worse)


def watch_event(release: Release, judgement: Judgement, now: float) -> Event | None:
    """A proved regression rolls back at any time; without one the watch ends by the clock."""
    if judgement.verdict == "abort":
        return Event("worse", "regression", f"{REASONS['regression']}: {judgement.sentence}")
    if now >= release.entered + release.spec.watch.total_seconds():
        return Event("over", "watched", REASONS["watched"])
    return None


def go_on_with(release: Release, event: Event, seen: Look) -> tuple[Release, tuple[Action, ...]]:
    """The release with those challengers that go on: all, or by rule 7 the best of those that are done."""
    if len(release.active) == 1 or not _for_one(release):
        return release, ()
    best = best_of(release, seen, event.only)
    others = [version for version in release.active if version != best]
    told = tuple(Supersede(version.name, version.digest, best.name) for version in others)
    return replace(release, left=(*release.left, *(version.name for version in others))), told


def _for_one(release: Release) -> bool:
    """Whether what follows this stage is for one challenger alone."""
    if not at_last_weight(release):
        return False
    following = [stage.kind for stage in release.spec.stages[release.stage + 1 :] if stage.kind in PLACE_OF_STAGE]
    return not following or following[0] in ("canary", "interleave")


def take_event(
    release: Release, event: Event, evidence: Evidence | None, now: float
) -> tuple[Release, tuple[Action, ...]]:
    """Look the event up in the table and go there; without a row nothing changes."""
    to = TRANSITIONS.get((release.state, event.name))
    if to is None:
        return release, (Refuse(event.name, f"a release in state {release.state} takes no {event.name}"),)
    told = replace(release, reason=event.reason, sentence=event.sentence, by=event.by)
    if to == NEXT:
        return enter_next(told, evidence, now)
    if to == "same":
        return _stay(told, event)
    return replace(told, state=to, entered=now, paused=False), _ending(told, event, to)


_FLAGS: Mapping[str, Mapping[str, Any]] = {
    "ratio": {"latched": True},
    "pause": {"paused": True},
    "resume": {"paused": False},
}


def _stay(release: Release, event: Event) -> tuple[Release, tuple[Action, ...]]:
    """In the same state: a flag is set, or challengers leave."""
    if event.only:
        gone = tuple(Drop(v.name, v.digest, event.reason) for v in release.active if v.name in event.only)
        return replace(release, left=(*release.left, *(action.version for action in gone))), gone
    return replace(release, **_FLAGS[event.name]), ((Latch(event.reason),) if event.name == "ratio" else ())


def enter_next(release: Release, evidence: Evidence | None, now: float) -> tuple[Release, tuple[Action, ...]]:
    """The next weight of this stage, else the next stage; the requests counted so far do not count for it.

    evidence: None when a person approves, who brings none; the looks until then have counted.
    """
    if at_last_weight(release):
        stage = release.stage + 1
        # during an approval traffic stays as it is, so the step stays at the last weight
        keep = release.spec.stages[stage].approval is not None
        moved = replace(release, stage=stage, step=release.step if keep else 0)
    else:
        moved = replace(release, step=release.step + 1)
    moved = replace(moved, state=moved.spec.stages[moved.stage].kind, entered=now)
    if evidence is not None:
        moved = replace(moved, entered_requests=requests_seen(moved, evidence))
    return _counted(moved, evidence), (EnterStage(moved.state, moved.stage, moved.weight),)


def _counted(release: Release, evidence: Evidence | None) -> Release:
    """While an approval is waited for: what is seen until then does not count for the stage behind it."""
    behind = release.spec.stages[release.stage + 1 :]
    if evidence is None or release.state != "approval" or not behind or behind[0].approval:
        return release
    following = replace(release, stage=release.stage + 1, step=0)
    return replace(release, entered_requests=requests_seen(following, evidence))


def _ending(release: Release, event: Event, to: str) -> tuple[Action, ...]:
    new = release.challenger
    if to == "watch":
        return (Promote(new.name, new.digest, event.reason, carried_next(release)),)
    if to == "aborted":
        return tuple(Abort(version.name, version.digest, event.reason) for version in release.active)
    if to == "rolled_back":
        return (Rollback(new.name, new.digest, event.reason),)
    return (End(to, event.reason),)


def command(release: Release, order: Command, now: float) -> tuple[Release, tuple[Action, ...]]:
    """Carry out a person's command, or refuse it."""
    return take_event(release, event_of_command(release, order), None, now)


def step_from_json(
    release: Mapping[str, Any], evidence: Mapping[str, Any], now: float
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """`step` over plain JSON, in and out: what the controller records and what `tidegate replay` runs again."""
    after, actions, judgement = step(Release.from_json(release), Evidence.from_json(evidence), now)
    return after.to_json(), [action_to_json(action) for action in actions], judgement.to_json()
