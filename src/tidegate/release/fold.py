"""The live stream of rows and labels, folded up to the watermark.

Two cursors: errors, latency and sample ratio are folded up to the watermark W; the loss up to W - label deadline,
judged by the label as it stood then. Rows are folded in the order (time, request id), so that neither batch size nor
arrival order matters; a row that appears behind W is folded next and counted as late. Copies are paired with their
request by request id, whatever came first; a request whose copy has not come by maturity counts as an error of the
challenger in shadow. A business metric outside its bound counts as the bound. A request of many rows is one
observation (`units.py`). The cost of an advance follows the new rows, never the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tidegate.release.book import RequestBook
from tidegate.release.evidence import Evidence, Stats
from tidegate.release.policy import SHADOW, SPLIT, WATCH, JudgePolicy
from tidegate.release.rows import CHALLENGER, CHAMPION, KINDS, Bools, Floats, Labels, Placed, Rows, Waiting, take
from tidegate.release.sums import (
    by_value,
    fold_known,
    fold_metric,
    fold_pairs,
    fold_pairs_known,
    fold_pairs_matured,
    fold_split,
    fold_split_matured,
)
from tidegate.release.units import by_request, heads

MAIN = {SHADOW: CHAMPION, WATCH: CHALLENGER}
"""The arm that answers where the other one gets copies."""


def brier(score: Floats, value: Floats) -> Floats:
    """Squared distance of a probability to what happened, in [0, 1]; nan where either is unknown."""
    return np.asarray((score - value) ** 2, dtype=np.float64)


def service_checks(policy: JudgePolicy, error: Bools, latency_ms: Floats) -> dict[str, Floats]:
    """The values of the checks that need no label: 1 where a request failed, 1 where it took over the objective."""
    checks = {"errors": error.astype(np.float64)}
    if policy.slo_ms is not None:
        checks["latency"] = (latency_ms > policy.slo_ms).astype(np.float64)
    return checks


class EvidenceFold:
    """Folds one challenger's rows and labels as they come.

    `add` and `label` only keep what they get; `advance` folds up to a watermark and returns an immutable snapshot.
    """

    def __init__(self, policy: JudgePolicy) -> None:
        self._policy = policy
        self._evidence = Evidence()
        self._fresh, self._unmatured = Waiting(), Waiting()
        self._book = RequestBook(policy.label_deadline)

    def add(self, rows: Rows) -> None:
        """Take rows in, in any order. Of several rows of one (request id, arm) the earliest counts."""
        self._fresh.put(rows)

    def label(self, labels: Labels) -> None:
        """Take labels in, in any order, before or after their requests."""
        self._book.tell(labels)

    def advance(self, watermark: float) -> Evidence:
        """Fold every row with a time up to `watermark`, and the loss of those older than the label deadline."""
        before = self._evidence.watermark
        watermark = max(watermark, before)
        places = dict(self._evidence.places)
        cutoff = watermark - self._policy.label_deadline
        if (rows := self._fresh.until(watermark)) is not None:
            self._answered(places, self._book.place(rows), before)
        if (matured := self._unmatured.until(cutoff)) is not None:
            self._matured(places, matured)
        self._book.sweep(cutoff)
        self._evidence = Evidence(watermark, places, self._book.late)
        return self._evidence

    def _answered(self, places: dict[str, Stats], rows: Placed, before: float) -> None:
        for place, part in _by_place(rows):
            stats = _count(places.get(place, Stats()), late=int((part.time <= before).sum()))
            places[place] = self._split(stats, part) if place == SPLIT else self._pair(place, stats, part)
        self._unmatured.put(rows)

    def _split(self, stats: Stats, rows: Placed) -> Stats:
        rows = heads(rows)
        a, pi = split_columns(rows)
        return fold_split(stats, a, pi, service_checks(self._policy, rows.error, rows.latency_ms))

    def _pair(self, place: str, stats: Stats, rows: Placed) -> Stats:
        slots = self._book.pair(rows, MAIN[place])
        if rows.part.any():
            slots = slots[np.isin(slots, heads(rows).slot)]
        if not len(slots):
            return stats
        old, new = (self._service(self._book.answer(arm, slots)) for arm in (CHAMPION, CHALLENGER))
        return fold_pairs(stats, {name: new[name] - old[name] for name in new}, len(slots))

    def _service(self, answer: Mapping[str, Floats]) -> dict[str, Floats]:
        return service_checks(self._policy, answer["error"] > 0, answer["latency_ms"])

    def _matured(self, places: dict[str, Stats], rows: Placed) -> None:
        for place, part in _by_place(rows):
            if place == SPLIT:
                places[place] = self._split_loss(places[place], part)
            else:
                places[place] = self._mirrored(place, places[place], part)
        self._book.leave(rows)

    def _split_loss(self, stats: Stats, rows: Placed) -> Stats:
        block, (rows, of) = self._policy.block, by_request(rows)
        arm, share = split_columns(rows)
        time, a, pi = of.first(rows.time), of.first(arm), of.first(share)
        value, labelled = self._book.standing("", rows.slot, rows.time)
        loss, given = _loss(rows.loss, rows.score, value), ~np.isnan(rows.loss)
        labelled |= given
        never = of.any(labelled) & ~of.any(~np.isnan(value) | given)
        stats = _count(stats, cancelled=int(never.sum()))
        stats = fold_split_matured(stats, time, a, pi, of.mean(loss), of.any(labelled), block)
        for metric in self._policy.business:
            value, told = self._book.standing(metric.name, rows.slot, rows.time)
            y = of.mean(np.clip(value / metric.bound, 0.0, 1.0))
            stats = fold_metric(stats, metric.name, time, a, pi, y, of.any(told), block)
            stats = _count(stats, out_of_bound=int(((value < 0) | (value > metric.bound)).sum()))
        for number, name in enumerate(self._policy.slices):
            for check, at in by_value(stats, name, rows.groups[:, number]):
                own = of.take(at)
                when, a, pi = own.first(rows.time[at]), own.first(arm[at]), own.first(share[at])
                stats = fold_known(stats, check, when, a, pi, own.mean(loss[at]), block)
        return stats

    def _mirrored(self, place: str, stats: Stats, rows: Placed) -> Stats:
        """Pairs whose request has matured; requests without a copy; copies without a request."""
        paired, own = self._book.is_paired(rows.slot), rows.arm == MAIN[place]
        stats = _count(stats, orphans=int((~paired & ~own & (rows.part == 0)).sum()))
        if (missing := ~paired & own).any():
            stats = self._missing(place, stats, take(rows, missing))
        return self._pair_loss(stats, take(rows, paired & own)) if (paired & own).any() else stats

    def _missing(self, place: str, stats: Stats, rows: Placed) -> Stats:
        self._book.standing("", rows.slot, rows.time)
        rows = heads(rows)
        stats = _count(stats, missing=len(rows), matured=len(rows))
        if place == WATCH:
            return stats  # a copy of the old champion that is not answered says nothing about the new one
        served = service_checks(self._policy, rows.error, rows.latency_ms)
        return fold_pairs(stats, {name: 1 - x for name, x in served.items()}, len(rows))

    def _pair_loss(self, stats: Stats, rows: Placed) -> Stats:
        block, (rows, of) = self._policy.block, by_request(rows)
        value, labelled = self._book.standing("", rows.slot, rows.time)
        old, new = (self._book.answer(arm, rows.slot) for arm in (CHAMPION, CHALLENGER))
        difference = _loss(new["loss"], new["score"], value) - _loss(old["loss"], old["score"], value)
        given = ~np.isnan(new["loss"]) & ~np.isnan(old["loss"])
        never = of.any(labelled) & ~of.any(~np.isnan(value) | given)
        stats = _count(stats, cancelled=int(never.sum()))
        stats = fold_pairs_matured(stats, of.first(rows.time), of.mean(difference), of.any(labelled | given), block)
        for number, name in enumerate(self._policy.slices):
            for check, at in by_value(stats, name, rows.groups[:, number]):
                own = of.take(at)
                stats = fold_pairs_known(stats, check, own.first(rows.time[at]), own.mean(difference[at]), block)
        return stats


def _by_place(rows: Placed) -> Iterator[tuple[str, Placed]]:
    """The rows of each place of evidence, in their order."""
    for kind, place in enumerate(KINDS[1:], start=1):
        own = rows.kind == kind
        if own.any():
            yield place, take(rows, own)


def _loss(given: Floats, score: Floats, value: Floats) -> Floats:
    """The loss where the row brought it, else that of its score and label."""
    return np.where(np.isnan(given), brier(score, value), given)


def split_columns(rows: Rows) -> tuple[Floats, Floats]:
    """(A, pi) of split rows of two arms: 1 where the challenger answered, and the challenger's share."""
    a = (rows.arm == CHALLENGER).astype(np.float64)
    return a, np.where(a == 1, rows.propensity, 1 - rows.propensity)


def _count(stats: Stats, **more: int) -> Stats:
    if not any(more.values()):
        return stats
    counts: dict[str, Any] = {name: getattr(stats.counts, name) + n for name, n in more.items()}
    return Stats(stats.states, stats.blocks, replace(stats.counts, **counts))
