"""Proof that a journal reproduces itself: the chain holds, and every recorded decision is what the code decides again.

A decision event stores its inputs. Replay hands only these, and the state folded from the events before, to the code
that decides in production, and compares what comes out with what was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import TamperedJournal
from tidegate.journal.events import Event, canonical
from tidegate.journal.fold import ModelState, apply
from tidegate.journal.store import open_journal, verify

if TYPE_CHECKING:
    from tidegate.spec import Model


Show = Callable[[int, int], None]


@dataclass(frozen=True)
class Report:
    """What a replay found: decisions recomputed by kind, and the first fault where there is one."""

    events: int
    decisions: Mapping[str, int]
    fault: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything was reproduced."""
        return not self.fault

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {"ok": self.ok, "events": self.events, "decisions": dict(self.decisions), "fault": self.fault}

    def to_text(self) -> str:
        """The report for the terminal."""
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(self.decisions.items()))
        if self.ok:
            return f"reproduced: {sum(self.decisions.values())} decisions in {self.events} events ({counts})"
        return f"not reproduced: {self.fault}"


class _Differs(Exception):
    """A recorded decision is not what the code decides from its recorded inputs."""


def replay_state(state: Path, evidence: bool = False, show: Show = lambda done, total: None) -> Report:
    """Replay the journal of a state folder; `evidence` recomputes the sums from the observation store, too.

    `show` is told how many events of how many were replayed.
    """
    journal = open_journal(state)
    total, counts = 0, Counter[str]()
    whole = sum(journal.heads().values())
    try:
        for model in journal.models():
            events = journal.read(model)
            verify(events)
            counts.update(replay_events(events, partial(_shown, show, total, whole)))
            total += len(events)
            if evidence:
                from tidegate.controller.evidence import recompute

                counts.update(recompute(state, events))
    except TamperedJournal as fault:
        return Report(total, counts, str(fault))
    return Report(total, counts)


def _shown(show: Show, before: int, whole: int, number: int) -> None:
    if number % 50 == 0:
        show(before + number, whole)


def replay_events(events: Sequence[Event], at: Callable[[int], None] = lambda number: None) -> Counter[str]:
    """Recompute every decision among a model's events; TamperedJournal names the first that differs.

    `at` is told each number that is next.
    """
    state, counts = ModelState(), Counter[str]()
    for event in events:
        at(event.seq)
        check = _CHECKS.get(event.kind)
        if check:
            try:
                check(state, event)
            except (_Differs, KeyError, TypeError, ValueError, AttributeError, IndexError) as found:
                what = str(found) if isinstance(found, _Differs) else f"its inputs do not fit: {found!r}"
                raise TamperedJournal(f"journal of {event.model}: event {event.seq} ({event.kind}): {what}") from None
            counts[event.kind] += 1
        state = apply(state, event)
    return counts


def _same(what: str, recorded: object, recomputed: object) -> None:
    was, now = canonical(recorded), canonical(recomputed)
    if was != now:
        at = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
        near = slice(max(0, at - 40), at + 40)
        raise _Differs(f"{what} was written as …{was[near]}…, is …{now[near]}…")


def _check_trigger(state: ModelState, event: Event) -> None:
    from tidegate.controller.reconcile import weigh

    after, decision = weigh(_model(state).spec, state.trigger, event.data["event"])
    _same("the decision", event.data["decision"], decision)
    _same("the trigger state", event.data["state"], after)


def _check_step(state: ModelState, event: Event) -> None:
    from tidegate.release import machine

    if event.data["now"] != event.time:
        raise _Differs(f"now is {event.data['now']}, the event's time {event.time}")
    after, actions, judgement = machine.step_from_json(state.release or {}, event.data["evidence"], event.data["now"])
    _same("the judgement", event.data["judgement"], judgement)
    _same("the release", event.data["release"], after)
    _same("the actions", event.data["actions"], actions)


def _check_command(state: ModelState, event: Event) -> None:
    from tidegate.controller.reconcile import obey

    data = event.data
    after, actions = obey(state.release or {}, data["command"], data["now"])
    _same("the release", data["release"], after)
    _same("the actions", data["actions"], actions)


def _check_placed(state: ModelState, event: Event) -> None:
    from tidegate.controller.reconcile import placed

    wanted = placed(_model(state), state, event.time)
    _same("what becomes of the candidates", [event.kind, event.data], wanted and [wanted.kind, wanted.data])


def _check_reverted(state: ModelState, event: Event) -> None:
    from tidegate.controller.announced import given_back

    _same("who serves after the event", event.data, given_back(_model(state).spec, state, event.time))


def _check_degraded(state: ModelState, event: Event) -> None:
    from tidegate.controller.degrade import degraded

    _same("what the look says", [event.kind, event.data], degraded(_model(state).spec, state, event.time))


def _check_alert(state: ModelState, event: Event) -> None:
    from tidegate.controller.alerts import due

    _same("the alert", event.data, next(due(state), None))


def _check_traffic(state: ModelState, event: Event) -> None:
    from tidegate.controller.reconcile import wanted_plan

    plan, data = wanted_plan(_model(state), state), event.data
    shares = {version: round(share, 6) for version, share in data["split"]}
    wanted = plan and [{v: round(share, 6) for v, share in plan.split}, sorted(plan.mirrors), plan.release]
    _same("the traffic", [shares, sorted(data["mirrors"]), data["release"]], wanted)
    asked = asdict(plan.regions) if plan and plan.regions else None
    rules = plan and [plan.sticky, plan.merge, _regions(asked)]
    _same("the rules", [data.get("sticky", ""), data.get("merge", ()), _regions(data.get("regions"))], rules)


def _regions(found: Mapping[str, Any] | None) -> object:
    if not found:
        return None
    return found["header"], [(name, {v: round(share, 6) for v, share in split}) for name, split in found["splits"]]


def _check_batch(state: ModelState, event: Event) -> None:
    from tidegate.controller.batch_schedule import due

    _same("the batch", event.data, due(_model(state), state, event.time))


def _model(state: ModelState) -> Model:
    from tidegate.spec import parse_model

    named = {"kind": "Model", "metadata": {"name": state.model}, "spec": state.spec}
    return parse_model({"apiVersion": "tidegate.dev/v1alpha1", **named}, state.model)


def _check_gate(_state: ModelState, event: Event) -> None:
    from tidegate.evaluate.gate import again

    recorded = event.data["gate"]
    answer = again(recorded)
    _same("the gate", {name: recorded[name] for name in answer}, answer)


_CHECKS: Mapping[str, Callable[[ModelState, Event], None]] = {
    "trigger.evaluated": _check_trigger,
    "release.looked": _check_step,
    "release.stage": _check_step,
    "release.promoted": _check_step,
    "release.aborted": _check_step,
    "release.rolled_back": _check_step,
    "release.ended": _check_step,
    "release.command": _check_command,
    "release.first": _check_placed,
    "release.superseded": _check_placed,
    "release.opened": _check_placed,
    "release.reverted": _check_reverted,
    "release.degraded": _check_degraded,
    "release.recovered": _check_degraded,
    "monitor.alert": _check_alert,
    "serve.traffic": _check_traffic,
    "serve.batch_started": _check_batch,
    "register.candidate": _check_gate,
    "evaluate.refused": _check_gate,
}
