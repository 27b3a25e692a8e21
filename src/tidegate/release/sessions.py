"""The sessions of an interleaving stage, folded up to the watermark: who failed, who began, whose items were clicked.

A session is one mixed list: the rows of one request that the merge service logged. What needs no label (errors,
latency, who had the first place) is folded when the watermark has passed its time; its credit when it is older than the
label deadline, by the clicks as they stood then. A session without a click is a tie. Sessions go in the one order
(time, request id), so neither batch size nor arrival order matters.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from tidegate.release.evidence import Stats
from tidegate.release.interleave import CHALLENGER, CHAMPION, credit
from tidegate.release.policy import JudgePolicy
from tidegate.release.rows import Floats
from tidegate.release.sums import add_blocks, fold_mean

if TYPE_CHECKING:
    from tidegate.observations import Label, Prediction

CLICK = "click"
"""The metric under which a session's clicks come by ``POST /labels``."""


@dataclass
class _Session:
    """One list: `owner` and `clicks` by row id, the latter with (time, wall time) of the label that stands."""

    time: float
    name: str
    took: tuple[float | None, float | None]
    owner: dict[str, int] = field(default_factory=dict)
    first: int | None = None
    clicks: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def mixed(self) -> bool:
        """Both models had a list."""
        return None not in self.took


class SessionFold:
    """Folds one release's sessions as they come; `add` and `click` only keep what they get."""

    def __init__(self, policy: JudgePolicy, champion: str, challenger: str) -> None:
        self._policy, self._sides = policy, {champion: CHAMPION, challenger: CHALLENGER}
        self._stats = Stats()
        self._open: dict[str, _Session] = {}
        self._fresh: list[tuple[float, str]] = []
        self._unripe: list[tuple[float, str]] = []
        self._watermark = float("-inf")

    def add(self, rows: Iterable[Prediction]) -> None:
        """Take shown items in, in any order; an item that comes twice counts once."""
        for row in rows:
            if row.shown is None:
                continue
            name = row.request_id.rpartition("/")[0]
            session = self._open.get(name)
            if session is None:
                session = self._open[name] = _Session(row.time, name, row.shown.took)
                heapq.heappush(self._fresh, (row.time, name))
            owner = self._sides.get(row.shown.credit or "")
            if owner is not None:
                session.owner[row.request_id] = owner
                session.first = owner if row.shown.rank == 1 else session.first

    def click(self, labels: Iterable[Label]) -> None:
        """Take clicks in, in any order, after their session; those of other sessions are let go."""
        for label in labels:
            session = self._open.get(label.request_id.rpartition("/")[0])
            if session is None or label.metric != CLICK or label.time > session.time + self._policy.label_deadline:
                continue
            told = (label.time, label.wall, label.value or 0.0)
            session.clicks[label.request_id] = max(told, session.clicks.get(label.request_id, told))

    def advance(self, watermark: float) -> Stats:
        """Fold what the watermark has passed; returns the statistics so far."""
        late = sum(time <= self._watermark for time, _ in self._fresh)
        self._watermark = max(watermark, self._watermark)
        seen = [self._open[name] for name in _until(self._fresh, self._watermark)]
        for session in seen:
            heapq.heappush(self._unripe, (session.time, session.name))
        ripe = [self._open.pop(name) for name in _until(self._unripe, self._watermark - self._policy.label_deadline)]
        self._stats = _ripened(_answered(self._stats, seen, late, self._policy), ripe, self._policy)
        return self._stats


def _until(heap: list[tuple[float, str]], time: float) -> list[str]:
    found = []
    while heap and heap[0][0] <= time:
        found.append(heapq.heappop(heap)[1])
    return found


def _answered(stats: Stats, sessions: list[_Session], late: int, policy: JudgePolicy) -> Stats:
    """Errors and latency of every session, and of the mixed ones who had the first place, which a coin decides."""
    if not sessions:
        return stats
    mixed = [session for session in sessions if session.mixed]
    began = _floats([session.first - 0.5 for session in mixed if session.first is not None])
    folded = {"sample_ratio": began, **{name: _worse(sessions, limit) for name, limit in _limits(policy).items()}}
    states = {name: fold_mean(stats.state(name), x) for name, x in folded.items()}
    counts = stats.counts
    counts = replace(
        counts,
        requests=counts.requests + len(mixed),
        champion=counts.champion + len(mixed),
        challenger=counts.challenger + len(mixed),
        missing=counts.missing + sum(session.took[CHALLENGER] is None for session in sessions),
        late=counts.late + late,
    )
    return replace(stats, states={**stats.states, **states}, counts=counts)


def _limits(policy: JudgePolicy) -> dict[str, float]:
    """Milliseconds over which a list counts, by check: any list there is, or one within the objective."""
    limits = {"errors": float("inf")}
    return limits if policy.slo_ms is None else {**limits, "latency": policy.slo_ms}


def _worse(sessions: list[_Session], limit: float) -> Floats:
    """Challenger's fault less the champion's; no list is a fault, and so is one over `limit` milliseconds."""
    faults = [[took is None or took > limit for took in session.took] for session in sessions]
    return _floats([float(challenger) - float(champion) for champion, challenger in faults])


def _ripened(stats: Stats, sessions: list[_Session], policy: JudgePolicy) -> Stats:
    """Minus the credit of each matured mixed session, so that lower is better as everywhere."""
    mixed = [session for session in sessions if session.mixed]
    if not mixed:
        return stats
    x = _floats([-credit(s.owner, {row: value for row, (*_, value) in s.clicks.items()}) for s in mixed])
    counts = replace(stats.counts, matured=stats.counts.matured + len(mixed))
    stats = replace(stats, states={**stats.states, "credit": fold_mean(stats.state("credit"), x)}, counts=counts)
    if policy.block is None:
        return stats
    block = np.floor(_floats([session.time for session in mixed]) / policy.block)
    sums = add_blocks(stats.blocks.get("credit", {}), block, x, np.ones(len(x)))
    return replace(stats, blocks={**stats.blocks, "credit": sums})


def _floats(values: list[float] | list[int]) -> Floats:
    return np.asarray(values, dtype=np.float64)
