"""A file of evidence as the columns that are folded: one challenger's beside the champion's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tidegate.release.evidence_file import EvidenceFile, Frame, column, is_first
from tidegate.release.file_policy import FilePolicy
from tidegate.release.fold import service_checks
from tidegate.release.policy import INTERLEAVE, SHADOW, JudgePolicy
from tidegate.release.rows import Bools, Floats, Ids


@dataclass(frozen=True)
class Columns:
    """One challenger's evidence. position: the number of file rows (in order) that must be there for an observation.

    values: what each check folds (a value of the split, a difference of a pair, minus a credit), nan where the label
    is not there. groups: the value in each guarded slice. a, pi: of the split alone.
    """

    position: Floats
    time: Floats
    values: Mapping[str, Floats]
    labelled: Bools
    a: Floats
    pi: Floats
    groups: Mapping[str, Ids] = field(default_factory=dict)


def cut(table: Columns, part: Any) -> Columns:
    """The rows at `part`, a slice or a mask."""
    values = {name: value[part] for name, value in table.values.items()}
    groups = {name: value[part] for name, value in table.groups.items()}
    at = (table.labelled[part], table.a[part], table.pi[part])
    return Columns(table.position[part], table.time[part], values, *at, groups)


def arms_of(evidence: EvidenceFile, policy: FilePolicy) -> dict[str, Columns]:
    """Each challenger's columns beside the champion's."""
    if evidence.kind == INTERLEAVE:
        return {policy.challengers[0]: _credits(evidence.frame)}
    if not evidence.weighted:
        return {}
    rules = policy.judge_policy(evidence.kind)
    make = _pair_columns if evidence.kind == SHADOW else _split_columns
    return {arm: make(evidence, policy, rules, arm) for arm in policy.challengers}


def _credits(frame: Frame) -> Columns:
    time, none = column(frame, "time"), np.empty(frame.height)
    position = np.arange(1.0, frame.height + 1)
    return Columns(position, time, {"credit": -column(frame, "credit")}, none > 0, none, none)


def _service(frame: Frame, rules: JudgePolicy, suffix: str = "") -> dict[str, Floats]:
    error = column(frame, "error" + suffix)
    return service_checks(rules, error > 0, column(frame, "latency_ms" + suffix))


def _business(frame: Frame, rules: JudgePolicy, suffix: str = "") -> dict[str, Floats]:
    """The business metrics as shares of their bound."""
    return {metric.name: column(frame, metric.name + suffix) / metric.bound for metric in rules.business}


def _groups(frame: Frame, rules: JudgePolicy) -> dict[str, Ids]:
    import polars as pl

    return {name: frame[name].cast(pl.String).fill_null("none").to_numpy() for name in rules.slices}


def _split_columns(evidence: EvidenceFile, policy: FilePolicy, rules: JudgePolicy, arm: str) -> Columns:
    import polars as pl

    frame = evidence.frame.with_columns((pl.int_range(pl.len()) + 1).alias("position"))
    frame = frame.filter(pl.col("arm").is_in([policy.champion, arm]))
    if evidence.sticky:
        frame = frame.filter(pl.Series(is_first(frame, "unit")))
    a = np.asarray((frame["arm"] == arm).to_numpy(), dtype=np.float64)
    loss = column(frame, "loss")
    labelled = ~np.isnan(loss) | (column(frame, "error") > 0)
    values = {**_service(frame, rules), **_business(frame, rules), "loss": loss}
    at, time = column(frame, "position"), column(frame, "time")
    return Columns(at, time, values, labelled, a, _share(frame, policy, arm, a), _groups(frame, rules))


def _share(frame: Frame, policy: FilePolicy, arm: str, a: Floats) -> Floats:
    """The challenger's share against the champion alone: pi_j / (pi_j + pi_0)."""
    import polars as pl

    if len(policy.arms) == 2:
        given = column(frame, "propensity")
        return np.where(a == 1, given, 1 - given)
    weights = pl.col("weights").list
    ours, theirs = weights.get(policy.arms.index(arm)), weights.get(policy.arms.index(policy.champion))
    share = frame.select((ours / (ours + theirs)).alias("share"))
    return column(share, "share")


def _pair_columns(evidence: EvidenceFile, policy: FilePolicy, rules: JudgePolicy, arm: str) -> Columns:
    """Differences of the rows with one request id; a champion's row whose copy never comes is the challenger's error.

    A pair is there with the later of its two rows.
    """
    import polars as pl

    frame = evidence.frame.with_columns((pl.int_range(pl.len()) + 1).alias("position"))
    names = ("request_id", "time", "position", "loss", "error", "latency_ms", *(m.name for m in rules.business))
    kept = [name for name in (*names, *rules.slices) if name in frame.columns]
    old, new = (frame.filter(pl.col("arm") == name).select(kept) for name in (policy.champion, arm))
    both = old.join(new, on="request_id", how="left", suffix="_new", maintain_order="left")
    now = float(frame["time"].max()) if policy.now is None else policy.now
    there = pl.col("time_new").is_not_null()
    both = both.filter(there | (pl.col("time") <= now - policy.label_deadline))
    both = both.with_columns(pl.max_horizontal("position", "position_new").alias("at")).sort("at", maintain_order=True)
    missing = np.asarray(both["time_new"].is_null().to_numpy(), dtype=np.bool_)
    served, copied = _service(both, rules), _service(both, rules, "_new")
    values = {name: np.where(missing, 1.0, copied[name]) - served[name] for name in served}
    values["loss"] = column(both, "loss_new") - column(both, "loss")
    served, copied = _business(both, rules), _business(both, rules, "_new")
    values |= {name: copied[name] - served[name] for name in served}
    labelled = ~np.isnan(column(both, "loss"))
    none = np.empty(both.height)
    return Columns(column(both, "at"), column(both, "time"), values, labelled, none, none, _groups(both, rules))
