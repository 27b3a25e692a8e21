"""`tidegate judge`: the production judge over a file of evidence, look by look.

Look k takes the first k x N rows in the order of `time`; by default N is one hundredth of the file, at least 100 rows.
A row is matured when it is older than `now` - `labelDeadline`, one `now` for all looks. It ends at the first verdict
that is final, or at the last look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.errors import UserError
from tidegate.reasons import REASONS
from tidegate.release.confidence import State
from tidegate.release.evidence import (
    Stats,
    add_blocks,
    fold_mean,
    fold_pairs,
    fold_pairs_matured,
    fold_split,
    fold_split_matured,
)
from tidegate.release.evidence_file import EvidenceFile, Frame, column, is_first, load_evidence
from tidegate.release.file_policy import FilePolicy, load_file_policy
from tidegate.release.fold import service_checks
from tidegate.release.judge import Judgement, judge
from tidegate.release.policy import INTERLEAVE, SHADOW, JudgePolicy
from tidegate.release.rows import Bools, Floats


@dataclass(frozen=True)
class Columns:
    """One challenger's evidence. position: the number of file rows (in order) that must be there for an observation.

    values: what each check folds (a value of the split, a difference of a pair, minus a credit), nan where the label
    is not there. a, pi: of the split alone.
    """

    position: Floats
    time: Floats
    values: Mapping[str, Floats]
    labelled: Bools
    a: Floats
    pi: Floats


def judge_file(path: str | Path, policy_path: str | Path, every: int | None = None) -> Iterator[dict[str, Any]]:
    """Judge a Parquet file of evidence by a policy file; yields one document a look.

    Raises UserError for a fault of either file, naming field or row.
    """
    if every is not None and every < 1:
        raise UserError("--every", every, "a number of rows, at least 1")
    policy = load_file_policy(policy_path)
    evidence = load_evidence(path, policy)
    yield from looks(evidence, policy, every or max(100, evidence.frame.height // 100))


def looks(evidence: EvidenceFile, policy: FilePolicy, every: int) -> Iterator[dict[str, Any]]:
    """One document a look, the last one final or at the end of the file."""
    tables = arms_of(evidence, policy)
    rules = policy.judge_policy(evidence.kind)
    time = column(evidence.frame, "time")
    now = float(time[-1]) if policy.now is None else policy.now
    cutoff = now - policy.label_deadline
    requests = np.cumsum(_distinct(evidence))
    matured = int(np.searchsorted(time, cutoff, side="right"))
    run = _Run(rules, evidence.kind, cutoff, tables, float(time[0]))
    for look, end in enumerate(_ends(len(time), every), start=1):
        run = run.advance(end, float(time[end - 1]))
        verdict, told = run.verdict() if evidence.weighted else unweighted(evidence.kind)
        yield {
            "look": look,
            "requests": int(requests[end - 1]),
            "matured": int(requests[min(end, matured) - 1]) if matured else 0,
            **told,
            "unit": evidence.unit,
        }
        if verdict != "hold":
            return


def _ends(size: int, every: int) -> Iterator[int]:
    yield from range(every, size, every)
    yield size


def _distinct(evidence: EvidenceFile) -> Bools:
    """Rows that are a request of their own: of a pair only the first."""
    if evidence.kind == SHADOW:
        return is_first(evidence.frame, "request_id")
    return np.ones(evidence.frame.height, dtype=np.bool_)


def unweighted(kind: str) -> tuple[str, dict[str, Any]]:
    """The answer to evidence that does not say how requests were sent."""
    judgement = Judgement("hold", "no_propensity", REASONS["no_propensity"], kind, {})
    return "hold", _document(judgement, {"": judgement})


@dataclass(frozen=True)
class _Run:
    """The looks so far: statistics, judgements, and which sample ratios were broken, by challenger."""

    policy: JudgePolicy
    kind: str
    cutoff: float
    tables: Mapping[str, Columns]
    opened: float
    done: int = 0
    stats: Mapping[str, Stats] | None = None
    judged: Mapping[str, Judgement] | None = None

    def advance(self, end: int, now: float) -> _Run:
        """Fold the rows up to `end` and judge again; a challenger that was aborted stays so."""
        stats, judged = dict(self.stats or {}), dict(self.judged or {})
        for arm, table in self.tables.items():
            before = judged.get(arm)
            if before is not None and before.verdict == "abort":
                continue
            first, last = np.searchsorted(table.position, (self.done, end), side="right")
            part = _cut(table, slice(first, last))
            stats[arm] = fold(self.kind, stats.get(arm, Stats()), part, self.cutoff, self.policy)
            latched = before is not None and before.reason == "sample_ratio"
            judged[arm] = judge(self.policy, stats[arm], now=now, opened=self.opened, place=self.kind, latched=latched)
        return replace(self, done=end, stats=stats, judged=judged)

    def verdict(self) -> tuple[str, dict[str, Any]]:
        """Promote as soon as one may be, the one with the lowest loss; abort when all are; else hold."""
        judged = self.judged or {}
        may = [arm for arm, judgement in judged.items() if judgement.verdict == "promote"]
        held = [arm for arm, judgement in judged.items() if judgement.verdict == "hold"]
        chosen = min(may, key=lambda arm: _estimate(judged[arm])) if may else (held or list(judged))[0]
        document = _document(judged[chosen], judged)
        return judged[chosen].verdict, {**document, "arm": chosen} if may and len(judged) > 1 else document


def _estimate(judgement: Judgement) -> float:
    return next(iter(judgement.checks.values())).estimate or 0.0


def _document(chosen: Judgement, judged: Mapping[str, Judgement]) -> dict[str, Any]:
    checks = {}
    for arm, judgement in judged.items():
        told = judgement.to_json()["checks"]
        checks.update({f"{name}@{arm}" if len(judged) > 1 else name: check for name, check in told.items()})
    return {"verdict": chosen.verdict, "reason": chosen.reason, "checks": checks, "sentence": chosen.sentence}


def _cut(table: Columns, part: slice) -> Columns:
    values = {name: value[part] for name, value in table.values.items()}
    return Columns(table.position[part], table.time[part], values, table.labelled[part], table.a[part], table.pi[part])


def fold(kind: str, stats: Stats, part: Columns, cutoff: float, policy: JudgePolicy) -> Stats:
    """Fold one look's new rows: service checks at once, quality up to the cutoff."""
    service = {name: value for name, value in part.values.items() if name in ("errors", "latency")}
    old = slice(0, int(np.searchsorted(part.time, cutoff, side="right"))) if _sorted(part) else part.time <= cutoff
    if kind == INTERLEAVE:
        return fold_credit(stats, part.time, part.values["credit"], policy.block)
    if kind == SHADOW:
        stats = fold_pairs(stats, service, len(part.time))
        return fold_pairs_matured(stats, part.time[old], part.values["loss"][old], part.labelled[old], policy.block)
    stats = fold_split(stats, part.a, part.pi, service)
    return fold_split_matured(
        stats, part.time[old], part.a[old], part.pi[old], part.values["loss"][old], part.labelled[old], policy.block
    )


