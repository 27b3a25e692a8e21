"""From ordered rows to the statistics of each check, batch by batch.

Split traffic: X = (Y - m)(A - pi), w = pi (1 - pi), with m the mean of the earlier Y of the same check (known before
the arm is drawn, so it costs no validity) and pi the challenger's share. Shadow pairs: X = challenger - champion,
w = 1. Sample ratio: X = A - pi, w = 1. Because m is carried in (n, sum_y), the sums do not depend on how the rows
are cut into batches. Quality checks also keep S and W by block of event time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from tidegate.release.confidence import State
from tidegate.release.rows import Bools, Floats

Block = tuple[int, float, float]
"""n, S, W of one block."""


@dataclass(frozen=True)
class Counts:
    """What was seen at one place.

    requests: all that were folded (in shadow: pairs and missing answers). matured: older than the label deadline.
    champion, challenger: requests by arm. missing: mirrored requests that the copied version never answered; each
    counts as its error. orphans: copies whose own request is not in the log. late: rows that appeared behind the
    watermark. unlabelled_*: matured requests without a label.
    cancelled: matured requests whose outcome never comes. by_weight: requests by the challenger's share.
    """

    requests: int = 0
    matured: int = 0
    champion: int = 0
    challenger: int = 0
    missing: int = 0
    orphans: int = 0
    late: int = 0
    unlabelled_champion: int = 0
    unlabelled_challenger: int = 0
    cancelled: int = 0
    by_weight: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Stats:
    """The statistics of one place: a `State` a check, sums a block for the quality checks, counts."""

    states: Mapping[str, State] = field(default_factory=dict)
    blocks: Mapping[str, Mapping[int, Block]] = field(default_factory=dict)
    counts: Counts = Counts()

    def state(self, check: str) -> State:
        """The state of a check, empty when nothing was folded."""
        return self.states.get(check, State())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; floats are kept exactly."""
        return {
            "states": {name: state.to_json() for name, state in self.states.items()},
            "blocks": {name: {str(b): list(sums) for b, sums in of.items()} for name, of in self.blocks.items()},
            "counts": asdict(self.counts),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stats:
        """The inverse of `to_json`."""
        blocks = {
            name: {int(b): (int(n), float(s), float(w)) for b, (n, s, w) in of.items()}
            for name, of in data["blocks"].items()
        }
        states = {name: State.from_json(state) for name, state in data["states"].items()}
        return cls(states, blocks, Counts(**data["counts"]))


@dataclass(frozen=True)
class Evidence:
    """All that a decision may look at: statistics by place (`shadow`, `split`, `watch`) up to the watermark.

    watermark: the newest event time that every live writer has passed. late_labels: labels that came after the
    deadline or after their loss was folded; counted, never unfolded.
    """

    watermark: float = float("-inf")
    places: Mapping[str, Stats] = field(default_factory=dict)
    late_labels: int = 0

    def at(self, place: str) -> Stats:
        """The statistics of a place, empty when nothing was seen there."""
        return self.places.get(place, Stats())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; the journal stores it with each decision and replay decides from it again."""
        watermark = self.watermark if np.isfinite(self.watermark) else None
        places = {name: stats.to_json() for name, stats in self.places.items()}
        return {"watermark": watermark, "places": places, "late_labels": self.late_labels}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        """The inverse of `to_json`."""
        watermark = float("-inf") if data["watermark"] is None else float(data["watermark"])
        places = {name: Stats.from_json(stats) for name, stats in data["places"].items()}
        return cls(watermark, places, int(data["late_labels"]))


def _grow(state: State, y: Floats, x: Floats, w: float) -> State:
    return State(
        state.n + len(x), state.sum_y + float(y.sum()), state.S + float(x.sum()), state.V + float(x @ x), state.W + w
    )


def fold_difference(state: State, y: Floats, a: Floats, pi: Floats) -> tuple[State, Floats, Floats]:
    """Fold values `y` in [0, 1] of ordered split requests; returns the state and each row's X and w."""
    if not len(y):
        return state, y, y
    before = np.cumsum(y) - y + state.sum_y
    seen = state.n + np.arange(len(y), dtype=np.float64)
    mean = before / np.maximum(seen, 1.0)
    x, w = (y - mean) * (a - pi), pi * (1 - pi)
    return _grow(state, y, x, float(w.sum())), x, w


def fold_mean(state: State, x: Floats) -> State:
    """Fold observations with w = 1: paired differences, credits, arm minus share."""
    return _grow(state, x, x, float(len(x))) if len(x) else state


def add_blocks(blocks: Mapping[int, Block], index: Floats, x: Floats, w: Floats) -> dict[int, Block]:
    """Add each row's X and w to the sums of its block."""
    merged = dict(blocks)
    if not len(x):
        return merged
    found, where = np.unique(index, return_inverse=True)
    sums = (np.bincount(where), np.bincount(where, x), np.bincount(where, w))
    for b, n, s, weight in zip(found, *sums, strict=True):
        old = merged.get(int(b), (0, 0.0, 0.0))
        merged[int(b)] = (old[0] + int(n), old[1] + float(s), old[2] + float(weight))
    return merged


def _with(stats: Stats, states: Mapping[str, State], counts: Counts) -> Stats:
    return replace(stats, states={**stats.states, **states}, counts=counts)


def _in_blocks(stats: Stats, check: str, block: float | None, time: Floats, x: Floats, w: Floats) -> Stats:
    if block is None or not len(x):
        return stats
    sums = add_blocks(stats.blocks.get(check, {}), np.floor(time / block), x, w)
    return replace(stats, blocks={**stats.blocks, check: sums})


def fold_split(stats: Stats, a: Floats, pi: Floats, service: Mapping[str, Floats]) -> Stats:
    """Fold ordered split requests at once: `service` checks (errors, latency) and the sample ratio.

    a: 1 where the challenger answered. pi: the challenger's share at that request.
    """
    states = {name: fold_difference(stats.state(name), y, a, pi)[0] for name, y in service.items()}
    states["sample_ratio"] = fold_mean(stats.state("sample_ratio"), a - pi)
    counts, given = stats.counts, int(a.sum())
    weights, found = np.unique(np.round(pi, 6), return_counts=True)
    by_weight = dict(counts.by_weight)
    for weight, n in zip(weights, found, strict=True):
        by_weight[weight_key(weight)] = by_weight.get(weight_key(weight), 0) + int(n)
    return _with(
        stats,
        states,
        replace(
            counts,
            requests=counts.requests + len(a),
            challenger=counts.challenger + given,
            champion=counts.champion + len(a) - given,
            by_weight=by_weight,
        ),
    )


def weight_key(weight: float) -> str:
    """A share as a key of `Counts.by_weight`."""
    return f"{weight:.6g}"


def fold_split_matured(
    stats: Stats, time: Floats, a: Floats, pi: Floats, loss: Floats, labelled: Bools, block: float | None
) -> Stats:
    """Fold ordered matured split requests: the loss where there is one, the sample ratio of labelled requests."""
    known = ~np.isnan(loss)
    state, x, w = fold_difference(stats.state("loss"), loss[known], a[known], pi[known])
    ratio = fold_mean(stats.state("sample_ratio_labels"), (a - pi)[labelled])
    counts, lost = stats.counts, ~labelled
    stats = _with(
        stats,
        {"loss": state, "sample_ratio_labels": ratio},
        replace(
            counts,
            matured=counts.matured + len(a),
            unlabelled_challenger=counts.unlabelled_challenger + int((lost & (a == 1)).sum()),
            unlabelled_champion=counts.unlabelled_champion + int((lost & (a == 0)).sum()),
        ),
    )
    return _in_blocks(stats, "loss", block, time[known], x, w)


def fold_pairs(stats: Stats, service: Mapping[str, Floats], size: int) -> Stats:
    """Fold requests that both versions answered, or that the copied one left out: `service` differences."""
    states = {name: fold_mean(stats.state(name), x) for name, x in service.items()}
    counts = stats.counts
    return _with(
        stats,
        states,
        replace(
            counts,
            requests=counts.requests + size,
            champion=counts.champion + size,
            challenger=counts.challenger + size,
        ),
    )


def fold_pairs_matured(stats: Stats, time: Floats, difference: Floats, labelled: Bools, block: float | None) -> Stats:
    """Fold matured pairs: the difference of losses where both are known (else nan)."""
    known = ~np.isnan(difference)
    x = difference[known]
    counts, lost = stats.counts, int((~labelled).sum())
    stats = _with(
        stats,
        {"loss": fold_mean(stats.state("loss"), x)},
        replace(
            counts,
            matured=counts.matured + len(difference),
            unlabelled_champion=counts.unlabelled_champion + lost,
            unlabelled_challenger=counts.unlabelled_challenger + lost,
        ),
    )
    return _in_blocks(stats, "loss", block, time[known], x, np.ones(len(x)))
