"""From ordered rows to the statistics of each check, batch by batch.

Split traffic: X = (Y - m)(A - pi), w = pi (1 - pi), with m the mean of the earlier Y of the same check (known before
the arm is drawn, so it costs no validity) and pi the challenger's share. Shadow pairs: X = challenger - champion,
w = 1. Sample ratio: X = A - pi, w = 1. Because m is carried in (n, sum_y), the sums do not depend on how the rows
are cut into batches. Quality checks also keep S and W by block of event time. A business metric and the loss in one
value of a slice are checks like any other, under names of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.release.confidence import State
from tidegate.release.evidence import RATIO, RATIO_OF_LABELS, Block, Counts, Stats, in_slice, weight_key
from tidegate.release.rows import Bools, Floats, Ids

MOST_VALUES = 50
"""Values of a slice that are checked one by one; those that are seen later are one check together."""


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
    found, where = _numbered(index)
    sums = (np.bincount(where), np.bincount(where, x), np.bincount(where, w))
    for b, n, s, weight in zip(found, *sums, strict=True):
        old = merged.get(int(b), (0, 0.0, 0.0))
        merged[int(b)] = (old[0] + int(n), old[1] + float(s), old[2] + float(weight))
    return merged


def _numbered(index: Floats) -> tuple[Floats, Any]:
    """`np.unique` with its inverse; without a sort where the index never falls."""
    steps = np.diff(index) != 0
    if (index[1:] < index[:-1]).any():
        return np.unique(index, return_inverse=True)
    return index[np.concatenate([[True], steps])], np.concatenate([[0], np.cumsum(steps)])


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
    states[RATIO] = fold_mean(stats.state(RATIO), a - pi)
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


def fold_split_matured(
    stats: Stats, time: Floats, a: Floats, pi: Floats, loss: Floats, labelled: Bools, block: float | None
) -> Stats:
    """Fold ordered matured split requests: the loss where there is one, the sample ratio of labelled requests."""
    counts, lost = stats.counts, ~labelled
    more = replace(
        counts,
        matured=counts.matured + len(a),
        unlabelled_challenger=counts.unlabelled_challenger + int((lost & (a == 1)).sum()),
        unlabelled_champion=counts.unlabelled_champion + int((lost & (a == 0)).sum()),
    )
    return fold_metric(replace(stats, counts=more), "loss", time, a, pi, loss, labelled, block)


def fold_metric(
    stats: Stats,
    check: str,
    time: Floats,
    a: Floats,
    pi: Floats,
    y: Floats,
    labelled: Bools,
    block: float | None,
) -> Stats:
    """Fold one quality metric of ordered matured split requests where it is known (not nan), and who has its label."""
    ratio = RATIO_OF_LABELS if check == "loss" else f"{RATIO_OF_LABELS}_{check}"
    told = fold_mean(stats.state(ratio), (a - pi)[labelled])
    return fold_known(_with(stats, {ratio: told}, stats.counts), check, time, a, pi, y, block)


def fold_known(stats: Stats, check: str, time: Floats, a: Floats, pi: Floats, y: Floats, block: float | None) -> Stats:
    """Fold values in [0, 1] of ordered split requests under the name `check`; those that are nan are left out."""
    known = ~np.isnan(y)
    if not known.all():
        time, a, pi, y = time[known], a[known], pi[known], y[known]
    state, x, w = fold_difference(stats.state(check), y, a, pi)
    return _in_blocks(_with(stats, {check: state}, stats.counts), check, block, time, x, w)


def fold_pairs_known(stats: Stats, check: str, time: Floats, x: Floats, block: float | None) -> Stats:
    """Fold differences of ordered pairs under the name `check`; those that are nan are left out."""
    known = ~np.isnan(x)
    time, x = time[known], x[known]
    stats = _with(stats, {check: fold_mean(stats.state(check), x)}, stats.counts)
    return _in_blocks(stats, check, block, time, x, np.ones(len(x)))


def by_value(stats: Stats, slice_: str, values: Ids) -> list[tuple[str, NDArray[np.intp]]]:
    """(check, positions) of each value of a slice in ordered rows, in the order in which values were first seen.

    A check's name is `loss[SLICE=VALUE]`.
    """
    known = [check for check in stats.states if in_slice(check, slice_)]
    number = {check: i for i, check in enumerate(known)}
    names: dict[Any, int] = {}
    for value in dict.fromkeys(values.tolist()):
        check = f"loss[{slice_}={value}]"
        check = check if check in number or len(number) < MOST_VALUES else f"loss[{slice_}: others]"
        names[value] = number.setdefault(check, len(number))
    codes = np.fromiter(map(names.__getitem__, values.tolist()), np.int64, len(values))
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(number) + 1))
    return [(check, order[edges[i] : edges[i + 1]]) for check, i in number.items() if edges[i] < edges[i + 1]]


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
    counts, lost = stats.counts, int((~labelled).sum())
    more = replace(
        counts,
        matured=counts.matured + len(difference),
        unlabelled_champion=counts.unlabelled_champion + lost,
        unlabelled_challenger=counts.unlabelled_challenger + lost,
    )
    return fold_pairs_known(replace(stats, counts=more), "loss", time, difference, block)
