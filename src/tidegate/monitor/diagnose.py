"""One name for what is wrong with a window of rows, with its evidence and what to do about it.

Kinds are named in the order skew, selective_labels, domain_shift, concept_drift, data_drift: each one can look like
those after it. Where the rows cannot tell, the answer is ``not_assessable``, never ``none``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import UserError
from tidegate.monitor.clusters import DAY, Floats, Interval
from tidegate.monitor.concept import compared, concept_drift, expected_label, expected_log_loss, labelled, platt
from tidegate.monitor.domain import domain_shift
from tidegate.monitor.drift import Column, Evidence, Window, data_drift, same, skew
from tidegate.monitor.join import CANCELLED, OBSERVED, Row
from tidegate.monitor.learn import Table, table
from tidegate.monitor.performance import log_losses, measure
from tidegate.monitor.ratio import Ratio, density_ratio
from tidegate.monitor.selective import selective_labels

ORDER = ("skew", "selective_labels", "domain_shift", "concept_drift", "data_drift")
LEAST_DAYS, LEAST_REFERENCE_DAYS, LEAST_ROWS, LEAST_LABELS = 7, 21, 200, 100
BENIGN = 0.01
"""Nats: data drift that is predicted to cost less than this asks for no retraining."""
LEAST_SHARE_LEFT = 0.05
"""Of the reference's rows, once they are weighted to look like the current ones."""
MOST_EVIDENCE = 10
ACTIONS = {
    "none": "nothing",
    "not_assessable": "wait for more days, rows or labels",
    "skew": "stop: the pipeline computes a feature in two ways; no retraining until it is mended",
    "selective_labels": "keep some exploration traffic, so that labels are seen everywhere",
    "domain_shift": "collect and label rows of the new region; do not retrain on it blindly",
    "concept_drift": "retrain on a recent window, or search for another architecture",
    "data_drift": "retrain on fresh rows",
}
ACTION_BENIGN = "nothing: the rows changed, the predicted loss hardly does"


@dataclass(frozen=True)
class Diagnosis:
    """`finding` is the first of `findings`, or ``none``, or ``not_assessable``; `to_json` is the command's output.

    not_assessable: (kind, why). loss: mean log loss in nats: of the reference, as predicted for the current rows
    from their scores alone, as observed, with its interval over days. benign: the finding is data drift whose
    predicted loss is within `BENIGN` of the reference's. region: labelled rows of the window that lie outside the
    reference's domain; 0 unless a domain shift was found.
    """

    finding: str
    findings: tuple[str, ...]
    not_assessable: tuple[tuple[str, str], ...]
    evidence: tuple[Evidence, ...]
    loss: dict[str, Any]
    action: str
    benign: bool = False
    region: int = 0

    @property
    def asks(self) -> str:
        """The finding as the trigger policy is told it: benign data drift is ``none``."""
        return "none" if self.benign else self.finding

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, numbers that are not there as null."""
        return {
            "finding": self.finding,
            "findings": list(self.findings),
            "not_assessable": [{"kind": kind, "reason": reason} for kind, reason in self.not_assessable],
            "evidence": [asdict(one) for one in self.evidence],
            "loss": self.loss,
            "action": self.action,
            "benign": self.benign,
            "region": self.region,
        }


def diagnose(
    reference: Window,
    current: Window,
    alpha: float = 0.001,
    rescore: Callable[[Window], Floats] | None = None,
) -> Diagnosis:
    """Compare a current window with a reference that the model was not fitted on.

    `alpha` is the share of false alarms a kind: 0.001 where one looks again and again, 0.005 for a single report.
    `rescore` scores a window again, from its features: where skew is found, rows that it touched are judged by that,
    or, without it, concept drift by the other rows only.
    Raises UserError when the current window lacks a feature of the reference.
    """
    _check(reference, current)
    missing = dict(_thin(reference, current))
    evidence: list[Evidence] = []
    if current.recomputed and len(current):
        evidence += skew(current)
        if any(one.p < alpha for one in evidence):
            current = mended(current, rescore)
    if "selective_labels" not in missing:
        evidence += selective_labels(current)
    loss, region = _loss(reference, current), 0
    if "domain_shift" not in missing:
        rows = table(reference, current)
        ratio = density_ratio(rows, reference.day, current.day)
        outside = domain_shift(reference, current, ratio)
        evidence += [one.evidence for one in outside]
        inside = ~np.any([one.rows for one in outside if one.evidence.p < alpha] or [np.zeros(len(current), bool)], 0)
        region = int((~np.isnan(current.label[~inside])).sum())
        found, why, loss = _inside(reference, current, inside, rows, ratio, loss, "concept_drift" in missing)
        evidence += found
        missing |= why
    fired = {one.kind for one in evidence if one.p < alpha}
    findings = tuple(kind for kind in ORDER if kind in fired)
    return replace(_named(findings, missing, evidence, alpha, loss), region=region)


def mended(current: Window, rescore: Callable[[Window], Floats] | None) -> Window:
    """The window with its recomputed features, and scores that belong to them: nan where there is none."""
    right = replace(current, features={**current.features, **current.recomputed}, recomputed={})
    if rescore is not None:
        return replace(right, score=rescore(right))
    touched = np.zeros(len(current), bool)
    for name, again in current.recomputed.items():
        touched |= ~same(current.features[name], again)
    return replace(right, score=np.where(touched, np.nan, current.score))


def _inside(
    reference: Window,
    current: Window,
    inside: NDArray[np.bool_],
    rows: Table,
    ratio: Ratio,
    loss: dict[str, Any],
    blind: bool,
) -> tuple[list[Evidence], dict[str, str], dict[str, Any]]:
    """Data drift and concept drift of the rows inside the reference's domain."""
    within = current
    if not inside.all():
        within = current.take(inside)
        if len(within) < LEAST_ROWS:
            few = f"{len(within)} rows inside the reference's domain, fewer than {LEAST_ROWS}"
            # nearly all rows are outside: which features moved is told of them
            return data_drift(reference, current, ratio.told_apart(reference.day is None)), {"concept_drift": few}, loss
        rows = table(reference, within)
        ratio = density_ratio(rows, reference.day, within.day)
    evidence = data_drift(reference, within, ratio.told_apart(reference.day is None))
    if blind:
        return evidence, {}, loss
    found, why, loss = _concept(reference, within, rows, ratio, loss)
    return evidence + found, why, loss


