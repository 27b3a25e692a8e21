"""The model gate: may this candidate be registered? Decided from recorded numbers only, so that replay can ask again.

Rules, all at one-sided 95 % with days as clusters (`tidegate.evaluate.days`); difference = candidate - champion in the
gate's metric turned so that higher is worse:
1. the exported file answers its reference rows as the trained model did;
2. the metric is proved not worse by more than the margin: upper limit < margin. Without a champion the candidate is
   compared with the training rows' base rate as a constant and must be proved better: upper limit < 0;
3. no slice is proved worse by more than the margin: lower limit <= margin, the 5 % shared by all slices asked about. A
   slice under `LEAST_SLICE` rows or `LEAST_DAYS` days is not asked about, and listed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tidegate.evaluate.days import paired
from tidegate.train.model_file import TOLERANCE

LEVEL = 0.95
LEAST_SLICE, LEAST_DAYS = 200, 5


@dataclass(frozen=True)
class Check:
    """One comparison: `margin` is what the limit is held against."""

    estimate: float | None
    lower: float | None
    upper: float | None
    margin: float


@dataclass(frozen=True)
class GateVerdict:
    """The answer with every number; `not_assessed` names what was not looked at, and why."""

    verdict: Literal["passed", "refused"]
    reason: str
    checks: Mapping[str, Check]
    not_assessed: Mapping[str, str]


@dataclass(frozen=True)
class Policy:
    """What the gate is held to: the metric's name and its margin (higher is worse)."""

    metric: str
    margin: float


def gate(policy: Policy, measurements: Mapping[str, Any]) -> GateVerdict:
    """The verdict on `measurements` as `tidegate.evaluate.step` records them; pure, total on what it records.

    ``measurements``: ``compared_with`` (champion or base_rate), ``reference_distance``, ``days`` and
    ``slices[column][value]``, each ``{"rows": [n], "sums": [summed difference]}`` with one entry a day.
    """
    checks = {"reference": Check(measurements["reference_distance"], None, None, TOLERANCE)}
    first = measurements["compared_with"] == "base_rate"
    checks[policy.metric] = _check(measurements["days"], 0.0 if first else policy.margin, LEVEL)
    slices, small = ({}, {}) if first else _slices(measurements["slices"], policy.margin)
    reason = _reason(checks, policy.metric, measurements["days"], slices, first)
    verdict: Literal["passed", "refused"] = "passed" if reason in ("not_worse", "first_version") else "refused"
    skipped = {"fairness": "not built yet", "forgetting": "not built yet"}
    return GateVerdict(verdict, reason, {**checks, **slices}, {**small, **skipped})


def _reason(
    checks: Mapping[str, Check], metric: str, days: Mapping[str, Any], slices: Mapping[str, Check], first: bool
) -> str:
    reference, main = checks["reference"], checks[metric]
    if reference.estimate is None or not reference.estimate <= reference.margin:
        return "reference_rows"
    if len(days["rows"]) < LEAST_DAYS or main.upper is None:
        return "gate_too_little"
    if not main.upper < main.margin:
        return "base_rate" if first else "gate_metric"
    if any(check.lower is not None and check.lower > check.margin for check in slices.values()):
        return "gate_slice"
    return "first_version" if first else "not_worse"


def _slices(found: Mapping[str, Mapping[str, Any]], margin: float) -> tuple[dict[str, Check], dict[str, str]]:
    named = {f"{column}={value}": days for column, values in found.items() for value, days in values.items()}
    asked = {name: d for name, d in named.items() if sum(d["rows"]) >= LEAST_SLICE and len(d["rows"]) >= LEAST_DAYS}
    level = 1 - (1 - LEVEL) / max(len(asked), 1)
    checks = {name: _check(days, margin, level) for name, days in asked.items()}
    small = {name: f"{sum(d['rows'])} rows on {len(d['rows'])} days" for name, d in named.items() if name not in asked}
    return checks, small


def _check(days: Mapping[str, Sequence[Any]], margin: float, level: float) -> Check:
    found = paired(days["sums"], days["rows"], level)
    return Check(found.estimate, _finite(found.lower), _finite(found.upper), margin)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
