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
from tidegate.release.evidence import Stats
from tidegate.release.evidence_file import EvidenceFile, column, is_first, load_evidence
from tidegate.release.file_columns import Columns, arms_of, cut
from tidegate.release.file_policy import FilePolicy, load_file_policy
from tidegate.release.judge import Judgement, judge
from tidegate.release.policy import INTERLEAVE, SHADOW, JudgePolicy
from tidegate.release.rows import Bools, Floats
from tidegate.release.sums import (
    add_blocks,
    by_value,
    fold_known,
    fold_mean,
    fold_metric,
    fold_pairs,
    fold_pairs_known,
    fold_pairs_matured,
    fold_split,
    fold_split_matured,
)


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
            part = cut(table, slice(first, last))
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


def fold(kind: str, stats: Stats, part: Columns, cutoff: float, policy: JudgePolicy) -> Stats:
    """Fold one look's new rows: service checks at once, quality up to the cutoff."""
    if kind == INTERLEAVE:
        return fold_credit(stats, part.time, part.values["credit"], policy.block)
    service = {name: value for name, value in part.values.items() if name in ("errors", "latency")}
    stats = (
        fold_pairs(stats, service, len(part.time)) if kind == SHADOW else fold_split(stats, part.a, part.pi, service)
    )
    old = slice(0, int(np.searchsorted(part.time, cutoff, side="right"))) if _sorted(part) else part.time <= cutoff
    return (_fold_pairs_matured if kind == SHADOW else _fold_split_matured)(stats, cut(part, old), policy)


def _fold_split_matured(stats: Stats, part: Columns, policy: JudgePolicy) -> Stats:
    time, a, pi, loss, block = part.time, part.a, part.pi, part.values["loss"], policy.block
    stats = fold_split_matured(stats, time, a, pi, loss, part.labelled, block)
    for metric in policy.business:
        y = part.values[metric.name]
        stats = fold_metric(stats, metric.name, time, a, pi, y, ~np.isnan(y), block)
    for name, values in part.groups.items():
        for check, at in by_value(stats, name, values):
            stats = fold_known(stats, check, time[at], a[at], pi[at], loss[at], block)
    return stats


def _fold_pairs_matured(stats: Stats, part: Columns, policy: JudgePolicy) -> Stats:
    loss, block = part.values["loss"], policy.block
    stats = fold_pairs_matured(stats, part.time, loss, part.labelled, block)
    for metric in policy.business:
        stats = fold_pairs_known(stats, metric.name, part.time, part.values[metric.name], block)
    for name, values in part.groups.items():
        for check, at in by_value(stats, name, values):
            stats = fold_pairs_known(stats, check, part.time[at], loss[at], block)
    return stats


def _sorted(part: Columns) -> bool:
    return bool((part.time[1:] >= part.time[:-1]).all())


def fold_credit(stats: Stats, time: Floats, x: Floats, block: float | None) -> Stats:
    """Fold sessions: minus the credit, so that lower is better here too."""
    counts = replace(stats.counts, requests=stats.counts.requests + len(x), matured=stats.counts.matured + len(x))
    blocks = dict(stats.blocks)
    if block is not None:
        blocks["credit"] = add_blocks(blocks.get("credit", {}), np.floor(time / block), x, np.ones(len(x)))
    return Stats({"credit": fold_mean(stats.states.get("credit", State()), x)}, blocks, counts)