def _sorted(part: Columns) -> bool:
    return bool((part.time[1:] >= part.time[:-1]).all())


def fold_credit(stats: Stats, time: Floats, x: Floats, block: float | None) -> Stats:
    """Fold sessions: minus the credit, so that lower is better here too."""
    counts = replace(stats.counts, requests=stats.counts.requests + len(x), matured=stats.counts.matured + len(x))
    blocks = dict(stats.blocks)
    if block is not None:
        blocks["credit"] = add_blocks(blocks.get("credit", {}), np.floor(time / block), x, np.ones(len(x)))
    return Stats({"credit": fold_mean(stats.states.get("credit", State()), x)}, blocks, counts)


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


def _split_columns(evidence: EvidenceFile, policy: FilePolicy, rules: JudgePolicy, arm: str) -> Columns:
    import polars as pl

    frame = evidence.frame.with_columns((pl.int_range(pl.len()) + 1).alias("position"))
    frame = frame.filter(pl.col("arm").is_in([policy.champion, arm]))
    if evidence.sticky:
        frame = frame.filter(pl.Series(is_first(frame, "unit")))
    a = np.asarray((frame["arm"] == arm).to_numpy(), dtype=np.float64)
    loss = column(frame, "loss")
    labelled = ~np.isnan(loss) | (column(frame, "error") > 0)
    values = {**_service(frame, rules), "loss": loss}
    return Columns(column(frame, "position"), column(frame, "time"), values, labelled, a, _share(frame, policy, arm, a))


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
    kept = [name for name in ("request_id", "time", "loss", "error", "latency_ms", "position") if name in frame.columns]
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
    labelled = ~np.isnan(column(both, "loss"))
    none = np.empty(both.height)
    return Columns(column(both, "at"), column(both, "time"), values, labelled, none, none)
