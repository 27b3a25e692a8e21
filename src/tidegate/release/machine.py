"""The way of a release, as a table.

Rules
1. A release goes through its stages in their order and is open until it is promoted, aborted or expired.
2. At each step exactly one event is taken from evidence and clock, the first that holds of: `worse` (the judge says
   abort), `ratio` (the split is not the one that was asked for), `proved` (the last stage is done and the judge says
   promote), `deadline`, `left` (the stage is done, another follows), none.
3. A stage is done when its least requests were seen (in canary: at each weight), no check's lower bound is above 0
   and, at its last weight, its proof is there. Nothing moves by the clock alone, but the deadline, which ends.
4. Only `proved` and a named person's `approve` lead to a promotion.
5. A broken sample ratio is latched: the champion answers alone, until the deadline or a person.
6. While paused a release can abort or expire, but not go on.
7. After a promotion the old champion stays as a shadow for `watch`; a proved regression rolls back.
8. A person's command that has no row in the table is refused and changes nothing.
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
    End,
    EnterStage,
    Latch,
    Promote,
    Refuse,
    Rollback,
    action_to_json,
)
from tidegate.release.commands import Command, Event, event_of_command
from tidegate.release.evidence import Evidence, Stats
from tidegate.release.judge import Judgement, carried_after, is_worse, judge
from tidegate.release.policy import JudgePolicy, policy_of
from tidegate.release.stages import (
    STAGES,
    Release,
    Version,
    at_last_proof,
    at_last_weight,
    check_spec,
    place_of,
    requests_seen,
    requests_wanted,
)
from tidegate.spec import ReleaseSpec

OPEN = STAGES
NEXT = "next"
"""The weight or stage that follows, by the release's own list."""

TABLE: tuple[tuple[tuple[str, ...], str, str], ...] = (
    # in state                     event        to
    (OPEN,                         "worse",     "aborted"),
    (OPEN,                         "failed",    "aborted"),
    (OPEN,                         "abort",     "aborted"),
    (OPEN,                         "ratio",     "same"),
    (OPEN,                         "pause",     "same"),
    (OPEN,                         "resume",    "same"),
    (OPEN,                         "deadline",  "expired"),
    (("shadow", "ab", "canary"),   "left",      NEXT),
    (("approval",),                "approved",  NEXT),
    (OPEN,                         "proved",    "watch"),
    (OPEN,                         "approve",   "watch"),
    (("watch",),                   "worse",     "rolled_back"),
    (("watch",),                   "failed",    "rolled_back"),
    (("watch", "promoted"),        "rollback",  "rolled_back"),
    (("watch",),                   "over",      "promoted"),
    (("watch",),                   "end_watch", "promoted"),
)  # fmt: skip
TRANSITIONS = {(state, event): to for states, event, to in TABLE for state in states}


def open_release(
    name: str, model: str, champion: Version, challenger: Version, spec: ReleaseSpec, now: float, carried: float = 0.0
) -> Release:
    """A new release at its first stage.

    Raises UserError when `spec` asks for a stage or a check that is not there yet.
    """
    check_spec(spec)
    first = spec.stages[0].kind
    return Release(name, model, champion, (challenger,), spec, now, first, entered=now, carried=carried)


def step(release: Release, evidence: Evidence, now: float) -> tuple[Release, tuple[Action, ...], Judgement]:
    """Decide once: the release as it is after this look, what is to be done, and the judgement it rests on.

    Deterministic; a second step with nothing new changes nothing.
    """
    judgement = assess(release, evidence, now)
    event = event_of(release, evidence, judgement, now)
    if event is None:
        return release, (), explain(release, judgement)
    if event.name in ("left", "proved"):
        release = keep_proofs(release, evidence, judgement)
    after, actions = take_event(release, event, evidence, now)
    decisive = event.name in ("worse", "ratio", "proved")
    return after, actions, judgement if decisive else explain(release, judgement)


def assess(release: Release, evidence: Evidence, now: float) -> Judgement:
    """The judge's look at the place where the release gathers evidence now."""
    policy, place = policy_of(release.spec), place_of(release)
    if release.ended:
        return Judgement("hold", "ended", REASONS["ended"], place, {})
    stats = evidence.at(place)
    if release.state == "watch":
        return judge(policy.for_watch(), stats, now=now, opened=release.entered, place=place)
    held = [m for m, proof in release.proofs.items() if proof["digest"] == release.challenger.digest]
    return judge(
        policy,
        stats,
        now=now,
        opened=release.opened,
        place=place,
        carried=release.carried,
        proofs=held,
        latched=release.latched,
    )


def event_of(release: Release, evidence: Evidence, judgement: Judgement, now: float) -> Event | None:
    """The one event of this look, by rule 2."""
    told = (judgement.reason, judgement.sentence)
    if release.ended:
        return None
    if release.state == "watch":
        return watch_event(release, judgement, now)
    if judgement.verdict == "abort":
        return Event("worse", *told)
    if judgement.reason == "sample_ratio" and not release.latched:
        return Event("ratio", *told)
    done = not release.paused and not release.latched and stage_done(release, evidence, judgement, now)
    last = at_last_weight(release) and release.stage + 1 == len(release.spec.stages)
    if done and last:
        return Event("proved", *told)
    if now >= release.opened + release.spec.deadline.total_seconds():
        return Event("deadline", "deadline", f"{REASONS['deadline']} ({judgement.sentence})")
    return Event("left", "stage_done", f"{REASONS['stage_done']} ({judgement.sentence})") if done else None


