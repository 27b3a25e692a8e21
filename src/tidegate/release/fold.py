"""The live stream of rows and labels, folded up to the watermark.

Two cursors: errors, latency and sample ratio are folded up to the watermark W; the loss up to W - label deadline,
judged by the label as it stood then. Rows are folded in the order (time, request id), so that neither batch size nor
arrival order matters; a row that appears behind W is folded next and counted as late. Copies are paired with their
request by request id, whatever came first; a request whose copy has not come by maturity counts as an error of the
challenger in shadow. The cost of an advance follows the new rows, never the history.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tidegate.release.evidence import (
    Evidence,
    Stats,
    fold_pairs,
    fold_pairs_matured,
    fold_split,
    fold_split_matured,
)
from tidegate.release.policy import SHADOW, SPLIT, WATCH, JudgePolicy
from tidegate.release.rows import CHALLENGER, CHAMPION, Bools, Floats, Ids, Labels, Pairs, Rows, Waiting, take

Answer = tuple[float, bool, float, float, float]
"""time, error, latency_ms, score, loss of one row that waits for its partner."""


def brier(score: Floats, value: Floats) -> Floats:
    """Squared distance of a probability to what happened, in [0, 1]; nan where either is unknown."""
    return np.asarray((score - value) ** 2, dtype=np.float64)


def service_checks(policy: JudgePolicy, error: Bools, latency_ms: Floats) -> dict[str, Floats]:
    """The values of the checks that need no label: 1 where a request failed, 1 where it took over the objective."""
    checks = {"errors": error.astype(np.float64)}
    if policy.slo_ms is not None:
        checks["latency"] = (latency_ms > policy.slo_ms).astype(np.float64)
    return checks


@dataclass
class _Pairing:
    """Requests of one place and their copies. `main` is the arm that served."""

    main: int
    waiting: tuple[dict[str, Answer], dict[str, Answer]] = field(default_factory=lambda: ({}, {}))
    due: list[tuple[float, str, int]] = field(default_factory=list)
    ready: Waiting = field(default_factory=Waiting)

    def match(self, rows: Rows) -> Pairs | None:
        """Take rows in; returns the pairs that are complete now, and keeps them until they mature."""
        found: list[tuple[str, Answer, Answer]] = []
        answers = zip(
            rows.time.tolist(), rows.error.tolist(), rows.latency_ms.tolist(), rows.score.tolist(), rows.loss.tolist(),
            strict=True,
        )  # fmt: skip
        for request, arm, answer in zip(rows.request_id.tolist(), rows.arm.tolist(), answers, strict=True):
            if (partner := self.waiting[1 - arm].pop(request, None)) is None:
                self.waiting[arm][request] = answer
                heapq.heappush(self.due, (answer[0], request, arm))
            else:
                found.append((request, answer, partner) if arm == CHALLENGER else (request, partner, answer))
        if not found:
            return None
        pairs = _pairs(found, self.main)
        self.ready.put(pairs)
        return pairs

    def expire(self, cutoff: float) -> tuple[list[tuple[str, Answer]], list[str]]:
        """Give up on partners: (requests without a copy, copies without a request) that are older than `cutoff`."""
        missing, orphans = [], []
        while self.due and self.due[0][0] <= cutoff:
            _, request, arm = heapq.heappop(self.due)
            if (answer := self.waiting[arm].pop(request, None)) is None:
                continue
            if arm == self.main:
                missing.append((request, answer))
            else:
                orphans.append(request)
        return missing, orphans


def _pairs(found: list[tuple[str, Answer, Answer]], main: int) -> Pairs:
    new, old = np.array([f[1] for f in found]), np.array([f[2] for f in found])
    ids = np.empty(len(found), dtype=object)
    ids[:] = [f[0] for f in found]
    time = (new if main == CHALLENGER else old)[:, 0]
    return Pairs(
        time, ids, new[:, 1] > 0, old[:, 1] > 0, new[:, 2], old[:, 2], new[:, 3], old[:, 3], new[:, 4], old[:, 4]
    )


@dataclass
class _LabelBook:
    """Labels that wait for their request to mature."""

    deadline: float
    known: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    late: int = 0
    swept: int = 1000

    def add(self, labels: Labels) -> None:
        for request, time, value in zip(labels.request_id, labels.time.tolist(), labels.value.tolist(), strict=True):
            entry = (time, value)
            if entry not in (before := self.known.get(request, ())):
                self.known[request] = (*before, entry)

    def take(self, requests: Ids, time: Floats) -> tuple[Floats, Bools]:
        """(values, whether a label came in time) as the labels stood at each request's maturity."""
        value, labelled = np.full(len(time), np.nan), np.zeros(len(time), dtype=np.bool_)
        for i, (request, sent) in enumerate(zip(requests.tolist(), time.tolist(), strict=True)):
            told = self.known.pop(request, ())
            in_time = [entry for entry in told if entry[0] <= sent + self.deadline]
            self.late += len(told) - len(in_time)
            if in_time:
                value[i], labelled[i] = max(in_time, key=lambda entry: entry[0])[1], True
        return value, labelled

    def sweep(self, cutoff: float) -> None:
        """Drop labels whose request must have matured already; at a cost that follows the labels added."""
        if len(self.known) < self.swept:
            return
        old = [request for request, told in self.known.items() if max(entry[0] for entry in told) <= cutoff]
        self.late += sum(len(self.known.pop(request)) for request in old)
        self.swept = max(1000, 2 * len(self.known))


