"""The flights of March to December with nobody at hand: the committed Model file's triggers, gates and releases decide.

The controller, the journal, the observation store, the judge and every run of the pipeline are the real ones, in event
time. Only the request path is left out: an answer is the score that the version's own ONNX file gives. Beside it two
lines on the same requests: v1 never retrained, and a version trained at the start of each month by hand, used at once.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core import DAY, MODEL
from benchmarks.results import Budget, Result, say
from benchmarks.unattended_year import MONTHS, Floats, Hand, Loop, Traffic, traffic
from tidegate.journal.events import Event
from tidegate.journal.views import iso
from tidegate.monitor.performance import log_losses
from tidegate.spec import load_model

SEEDS = (7, 11, 13, 17, 19)
DRAWS = 10_000
LIMIT = 0.002
"""Nats by which the loop may be worse than retraining by hand."""
COST = 2.0
"""Times the CPU-seconds of retraining by hand that the loop may take."""


@dataclass(frozen=True)
class Year:
    """One seed: mean log losses; the paired difference to monthly and its upper limit; CPU-seconds; the journal."""

    seed: int
    loop: float
    never: float
    monthly: float
    difference: float
    upper: float
    cpu: float
    cpu_monthly: float
    events: tuple[Event, ...]


def run() -> Result:
    """Five years, one after another; about five minutes each."""
    asked = traffic()
    years = [play(asked, seed) for seed in SEEDS]
    rows = [row for year in years for row in _row(year)]
    worst = max(years, key=lambda year: year.upper)
    dear = max(years, key=lambda year: year.cpu / year.cpu_monthly)
    budgets = [
        Budget(
            "95 % upper limit of loop less monthly, log loss, the worst of five seeds",
            f"at most {LIMIT}",
            f"{worst.upper:+.5f}",
            worst.upper <= LIMIT,
        ),
        Budget(
            "CPU-seconds of the runs beside monthly's, the most of five seeds",
            f"at most {COST:g}x",
            f"{dear.cpu / dear.cpu_monthly:.2f}x",
            dear.cpu <= COST * dear.cpu_monthly,
        ),
    ]
    notes = (
        f"{len(asked.time)} requests, every flight of March to December; day-block bootstrap, {DRAWS} draws",
        f"settings: {MODEL.name} as it is committed; the seed draws each request's arm and is the training's own",
        "monthly: a stateless run on the first of each month from April on, at once for all traffic, gate or no gate",
        *(f"seed {year.seed}: {line}" for year in years for line in _story(year.events)),
    )
    columns = ("seed", "line", "log loss", "less monthly (95 % upper limit)", "runs", "promoted", "CPU s")
    return Result("unattended", "March to December without a hand", columns, rows, budgets, notes, _figures(years))


def play(asked: Traffic, seed: int) -> Year:
    """The year by one seed, in folders that are thrown away."""
    model = load_model(MODEL)
    with tempfile.TemporaryDirectory(prefix="tidegate-year-") as made:
        hand = Hand(Path(made) / "hand", model, asked, seed)
        never, monthly, cpu_monthly = hand.play()
        say(f"unattended: seed {seed}: by hand, {cpu_monthly:.0f} CPU s")
        loop = Loop(Path(made) / "loop", model, asked, seed)
        served = loop.play()
        lost, kept = loss_of(asked, served), loss_of(asked, monthly)
        difference, upper = bootstrap(lost - kept, asked.time, seed)
        year = Year(
            seed, _mean(lost), _mean(loss_of(asked, never)), _mean(kept), difference, upper, loop.cpu, cpu_monthly,
            tuple(loop.events),
        )  # fmt: skip
    lines = f"loop {year.loop:.5f}, monthly {year.monthly:.5f}, never {year.never:.5f}"
    say(f"unattended: seed {seed}: {lines}, upper limit {upper:+.5f}")
    return year


def loss_of(asked: Traffic, scores: Floats) -> Floats:
    """Log loss of each request in nats, [N]; nan where the flight was cancelled."""
    return np.asarray(log_losses(scores, asked.label), np.float64)


def bootstrap(difference: Floats, time: Floats, seed: int) -> tuple[float, float]:
    """Mean of paired differences and its one-sided 95 % upper limit, days drawn with replacement (Efron, 1979)."""
    known = ~np.isnan(difference)
    day = np.floor(time[known] / DAY).astype(np.int64)
    _, place = np.unique(day, return_inverse=True)
    sums, rows = np.bincount(place, difference[known]), np.bincount(place).astype(np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (DRAWS, len(sums)))
    means = sums[drawn].sum(axis=1) / rows[drawn].sum(axis=1)
    return float(sums.sum() / rows.sum()), float(np.quantile(means, 0.95))


def _mean(losses: Floats) -> float:
    return float(np.nanmean(losses))


def _row(year: Year) -> Iterator[Sequence[str]]:
    ran = sum(event.kind == "trigger.started" and event.data["by"] == "trigger" for event in year.events)
    promoted = sum(event.kind == "release.promoted" for event in year.events)
    told = f"{year.difference:+.5f} ({year.upper:+.5f})"
    yield str(year.seed), "loop", f"{year.loop:.5f}", told, str(ran), str(promoted), f"{year.cpu:.0f}"
    yield "", "monthly by hand", f"{year.monthly:.5f}", "", str(len(MONTHS)), "", f"{year.cpu_monthly:.0f}"
    yield "", "never", f"{year.never:.5f}", f"{year.never - year.monthly:+.5f}", "0", "", ""


SHOWN = {
    "trigger.started": lambda data: f"run, cause {', '.join(data['causes'])}",
    "register.candidate": lambda data: f"candidate {data['version']}",
    "register.unchanged": lambda data: "unchanged",
    "register.refused": lambda data: f"refused: {data['reason']}",
    "evaluate.refused": lambda data: f"refused: {data['reason']}",
    "validate.refused": lambda data: "data refused",
    "release.opened": lambda data: "release opened",
    "release.promoted": lambda data: "promoted",
    "release.aborted": lambda data: "aborted",
    "release.rolled_back": lambda data: "rolled back",
    "release.superseded": lambda data: f"superseded: {data['reason']}",
}


def _story(events: Sequence[Event]) -> list[str]:
    """Runs, findings and releases of a year, a line each."""
    told = [f"{iso(event.time)[:10]} {SHOWN[event.kind](event.data)}" for event in events if event.kind in SHOWN]
    found = Counter(
        seen["finding"] for event in events for seen in [event.data.get("event", {})] if seen.get("kind") == "drift"
    )
    return ["; ".join(told), "findings " + (", ".join(f"{name} {n}" for name, n in found.items()) or "none")]


def _figures(years: Sequence[Year]) -> dict[str, Any]:
    names = ("loop", "never", "monthly", "difference", "upper", "cpu", "cpu_monthly")
    return {f"seed {year.seed}": {name: getattr(year, name) for name in names} for year in years}
