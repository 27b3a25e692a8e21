"""The judge's error rates and speed: worlds where the right answer is known, and real flights (`make judge-report`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks import judge_cases as cases
from benchmarks import judge_chains as chains
from benchmarks import judge_flights as flights
from benchmarks import judge_looks as looks
from benchmarks import judge_speed as speed
from benchmarks.judge_rates import MOST, REQUESTS, Rate, World, aborted, even, promoted, ramp, told_apart
from benchmarks.results import Budget, Result, say

RUNS = 1000
COLUMNS = ("what", "seed", "runs", "judge", "pooled z test", "plain inverse propensity", "limit")
Row = tuple[str, ...]


def run(runs: int = RUNS) -> Result:
    """Every line; `runs` replications each."""
    rows: list[Row] = []
    budgets: list[Budget] = []
    notes: list[str] = list(NOTES)
    figures: dict[str, Any] = {}
    for part in (_rates, _speeds, _pairs, _chains, _looks, _flights):
        for row, budget, note, figure in part(runs):
            rows.append(row)
            budgets += [budget] if budget else []
            notes += [note] if note else []
            figures[row[0]] = figure
            say("judge_report: " + "; ".join(cell for cell in row if cell))
    return Result("judge", "error rates and speed of the judge", COLUMNS, rows, budgets, notes, figures)


Line = tuple[Row, Budget | None, str, Any]

NOTES = (
    "The judge's column counts wrong verdicts, or is a median of requests. Every world is drawn anew for each run from "
    "numpy's default_rng([seed, part]); alpha is 5 %, margins 1 point unless said.",
    "The pooled z test is the usual one at the same looks, from request 101 on, at 1.96 (aborts) or 1.645 "
    "(promotions). Plain inverse propensity is the same bound over differences weighted by 1/propensity: right as "
    "often, but slow.",
    "At most 34 of 1,000 wrong, or 168 of 4,000, means: with 99 % confidence less than 5 % are.",
)


def worlds() -> Iterator[tuple[Callable[[World, int], Rate], World]]:
    """The false-verdict lines of split traffic."""
    flat, drift = np.full(REQUESTS, 0.1), np.linspace(0.05, 0.3, REQUESTS)
    three, none = (1.0, 0.5, 0.5), (0.0, 0.0, 0.0)
    yield aborted, World("A/A, three metrics, 50/50: aborted", 11, even(), flat, three, none)
    yield aborted, World("A/A, three metrics, ramp, base rate 5 -> 30 %: aborted", 12, ramp(), drift, three, none)
    worse = "worse by exactly the margin"
    yield promoted, World(f"one metric, {worse}, 50/50: promoted", 13, even(), flat, (1.0,), (0.01,))
    yield promoted, World(f"one metric, {worse}, ramp, 5 -> 30 %: promoted", 14, ramp(), drift, (1.0,), (0.01,))
    yield promoted, World(f"three metrics, one {worse}, 50/50: promoted", 15, even(), flat, three, (0.01, 0.0, 0.0))
    yield promoted, World(f"three, one {worse}, ramp, 5 -> 30 %: promoted", 16, ramp(), drift, three, (0.01, 0.0, 0.0))
    for seed, rate in ((17, 0.001), (18, 0.01)):
        name = f"A/A, base rate {rate:.1%}, 1/99, a look at every request: 0 excluded"
        yield told_apart, World(name, seed, even(share=0.01), np.full(REQUESTS, rate), every=1)


def _rates(runs: int) -> Iterator[Line]:
    for count, world in worlds():
        # one metric alone comes nearest to alpha, so it is counted most closely
        yield _rate(count(world, 4 * runs if world.name.startswith("one metric") else runs))
    yield _rate(cases.late_labels(19, runs))
    yield _rate(cases.sticky(20, runs, (1, 9)))
    yield _rate(cases.sticky(21, runs, (0.3, 2.7)))
    yield _rate(cases.several(22, runs, 0.0))
    yield _rate(cases.several(23, runs, 0.01))


def _rate(one: Rate) -> Line:
    most = MOST[one.runs] if one.runs in MOST else one.runs // 30
    limit = f"at most {most} of {one.runs:,}"
    budget = Budget(one.name, limit, f"{one.wrong} of {one.runs:,}", one.wrong <= most)
    others = ("" if n is None else str(n) for n in (one.by_z, one.by_inverse))
    row = (one.name, str(one.seed), f"{one.runs:,}", str(one.wrong), *others, limit)
    return row, budget, f"{one.name}: {one.note}" if one.note else "", asdict(one)


def _speeds(runs: int) -> Iterator[Line]:
    half, small, growing = even(40_000), even(160_000, 0.05), speed.power_ramp(40_000)
    splits = (("50/50", half, 31), ("5/95", small, 32), ("ramp", growing, 33))
    for metrics, most in ((1, 1.3), (3, 1.9)):
        for name, share, seed in splits:
            what = f"abort, +2 points at 10 %, {name}, {metrics} metric{'s' * (metrics > 1)}"
            yield _speed(
                speed.to_abort(what, seed + 10 * metrics, _fewer(runs, share), share, 0.02, 0.05 / metrics, most)
            )
    for effect, what in ((0.0, "equal"), (-0.01, "1 point better")):
        for name, share, seed in (("50/50", even(120_000), 71), ("ramp", speed.power_ramp(120_000), 72)):
            told = f"promote, {what}, margin 1 point, {name}"
            yield _speed(speed.to_promote(told, seed + (2 if effect else 0), runs, share, effect, 1.3))
    for metrics, most in ((1, 20.0), (3, 24.0)):
        for share in (0.01, 0.05, 0.5):
            what = f"abort, errors 0.2 -> 100 %, {share:.0%} split, {metrics} metric{'s' * (metrics > 1)}, challenger's"
            yield _speed(speed.catastrophe(what, 80 + metrics, runs, share, metrics, most))
    yield _speed(speed.errors_rise("abort, errors 0.2 -> 3 %, 50/50, 3 metrics", 90, runs, 0.5, 0.03, 3, 2400.0))


def _fewer(runs: int, share: Any) -> int:
    return runs if len(share) < 100_000 else runs // 2


def _speed(one: speed.Speed) -> Line:
    if one.fixed is None:
        got, limit = f"{one.median:,.0f}", f"at most {one.most:,.0f}"
    else:
        got, limit = f"{one.median:,.0f} ({one.median / one.fixed:.2f}x)", f"{one.most}x of {one.fixed:,.0f}"
    budget = Budget(f"{one.name}: median requests", limit, got, one.met)
    inverse = "" if one.inverse is None else "none in most" if math.isinf(one.inverse) else f"{one.inverse:,.0f}"
    return (one.name, str(one.seed), f"{one.runs:,}", got, "", inverse, limit), budget, "", asdict(one)


def _pairs(runs: int) -> Iterator[Line]:
    for seed, noise in ((61, 0.33), (62, 0.1)):
        one = cases.shadow_and_split(seed, runs // 2, runs // 10, noise)
        name = f"abort in shadow pairs, losses correlated {one.correlation:.2f}"
        got = f"{one.pairs:,.0f} pairs; the split {one.split:,.0f} requests ({one.split / one.pairs:.0f}x)"
        budget = Budget(name, "at most a tenth of the split's requests", got, 10 * one.pairs <= one.split)
        row = (name, str(seed), f"{runs // 2:,}", f"{one.pairs:,.0f}", "", "", f"a tenth of {one.split:,.0f}")
        yield row, budget if noise == 0.33 else None, "", asdict(one)


def _chains(runs: int) -> Iterator[Line]:
    name = "50 challengers in a row, each worse by half the margin: never over 1.5 margins"
    for carries in (True, False):
        one = chains.walk(51, runs, 50, carries)
        got = f"{one.kept:.1%} of chains, {one.promoted:.1f} promotions each"
        told = name if carries else f"{name} (without `carried`)"
        budget = Budget(told, "at least 95 % of chains", got, one.kept >= 0.95) if carries else None
        figure = {"kept": one.kept, "promoted": one.promoted, "worst": float(one.rises.max())}
        yield (told, "51", f"{runs:,}", got, "", "", "95 %" if carries else ""), budget, "", figure


def _looks(runs: int) -> Iterator[Line]:
    one = looks.measure()
    name, median = "tidegate judge, 10 M rows, a look over 1 M new ones", float(np.median(one.later))
    row = (name, "1", "9", f"{median:.2f} s", "", "", "1 s")
    note = (
        f"{name}: {', '.join(f'{s:.2f}' for s in one.later)} s; reading the file and the first look {one.first:.1f} s"
    )
    yield row, Budget(name, "under 1 s", f"{median:.2f} s", median < 1), note, asdict(one)
    told = f"{one.growth:.2f}x"
    flat = Budget("cost of a look, the last four over the first four", "within 1.5x", told, one.growth < 1.5)
    yield (flat.what, "1", "", told, "", "", "1.5x"), flat, "", one.growth


def _flights(runs: int) -> Iterator[Line]:
    found, pairs = flights.outcomes()
    for number, one in enumerate(found):
        name = f"real flights, {one.rule}: wrong against the next 28 days"
        got = f"{one.wrong:.1%} of starts"
        last = number + 1 == len(found)
        told = f"{one.starts} starts: promoted {one.promoted} ({one.promoted_wrong} wrong), aborted {one.aborted} "
        told += f"({one.aborted_wrong} wrong), median {one.days:.0f} days to a verdict"
        budget = Budget(name, "at most 10 % of starts", got, one.wrong <= 0.10) if last else None
        yield (name, "", f"{one.starts:,}", got, "", "", "10 %" if last else ""), budget, f"{name}: {told}", asdict(one)
    means = "; ".join(f"{name}, {starts} starts, {mean:+.4f}" for name, starts, mean in pairs)
    yield (
        ("pairs on real flights", "", str(len(pairs)), "", "", "", ""),
        None,
        f"pairs, mean difference: {means}",
        pairs,
    )