class EvidenceFold:
    """Folds one release's rows and labels as they come.

    `add` and `label` only keep what they get; `advance` folds up to a watermark and returns an immutable snapshot.
    """

    def __init__(self, policy: JudgePolicy) -> None:
        self._policy = policy
        self._evidence = Evidence()
        self._fresh, self._unmatured = Waiting(), Waiting()
        self._pairing = {SHADOW: _Pairing(CHAMPION), WATCH: _Pairing(CHALLENGER)}
        self._labels = _LabelBook(policy.label_deadline)
        self._seen: tuple[set[str], set[str]] = (set(), set())

    def add(self, rows: Rows) -> None:
        """Take rows in, in any order. A second row of one (request id, arm) that is not matured yet counts once."""
        fresh = np.ones(len(rows), dtype=np.bool_)
        for i, (request, arm) in enumerate(zip(rows.request_id.tolist(), rows.arm.tolist(), strict=True)):
            if request in self._seen[arm]:
                fresh[i] = False
            self._seen[arm].add(request)
        self._fresh.put(rows if fresh.all() else take(rows, fresh))

    def label(self, labels: Labels) -> None:
        """Take labels in, in any order, before or after their requests."""
        self._labels.add(labels)

    def advance(self, watermark: float) -> Evidence:
        """Fold every row with a time up to `watermark`, and the loss of those older than the label deadline."""
        before = self._evidence.watermark
        watermark = max(watermark, before)
        places = dict(self._evidence.places)
        rows = self._fresh.until(watermark)
        if rows is not None:
            self._answered(places, rows, before)
        self._matured(places, watermark - self._policy.label_deadline)
        self._evidence = Evidence(watermark, places, self._labels.late)
        return self._evidence

    def _answered(self, places: dict[str, Stats], rows: Rows, before: float) -> None:
        paired = rows.mirrored | (rows.propensity >= 1)
        shadow = paired & (rows.mirrored == (rows.arm == CHALLENGER))
        for place, mask in ((SPLIT, ~paired), (SHADOW, shadow), (WATCH, paired & ~shadow)):
            if not mask.any():
                continue
            part = take(rows, mask)
            stats = _count(places.get(place, Stats()), late=int((part.time <= before).sum()))
            places[place] = self._split(stats, part) if place == SPLIT else self._pair(place, stats, part)

    def _split(self, stats: Stats, rows: Rows) -> Stats:
        a, pi = split_columns(rows)
        self._unmatured.put(rows)
        return fold_split(stats, a, pi, service_checks(self._policy, rows.error, rows.latency_ms))

    def _pair(self, place: str, stats: Stats, rows: Rows) -> Stats:
        if (pairs := self._pairing[place].match(rows)) is None:
            return stats
        new = service_checks(self._policy, pairs.error, pairs.latency_ms)
        old = service_checks(self._policy, pairs.error_old, pairs.latency_ms_old)
        return fold_pairs(stats, {name: new[name] - old[name] for name in new}, len(pairs))

    def _matured(self, places: dict[str, Stats], cutoff: float) -> None:
        rows = self._unmatured.until(cutoff)
        if rows is not None:
            places[SPLIT] = self._split_loss(places[SPLIT], rows)
        for place, pairing in self._pairing.items():
            if place in places:
                places[place] = self._expire(place, places[place], cutoff)
            if (pairs := pairing.ready.until(cutoff)) is not None:
                places[place] = self._pair_loss(places[place], pairs)
        self._labels.sweep(cutoff)

    def _split_loss(self, stats: Stats, rows: Rows) -> Stats:
        a, pi = split_columns(rows)
        value, labelled = self._labels.take(rows.request_id, rows.time)
        loss = np.where(np.isnan(rows.loss), brier(rows.score, value), rows.loss)
        labelled |= ~np.isnan(rows.loss)
        self._forget(rows.request_id)
        stats = _count(stats, cancelled=int((labelled & np.isnan(value) & np.isnan(rows.loss)).sum()))
        return fold_split_matured(stats, rows.time, a, pi, loss, labelled, self._policy.block)

    def _pair_loss(self, stats: Stats, pairs: Pairs) -> Stats:
        value, labelled = self._labels.take(pairs.request_id, pairs.time)
        new = np.where(np.isnan(pairs.loss), brier(pairs.score, value), pairs.loss)
        old = np.where(np.isnan(pairs.loss_old), brier(pairs.score_old, value), pairs.loss_old)
        given = ~np.isnan(pairs.loss) & ~np.isnan(pairs.loss_old)
        self._forget(pairs.request_id)
        stats = _count(stats, cancelled=int((labelled & np.isnan(value) & ~given).sum()))
        return fold_pairs_matured(stats, pairs.time, new - old, labelled | given, self._policy.block)

    def _expire(self, place: str, stats: Stats, cutoff: float) -> Stats:
        missing, orphans = self._pairing[place].expire(cutoff)
        self._forget([request for request, _ in missing] + orphans)
        self._labels.take(np.array([r for r, _ in missing], dtype=object), np.array([a[0] for _, a in missing]))
        stats = _count(stats, missing=len(missing), orphans=len(orphans), matured=len(missing))
        if place == WATCH or not missing:
            return stats  # a copy of the old champion that is not answered says nothing about the new one
        error, latency = np.array([a[1] for _, a in missing]), np.array([a[2] for _, a in missing])
        served = service_checks(self._policy, error > 0, latency)
        return fold_pairs(stats, {name: 1 - x for name, x in served.items()}, len(missing))

    def _forget(self, requests: Any) -> None:
        for seen in self._seen:
            seen.difference_update(requests)


def split_columns(rows: Rows) -> tuple[Floats, Floats]:
    """(A, pi) of split rows of two arms: 1 where the challenger answered, and the challenger's share."""
    a = (rows.arm == CHALLENGER).astype(np.float64)
    return a, np.where(a == 1, rows.propensity, 1 - rows.propensity)


def _count(stats: Stats, **more: int) -> Stats:
    if not any(more.values()):
        return stats
    counts: dict[str, Any] = {name: getattr(stats.counts, name) + n for name, n in more.items()}
    return Stats(stats.states, stats.blocks, replace(stats.counts, **counts))
