"""The model gate: may this candidate be registered? Decided from recorded numbers only, so that replay can ask again.

Rules, all at one-sided 95 % with days as clusters (`tidegate.evaluate.days`); difference = candidate - champion in the
gate's metric turned so that higher is worse. Asked in this order; the first that fails is the reason, all are listed:
1. the exported file answers its reference rows as the trained model did, and the real service that loads it answers
   them, and rows of the gate window, as it was scored (`tidegate.evaluate.infrastructure`);
2. the metric is proved not worse by more than the margin: upper limit < margin. Without a champion the candidate is
   compared with the training rows' base rate as a constant and must be proved better: upper limit < 0;
3. no slice is proved worse by more than the margin: lower limit <= margin (`tidegate.evaluate.slices`);
4. nothing of the past that the champion knew is proved forgotten (`tidegate.evaluate.forgetting`);
5. no gap between protected groups is proved too wide and wider than the champion's (`tidegate.evaluate.fairness`);
6. each further objective is kept within its own margin (`tidegate.evaluate.objectives`).
2 and the quality objectives must each be proved, so a model that fails one passes in at most 5 %; 3, 4 and 5 refuse on
proof only, and each shares its 5 % among all that it asks about.

A record without `rules` in its policy was decided by rules 1: 1 to 3 alone, and small slices not asked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tidegate.evaluate.days import LEAST_DAYS, LEVEL, Check, day_check
from tidegate.evaluate.fairness import fairness_checks
from tidegate.evaluate.forgetting import forgetting_checks
from tidegate.evaluate.objectives import objective_checks
from tidegate.evaluate.slices import own_checks, slice_checks
from tidegate.train.model_file import TOLERANCE

RULES = 2


@dataclass(frozen=True)
class GateVerdict:
    """The answer with every number; `failed` names the checks that refuse, `not_assessed` what was not asked."""

    verdict: Literal["passed", "refused"]
    reason: str
    checks: Mapping[str, Check]
    not_assessed: Mapping[str, str]
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """What the gate is held to: the metric's name and its margin (higher is worse), and the margins of the rest.

    `fairness` is the widest gap, `forgetting` the most loss, None where it is not asked; `objectives` margin by name.
    """

    metric: str
    margin: float
    fairness: float | None = None
    forgetting: float | None = None
    objectives: Mapping[str, float] = field(default_factory=dict)
    rules: int = RULES


@dataclass(frozen=True)
class _Part:
    """What one rule found: `reason` stands for its failures."""

    reason: str
    checks: Mapping[str, Check]
    failed: tuple[str, ...]
    missing: Mapping[str, str]


def gate(policy: Policy, measurements: Mapping[str, Any]) -> GateVerdict:
    """The verdict on `measurements` as `tidegate.evaluate.step` records them; pure, total on what it records.

    ``measurements``: ``compared_with`` (champion or base_rate), ``reference_distance``, ``days`` and
    ``slices[column][value]``, each ``{"rows": [n], "sums": [summed difference]}`` with one entry a day; where they are
    asked for, ``forgetting``, ``fairness`` and ``objectives`` as their modules measure them; ``infrastructure`` where a
    service was asked.
    """
    first = measurements["compared_with"] == "base_rate"
    served = _served(measurements)
    parts = [
        _reference(measurements),
        served,
        _metric(policy, measurements, first),
        *_rest(policy, measurements, first),
    ]
    reason = next((part.reason for part in parts if part.failed), "first_version" if first else "not_worse")
    # by name: a recorded measurement comes back in another order of its keys
    failed = tuple(name for part in parts for name in sorted(part.failed))
    checks = {name: check for part in parts for name, check in part.checks.items()}
    missing = {name: why for part in parts for name, why in part.missing.items()}
    return GateVerdict("refused" if failed else "passed", reason, checks, missing, failed)


def again(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a recorded gate, asked again under the rules that it was decided by, in the shape of its record."""
    policy = Policy(**{"rules": 1, **recorded["policy"]})
    answer = asdict(gate(policy, recorded["measurements"]))
    return answer if policy.rules > 1 else {name: answer[name] for name in answer if name != "failed"}


