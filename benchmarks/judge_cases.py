"""Lines of the judge report that go through the whole production code: late labels, sticky users; and A/B/C, pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks import judge_twin as twin
from benchmarks.judge_rates import LOOK, REQUESTS, Rate, chunks, even, policy
from tidegate.release.evidence_file import EvidenceFile, _unit
from tidegate.release.file_policy import FileMargin, FilePolicy
from tidegate.release.fold import EvidenceFold
from tidegate.release.judge import judge
from tidegate.release.judge_file import looks
from tidegate.release.policy import SHADOW, SPLIT, JudgePolicy, Metric
from tidegate.release.rows import Labels, rows_of

Floats = NDArray[np.float64]
HOUR = 3600.0


def logistic(x: Floats) -> Floats:
    """1 / (1 + exp(-x))."""
    return np.asarray(1 / (1 + np.exp(-x)), dtype=np.float64)


@dataclass(frozen=True)
class LateDay:
    """Requests of four days at half and half; bad outcomes are labelled later than good ones."""

    time: Floats
    a: Floats
    score: Floats
    label: Floats
    told: Floats
    effect: float
    """True Brier difference of the two models on these requests."""


def late_world(rng: np.random.Generator, bias: float) -> LateDay:
    """500 requests an hour for 96 hours; good outcomes are known after Exp(1 h), bad ones after 2 h + Exp(7 h).

    The challenger's logit is off by `bias`; every label comes within 24 hours.
    """
    size = 48_000
    time = np.sort(rng.uniform(0, 96 * HOUR, size))
    logit = rng.normal(-1.5, 0.9, size)
    p = logistic(logit)
    label = (rng.random(size) < p).astype(np.float64)
    delay = np.where(label == 1, 2 + rng.exponential(7.0, size), rng.exponential(1.0, size))
    a = (rng.random(size) < 0.5).astype(np.float64)
    new = logistic(logit + bias)
    effect = float(((new - p) ** 2).mean())
    return LateDay(time, a, np.where(a == 1, new, p), label, time + np.minimum(delay, 23.9) * HOUR, effect)


LATE = JudgePolicy(0.05, (Metric("loss", 0.002, SPLIT, True),), (SPLIT,), 24 * HOUR)


def late_verdict(day: LateDay) -> str:
    """The verdict of the production fold and judge, a look every two hours, two days beyond the last request."""
    fold, ids = EvidenceFold(LATE), [f"q{i}" for i in range(len(day.time))]
    fold.add(rows_of(day.time, ids, day.a.astype(int), [0.5] * len(ids), score=day.score))
    order, done = np.argsort(day.told, kind="stable"), 0
    for hour in range(2, 122, 2):
        come = int(np.searchsorted(day.told[order], hour * HOUR, side="right"))
        new = order[done:come]
        fold.label(Labels(day.told[new], [ids[i] for i in new], day.label[new]))
        done = come
        stats = fold.advance(hour * HOUR).at(SPLIT)
        found = judge(LATE, stats, now=hour * HOUR, opened=0.0, place=SPLIT).verdict
        if found != "hold":
            return found
    return "hold"


def matured_verdict(day: LateDay) -> str:
    """The same by the twin; `late_labels` compares them."""
    hours = np.arange(26, 122, 2) * HOUR
    rows = np.searchsorted(day.time, hours - LATE.label_deadline, side="right") - 1
    one = twin.split_sums((day.score - day.label)[None] ** 2, day.a[None], np.full(len(day.a), 0.5), 1)
    at = rows[rows >= 0]
    return _told(twin.Sums(one.S[:, at], one.V[:, at], one.W[at]))


def so_far_verdict(day: LateDay) -> str:
    """The contrast: the same bound over the labels that are there at each look."""
    loss = (day.score - day.label) ** 2
    for hour in range(2, 98, 2):
        there = day.told <= hour * HOUR
        y = loss[there][None]
        verdict = _told(twin.split_sums(y, day.a[there][None], np.full(y.shape[1], 0.5), y.shape[1]))
        if verdict != "hold":
            return verdict
    return "hold"


def _told(sums: twin.Sums) -> str:
    return twin.VERDICTS[int(twin.judged(LATE, SPLIT, {"loss": sums})[0][0])]


def late_labels(seed: int, runs: int, whole: int = 50, so_far: int = 200) -> Rate:
    """A challenger that under-predicts, worse by more than the margin: promoted?

    The first `whole` runs go through the production fold and judge too, which must say the same.
    """
    verdicts, effects, early = [], [], 0
    for i in range(runs):
        day = late_world(np.random.default_rng([seed, i]), -0.45)
        verdicts.append(matured_verdict(day))
        if i < whole and (found := late_verdict(day)) != verdicts[-1]:
            raise AssertionError(f"run {i}: production says {found}, its twin {verdicts[-1]}")
        effects.append(day.effect)
        early += i < so_far and so_far_verdict(day) == "promote"
    note = (
        f"true effect {np.mean(effects):+.4f}, margin 0.002; aborted {verdicts.count('abort') / runs:.0%}; by the "
        f"labels that have come so far promoted {early} of {min(so_far, runs)}"
    )
    name = "a worse challenger under late labels: promoted"
    return Rate(name, seed, runs, verdicts.count("promote"), note=note)


def sticky(seed: int, runs: int, shape: tuple[float, float]) -> Rate:
    """A/A, 1,000 users who stay in their arm, of very unequal activity and taste; the whole `tidegate judge`.

    Taste is Beta(shape); activity is lognormal with sigma 1.5.
    """
    rules = FilePolicy(errors=FileMargin(margin=0.01), arms=("champion", "challenger"))
    wrong = by_request = by_z = 0
    for i in range(runs):
        rng = np.random.default_rng([seed, i])
        frame, y, a = _sticky_frame(rng, shape)
        unit = _unit(frame, rules)
        assert unit == "sticky (inferred)", unit
        wrong += _aborts(frame, rules, unit)
        one = twin.split_sums(y[None], a[None], even(len(y)), LOOK)
        by_request += int(twin.exceeds(one.S, one.V, 0.05, 4.0).any())
        by_z += int((twin.pooled_z(y[None], a[None], LOOK) > 1.96).any())
    name = f"A/A, users who stay in their arm, taste Beta({shape[0]}, {shape[1]}): aborted"
    return Rate(name, seed, runs, wrong, by_z, note=f"counted by request, against the rule: {by_request} of {runs}")


def _sticky_frame(rng: np.random.Generator, shape: tuple[float, float]) -> tuple[object, Floats, Floats]:
    import polars as pl

    users, size = 1000, 20_000
    taste, activity = rng.beta(*shape, users), rng.lognormal(0, 1.5, users)
    arm = rng.random(users) < 0.5
    unit = rng.choice(users, size, p=activity / activity.sum())
    y, a = (rng.random(size) < taste[unit]).astype(np.float64), arm[unit]
    columns = {"time": np.arange(size) * 1.0, "unit": unit, "propensity": 0.5, "error": y.astype(int)}
    frame = pl.DataFrame(columns).with_row_index("row")
    frame = frame.with_columns(arm=pl.Series(np.where(a, "challenger", "champion")))
    return frame, y, a.astype(np.float64)


def _aborts(frame: object, rules: FilePolicy, unit: str) -> bool:
    told = list(looks(EvidenceFile(frame, SPLIT, True, unit), rules, LOOK * 10))
    return bool(told[-1]["verdict"] == "abort")


def several(seed: int, runs: int, effect: float) -> Rate:
    """A/B/C, thirds, 100,000 requests. effect 0: either is aborted; else both are worse by the margin: one promoted."""
    wrong = by_z = 0
    for i in range(runs):
        rng = np.random.default_rng([seed, i])
        arm = rng.integers(0, 3, REQUESTS)
        y = (rng.random(REQUESTS) < 0.1 + effect * (arm > 0)).astype(np.float64)
        beside = [arm != other for other in (1, 2)]
        found = [_decided(y[kept], arm[kept] > 0, effect) for kept in beside]
        wrong, by_z = wrong + any(one for one, _ in found), by_z + any(z for _, z in found)
    what = "both worse by the margin: one promoted" if effect else "A/A/A: either aborted"
    return Rate(f"A/B/C in thirds, {what}", seed, runs, wrong, by_z)


def _decided(values: Floats, is_new: NDArray[np.bool_], effect: float) -> tuple[bool, bool]:
    """Whether the judge, and a pooled z test, decide wrongly about one challenger beside the champion."""
    rules, size = policy(1, challengers=2), len(values) // LOOK * LOOK
    y, a = values[None, :size], is_new[None, :size].astype(np.float64)
    one, z = twin.split_sums(y, a, even(size), LOOK), twin.pooled_z(y, a, LOOK, effect)
    if effect:
        return bool(twin.exceeds(effect * one.W - one.S, one.V, rules.a_promote, 16.0).any()), bool((z < -1.645).any())
    return bool(twin.exceeds(one.S, one.V, rules.a_abort, 16.0).any()), bool((z > 1.96).any())


@dataclass(frozen=True)
class Paired:
    """Requests to an abort: medians of shadow pairs and of a split between the same two models."""

    correlation: float
    effect: float
    pairs: float
    split: float


def shadow_and_split(seed: int, pairs: int, splits: int, noise: float) -> Paired:
    """The same two models, Brier, the challenger's logit off by 0.35; `noise`: each model's own, over the shared."""
    rules = JudgePolicy(0.05, (Metric("loss", 0.005, SHADOW, True),), (SHADOW,), 0.0)
    found, rows, correlations, effects = [], [], [], []
    for number, size in chunks(pairs, 25):
        old, new = _models(np.random.default_rng([seed, 0, number]), (size, 40_000), noise)
        x = new - old
        rows.append(_first_abort(rules, SHADOW, twin.mean_sums(x, 10)) * 10)
        correlations.append(np.corrcoef(old.ravel(), new.ravel())[0, 1])
        effects.append(x.mean())
    for number, size in chunks(splits, 10):
        rng = np.random.default_rng([seed, 1, number])
        old, new = _models(rng, (size, 400_000), noise)
        a = (rng.random(old.shape) < 0.5).astype(np.float64)
        y = np.where(a == 1, new, old)
        found.append(_first_abort(rules, SPLIT, twin.split_sums(y, a, even(y.shape[1]), LOOK)) * LOOK)
    medians = (float(np.median(np.concatenate(each))) for each in (rows, found))
    return Paired(float(np.mean(correlations)), float(np.mean(effects)), *medians)


def _models(rng: np.random.Generator, size: tuple[int, int], noise: float) -> tuple[Floats, Floats]:
    logit = rng.normal(-1.3, 1.0, size)
    label = rng.random(size) < logistic(logit)
    shared = logit + rng.normal(0, 0.3, size)
    scores = (logistic(shared + off + rng.normal(0, noise, size)) for off in (0.0, 0.35))
    old, new = ((score - label) ** 2 for score in scores)
    return old, new


def _first_abort(rules: JudgePolicy, place: str, sums: twin.Sums) -> Floats:
    """Looks until the abort, counted from 1; infinity where there is none."""
    from tidegate.release.judge import rho_of

    look = twin.first(twin.exceeds(sums.S, sums.V, rules.a_abort, rho_of(rules.metrics[0], place)))
    return np.where(look == twin.NEVER, math.inf, look + 1.0)
