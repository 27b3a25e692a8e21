"""A champion that is proved beyond the performance limit: written down, and where asked for, rolled back by policy.

It gives its place to the earlier version that did best by the same metric while it served, when `rollback` asks for
it and nothing better is on its way: no candidate waits, no release is open (its watch included: there the judge
compares), and no skew was found (a fault of the pipeline hits every version).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.errors import UserError
from tidegate.journal.fold import ModelState
from tidegate.release.stages import ENDED
from tidegate.spec import ModelSpec, PerformanceTrigger
from tidegate.trigger.events import Metric
from tidegate.trigger.policy import performance_is_bad


def check_rollback(spec: ModelSpec) -> None:
    """UserError where a rollback is asked for and no limit says when."""
    if spec.rollback and spec.rollback.on_regression and spec.triggers.performance is None:
        takes = "spec.triggers.performance beside it: its limit says what a regression is"
        raise UserError("spec.rollback.onRegression", True, takes)


def degraded(spec: ModelSpec, state: ModelState, now: float) -> tuple[str, Mapping[str, Any]] | None:
    """(kind, data) of what the look at `now` says of the champion that was not known before; None: nothing new.

    release.degraded: proved beyond the limit, with `to`, the version that takes its place, or null and the reason.
    release.recovered: on the good side again.
    """
    champion = state.champion
    look = state.looks.get(champion.digest) if champion else None
    if champion is None or look is None or look["time"] != now:
        return None
    told = state.degraded is not None and state.degraded["digest"] == champion.digest
    bad = performance_is_bad(spec.triggers, Metric(**_look(look)))
    who = {"version": champion.version, "digest": champion.digest, "look": _look(look)}
    if bad is False and told:
        return "release.recovered", {**who, "reason": "recovered"}
    if not bad:
        return None
    to, reason = _answer(spec, state)
    return None if told and to is None else ("release.degraded", {**who, "to": to, "reason": reason})


def _answer(spec: ModelSpec, state: ModelState) -> tuple[Mapping[str, str] | None, str]:
    """The version to go back to, or None with the reason."""
    rule = spec.triggers.performance
    if spec.rollback is None or not spec.rollback.on_regression or rule is None:
        return None, "degraded"
    if state.waiting or (state.release is not None and state.release["state"] not in ENDED):
        return None, "degraded_candidate"
    if (state.trigger or {}).get("skew"):
        return None, "degraded_skew"
    to = best_earlier(rule, state)
    return to, "degraded_back" if to else "degraded_alone"


def best_earlier(rule: PerformanceTrigger, state: ModelState) -> Mapping[str, str] | None:
    """The earlier champion with the best mean over the looks at it; None where there is none to go back to.

    Left out are versions in quarantine and those whose own mean is on the bad side of the limit. One that was never
    looked at comes after all that were, the newest of them first.
    """
    champion = state.champion.digest if state.champion else ""
    sign = 1.0 if rule.metric == "roc_auc" else -1.0
    best, score = None, -float("inf")
    for place, served in enumerate(state.history):
        mean = _mean(rule, state.looks.get(served.digest))
        worth = sign * mean if mean is not None else -1e9 + place
        good = mean is None or sign * mean >= sign * rule.below
        if good and worth > score and served.digest != champion and served.digest not in state.quarantined:
            best, score = served, worth
    return {"version": best.version, "digest": best.digest} if best else None


def _mean(rule: PerformanceTrigger, look: Mapping[str, Any] | None) -> float | None:
    return look["sum"] / look["n"] if look and look["name"] == rule.metric and look["n"] else None


def _look(look: Mapping[str, Any]) -> dict[str, Any]:
    return {name: look[name] for name in ("time", "name", "value", "lower", "upper", "labels")}