def _reference(measurements: Mapping[str, Any]) -> _Part:
    check = Check(measurements["reference_distance"], None, None, TOLERANCE)
    answered = check.estimate is not None and check.estimate <= check.margin
    return _Part("reference_rows", {"reference": check}, () if answered else ("reference",), {})


def _served(measurements: Mapping[str, Any]) -> _Part:
    """No answer is a distance of None; a record from before services were asked holds nothing."""
    found = {name: one for name, one in measurements.get("infrastructure", {}).items() if name != "error"}
    checks = {f"service {name} rows": Check(one["distance"], None, None, TOLERANCE) for name, one in found.items()}
    failed = [n for n, check in checks.items() if check.estimate is None or not check.estimate <= check.margin]
    return _Part("infrastructure", checks, tuple(failed), {})


def _metric(policy: Policy, measurements: Mapping[str, Any], first: bool) -> _Part:
    days = measurements["days"]
    check = day_check(days, 0.0 if first else policy.margin, LEVEL)
    thin = len(days["rows"]) < LEAST_DAYS or check.upper is None
    reason = "gate_too_little" if thin else "base_rate" if first else "gate_metric"
    proved = not thin and check.upper is not None and check.upper < check.margin
    return _Part(reason, {policy.metric: check}, () if proved else (policy.metric,), {})


def _rest(policy: Policy, measurements: Mapping[str, Any], first: bool) -> list[_Part]:
    if policy.rules == 1:
        return _rules_1(policy, measurements, first)
    return [
        _slices(policy, measurements, first),
        _forgetting(policy, measurements, first),
        _fairness(policy, measurements),
        _objectives(policy, measurements, first),
    ]


def _rules_1(policy: Policy, measurements: Mapping[str, Any], first: bool) -> list[_Part]:
    checks, small = ({}, {}) if first else own_checks(measurements["slices"], policy.margin)
    small |= {"fairness": "not built yet", "forgetting": "not built yet"}
    return [_Part("gate_slice", checks, _over(checks), small)]


def _slices(policy: Policy, measurements: Mapping[str, Any], first: bool) -> _Part:
    if first:
        return _Part("gate_slice", {}, (), {"slices": "no champion to compare with"})
    checks = slice_checks(measurements["slices"], measurements["days"], policy.margin)
    return _Part("gate_slice", checks, _over(checks), {})


def _forgetting(policy: Policy, measurements: Mapping[str, Any], first: bool) -> _Part:
    found = measurements.get("forgetting")
    if policy.forgetting is None or not found:
        why = "not asked for" if policy.forgetting is None else "no champion" if first else "no rows of the past"
        return _Part("gate_forgetting", {}, (), {"forgetting": why})
    checks, small = forgetting_checks(found, policy.forgetting)
    return _Part("gate_forgetting", checks, _over(checks), small)


def _fairness(policy: Policy, measurements: Mapping[str, Any]) -> _Part:
    found = measurements.get("fairness")
    if policy.fairness is None or not found:
        return _Part("gate_fairness", {}, (), {"fairness": "not asked for"})
    checks, failed, small = fairness_checks(found, policy.fairness)
    return _Part("gate_fairness", checks, tuple(failed), small)


def _objectives(policy: Policy, measurements: Mapping[str, Any], first: bool) -> _Part:
    if first or not policy.objectives:
        none = {f"objective {name}": "no champion to compare with" for name in policy.objectives}
        return _Part("gate_objective", {}, (), none)
    checks, failed, missing = objective_checks(policy.objectives, measurements.get("objectives", {}))
    return _Part("gate_objective", checks, tuple(failed), missing)


def _over(checks: Mapping[str, Check]) -> tuple[str, ...]:
    return tuple(name for name, check in checks.items() if check.lower is not None and check.lower > check.margin)