def _concept(
    reference: Window, current: Window, rows: Table, ratio: Ratio, loss: dict[str, Any]
) -> tuple[list[Evidence], dict[str, str], dict[str, Any]]:
    old, new = labelled(reference), labelled(current)
    if len(new) < LEAST_LABELS:
        reason = f"{len(new)} labelled rows inside the reference's domain, fewer than {LEAST_LABELS}"
        return [], {"concept_drift": reason}, loss
    if (len(old), len(new)) != (len(reference), len(current)):
        # the weights must aim at the rows that have a label
        rows = table(old, new)
        ratio = density_ratio(rows, old.day, new.day)
    both = compared(old, new, rows, ratio if old.day is None else None)
    left = ratio.share_left
    loss = loss | {"predicted_from_data_drift": _number(both.predicted), "ess": left}
    if old.day is None and left < LEAST_SHARE_LEFT:
        reason = f"the reference's rows count for {left:.1%} of themselves, under {LEAST_SHARE_LEFT:.0%}"
        return [], {"concept_drift": reason}, loss
    return concept_drift(both), {}, loss


def window_of(rows: Sequence[Row], kinds: Mapping[str, str]) -> Window:
    """Matured rows of `LabelJoin` as a window.

    `kinds` says ``numeric`` or ``category`` for each feature, in the order in which they were served (the feature
    schema's). Rows that failed have no features and are left out.
    """
    rows = [row for row in rows if len(row.prediction.features) == len(kinds)]
    columns = list(zip(*(row.prediction.features for row in rows), strict=True)) or [()] * len(kinds)
    score = [math.nan if row.prediction.score is None else row.prediction.score for row in rows]
    return Window(
        {name: column_of(values, kind) for (name, kind), values in zip(kinds.items(), columns, strict=True)},
        np.array(score, np.float64),
        np.array([row.label for row in rows], np.float64),
        np.array([math.floor(row.prediction.time / DAY) for row in rows], np.int64),
        np.array([row.outcome in (OBSERVED, CANCELLED) for row in rows], bool),
    )