def watch_event(release: Release, judgement: Judgement, now: float) -> Event | None:
    """A proved regression rolls back at any time; without one the watch ends by the clock."""
    if judgement.verdict == "abort":
        return Event("worse", "regression", f"{REASONS['regression']}: {judgement.sentence}")
    if now >= release.entered + release.spec.watch.total_seconds():
        return Event("over", "watched", REASONS["watched"])
    return None


def stage_done(release: Release, evidence: Evidence, judgement: Judgement, now: float) -> bool:
    """Rule 3; the last stage that gathers evidence needs the judge's whole `promote`."""
    stage = release.spec.stages[release.stage]
    if stage.approval or requests_seen(release, evidence) - release.entered_requests < requests_wanted(stage):
        return False
    if any(check.lower > 0 for check in judgement.checks.values()):
        return False
    if stage.shadow and stage.shadow.min_duration and now < release.entered + stage.shadow.min_duration.total_seconds():
        return False
    if not at_last_weight(release):
        return True
    if at_last_proof(release):
        return judgement.verdict == "promote"
    here = {m.name for m in policy_of(release.spec).metrics if m.proved_at == judgement.place}
    return here <= set(judgement.proved)


def explain(release: Release, judgement: Judgement) -> Judgement:
    """A judgement by which nothing is promoted or aborted, as a hold that says why not."""
    if release.ended or judgement.reason == "sample_ratio":
        return judgement
    waits = "watching" if release.state == "watch" else "paused" if release.paused else release.state
    if waits in ("watching", "paused", "approval"):
        return _hold(judgement, waits)
    if judgement.verdict != "promote":
        return judgement
    worse = any(check.lower > 0 and not is_worse(check) for check in judgement.checks.values())
    return _hold(judgement, "block_check" if worse else "stage")


def _hold(judgement: Judgement, reason: str) -> Judgement:
    return replace(judgement, verdict="hold", reason=reason, sentence=f"{REASONS[reason]} ({judgement.sentence})")


def keep_proofs(release: Release, evidence: Evidence, judgement: Judgement) -> Release:
    """Write down the statistics of what this place has proved, for the stages that follow."""
    policy, stats = policy_of(release.spec), evidence.at(judgement.place)
    new = {name: proof_of(release, policy, stats, judgement, name) for name in judgement.proved}
    return replace(release, proofs={**release.proofs, **new})


def proof_of(release: Release, policy: JudgePolicy, stats: Stats, judgement: Judgement, name: str) -> dict[str, Any]:
    """The record of one proof; void when the challenger's digest is another one."""
    check = judgement.checks[name]
    return {
        "place": judgement.place,
        **stats.state(name).to_json(),
        "estimate": check.estimate,
        "upper": check.upper,
        "policy": policy.digest,
        "digest": release.challenger.digest,
    }


def take_event(release: Release, event: Event, evidence: Evidence, now: float) -> tuple[Release, tuple[Action, ...]]:
    """Look the event up in the table and go there; without a row nothing changes."""
    to = TRANSITIONS.get((release.state, event.name))
    if to is None:
        return release, (Refuse(event.name, f"a release in state {release.state} takes no {event.name}"),)
    told = replace(release, reason=event.reason, sentence=event.sentence, by=event.by)
    if to == "same":
        return replace(told, **_FLAGS[event.name]), ((Latch(event.reason),) if event.name == "ratio" else ())
    if to == NEXT:
        return enter_next(told, evidence, now)
    return replace(told, state=to, entered=now, paused=False), (_ending(told, event, to),)


_FLAGS: Mapping[str, Mapping[str, Any]] = {
    "ratio": {"latched": True},
    "pause": {"paused": True},
    "resume": {"paused": False},
}


def enter_next(release: Release, evidence: Evidence, now: float) -> tuple[Release, tuple[Action, ...]]:
    """The next weight of this stage, else the next stage; the requests counted so far do not count for it."""
    if at_last_weight(release):
        stage = release.stage + 1
        # during an approval traffic stays as it is, so the step stays at the last weight
        keep = release.spec.stages[stage].approval is not None
        moved = replace(release, stage=stage, step=release.step if keep else 0)
    else:
        moved = replace(release, step=release.step + 1)
    moved = replace(moved, state=moved.spec.stages[moved.stage].kind, entered=now)
    moved = replace(moved, entered_requests=requests_seen(moved, evidence))
    return moved, (EnterStage(moved.state, moved.stage, moved.weight),)


def carried_next(release: Release) -> float:
    """The quality margin that is spent once this release is promoted, by its proof of the loss."""
    proof = release.proofs.get("loss")
    return carried_after(release.carried, proof["estimate"], proof["upper"]) if proof else release.carried


def _ending(release: Release, event: Event, to: str) -> Action:
    if to == "watch":
        return Promote(release.challenger.name, release.challenger.digest, event.reason, carried_next(release))
    if to == "aborted":
        return Abort(release.challenger.name, release.challenger.digest, event.reason)
    if to == "rolled_back":
        return Rollback(release.challenger.name, release.challenger.digest, event.reason)
    return End(to, event.reason)


def command(
    release: Release, order: Command, now: float, evidence: Evidence | None = None
) -> tuple[Release, tuple[Action, ...]]:
    """Carry out a person's command, or refuse it; an approval that leads to a new weight counts from `evidence`."""
    return take_event(release, event_of_command(release, order), evidence or Evidence(), now)


def step_from_json(
    release: Mapping[str, Any], evidence: Mapping[str, Any], now: float
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """`step` over plain JSON, in and out: what the controller records and what `tidegate replay` runs again."""
    after, actions, judgement = step(Release.from_json(release), Evidence.from_json(evidence), now)
    return after.to_json(), [action_to_json(action) for action in actions], judgement.to_json()