def column_of(values: Sequence[float | str | None], kind: str) -> Column:
    """Served values as a column: numbers with nan for null, or an object array of text and None."""
    if kind == "category":
        return np.array([None if value is None else str(value) for value in values], object)
    return np.array([math.nan if value is None else value for value in values], np.float64)


def _check(reference: Window, current: Window) -> None:
    for name, column in reference.features.items():
        if name not in current.features:
            raise UserError("current rows", f"no column {name}", "every feature of the reference")
        if (column.dtype.kind == "O") != (current.features[name].dtype.kind == "O"):
            raise UserError(f"feature {name}", current.features[name].dtype.name, f"{column.dtype.name}, as before")
    if (reference.day is None) != (current.day is None):
        raise UserError("days", "on one side only", "days on both sides, or on neither")


def _thin(reference: Window, current: Window) -> list[tuple[str, str]]:
    """What the rows cannot tell, with the reason."""
    found = [] if current.recomputed else [("skew", "no recomputed features to compare with")]
    days, before = current.days, reference.days
    why = ""
    if days is not None and days < LEAST_DAYS:
        why = f"{days} days, fewer than {LEAST_DAYS}"
    elif before is not None and before < LEAST_REFERENCE_DAYS:
        why = f"{before} days of reference, fewer than {LEAST_REFERENCE_DAYS}"
    elif min(len(current), len(reference)) < LEAST_ROWS:
        why = f"{min(len(current), len(reference))} rows, fewer than {LEAST_ROWS}"
    if why:
        return found + [(kind, why) for kind in ORDER if kind != "skew"]
    labels = min(len(labelled(reference)), len(labelled(current)))
    if labels < LEAST_LABELS:
        found.append(("concept_drift", f"{labels} labelled rows, fewer than {LEAST_LABELS}"))
    elif len(np.unique(labelled(reference).label)) < 2:
        found.append(("concept_drift", "the reference has one class only"))
    return found


def _loss(reference: Window, current: Window) -> dict[str, Any]:
    old, new = labelled(reference), labelled(current)
    scale = platt(old.score, old.label) if len(old) else (1.0, 0.0)
    scored = current.score[~np.isnan(current.score)]
    observed = _observed(new)
    return {
        "metric": "log_loss",
        "reference": _number(log_losses(old.score, old.label).mean() if len(old) else math.nan),
        "predicted_from_data_drift": _number(
            expected_log_loss(scored, expected_label(scored, scale)).mean() if len(scored) else math.nan
        ),
        "observed": _number(observed.value),
        "interval": [_number(observed.lower), _number(observed.upper)],
        "ess": None,
    }


def _observed(window: Window) -> Interval:
    if not len(window):
        return Interval(math.nan, math.nan, math.nan)
    day = np.arange(len(window)) if window.day is None else window.day
    order = np.argsort(day, kind="stable")
    cuts = np.flatnonzero(np.diff(day[order])) + 1
    parts = [(window.score[rows], window.label[rows]) for rows in np.split(order, cuts)]
    return measure("log_loss", parts)


def _named(
    findings: tuple[str, ...],
    missing: dict[str, str],
    evidence: Sequence[Evidence],
    alpha: float,
    loss: dict[str, Any],
) -> Diagnosis:
    blind = [kind for kind in missing if kind != "skew"]
    finding = findings[0] if findings else "not_assessable" if blind else "none"
    before, predicted = loss["reference"], loss["predicted_from_data_drift"]
    benign = finding == "data_drift" and None not in (before, predicted) and predicted - before < BENIGN
    return Diagnosis(
        finding,
        findings,
        tuple(missing.items()),
        tuple(_strongest(evidence, alpha)),
        loss,
        ACTION_BENIGN if benign else ACTIONS[finding],
        benign,
    )


def _strongest(evidence: Sequence[Evidence], alpha: float) -> list[Evidence]:
    """Of each kind the tests that fired, smallest p first and at most ten; where none did, the nearest one."""
    kept = []
    for kind in ORDER:
        tests = sorted((one for one in evidence if one.kind == kind), key=lambda one: (one.p, -abs(one.effect)))
        fired = [one for one in tests if one.p < alpha]
        kept += fired[:MOST_EVIDENCE] or tests[:1]
    return kept


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
