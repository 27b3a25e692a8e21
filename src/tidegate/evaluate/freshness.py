"""What newer data is worth: cells of a backtest compared, a cadence and window recommended, data against model. Pure.

Gains are in the gate's metric, turned so that more is better, by row over all that was scored, with days as clusters.
1. **Stale** is one model, trained at the first cut on the longest window; every gain is over it.
2. **Recommended** is the cheapest cell (CPU-seconds of its trainings) that is not worse than the best one: worse is
   what is proved behind it (lower limit above 0) by the gate's margin or more. The 5 % are shared by all comparisons
   with the best, so that the cells that remain hold the truly best one in 95 % of all cases; no evidence speaks for the
   higher price of any of them. Without the margin a cheap cell would go for a difference that is sure and tiny, and a
   dearer one with a larger but less sure one would stay.
3. **Pays**: a gain that is proved (lower limit above 0, the 5 % shared by all that the best was chosen from) and at
   least the gate's margin, below which the gate calls two models equal.
4. **Data or model**: the best cell that is trained again, at the fixed family, beside the best other family or
   architecture at the stale model's data. Where both pay, the one is said to pay more whose lead is proved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np

from tidegate.evaluate.days import LEAST_SLICE, Estimate, paired, shared
from tidegate.evaluate.freshness_grid import DAY, NEVER, Cell, Length
from tidegate.evaluate.measure import by_day, values
from tidegate.evaluate.metrics import Floats
from tidegate.train.splits import Times

SHOWN = 0.975
"""One-sided level of the limits that are shown: together 95 %."""
MONTHS_FROM = 84 * DAY
"""Scored time from which the timeline has months instead of weeks."""

Verdict = Literal["data", "model", "both", "neither"]


@dataclass(frozen=True)
class Scored:
    """A cell's scores of all scored rows [N], and what its trainings took; `train_rows` in all of them."""

    cell: Cell
    scores: Floats
    cpu_seconds: float
    fits: int
    train_rows: int


@dataclass(frozen=True)
class Skipped:
    """A cell that could not be played, and why."""

    cell: Cell
    why: str


@dataclass(frozen=True)
class Family:
    """Another family or architecture, trained on the stale model's rows."""

    name: str
    scores: Floats
    cpu_seconds: float


@dataclass(frozen=True)
class Played:
    """A backtest: prediction times and 0/1 labels of the scored rows [N] in order, cells with the stale one first."""

    times: Times
    labels: Floats
    cells: tuple[Scored, ...]
    families: tuple[Family, ...] = ()
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Line:
    """A cell or a family in the table. `behind` is the best cell's gain over it; `kept`: not worse than the best."""

    value: float | None
    roc_auc: float | None
    gain: Estimate
    auc_gain: Estimate
    cpu_seconds: float
    behind: Estimate | None = None
    kept: bool = True


@dataclass(frozen=True)
class Answer:
    """`lines` by place of the cells, `families` by place of theirs; `best` and `recommended` are places of cells."""

    lines: tuple[Line, ...]
    families: tuple[Line, ...]
    best: int
    recommended: int
    reason: str
    iteration: Iteration


@dataclass(frozen=True)
class Iteration:
    """Whether newer data or another model pays now. `data` and `model` are places of the best ones; None without any.

    `lower` are the gains' limits with the 5 % shared by all candidates; `lead` is the data's gain over the model's,
    with 95 % limits; `pays_more` is None where neither is proved ahead, or not both pay.
    """

    verdict: Verdict
    reason: str
    data: int | None = None
    model: int | None = None
    data_lower: float | None = None
    model_lower: float | None = None
    lead: Estimate | None = None
    pays_more: Literal["data", "model"] | None = None


@dataclass(frozen=True)
class Period:
    """A month or a week of the timeline: value of the gate's metric and AUC of each cell that is shown."""

    name: str
    rows: int
    values: tuple[float | None, ...]
    roc_auc: tuple[float | None, ...]


def answer(played: Played, metric: str, margin: float) -> Answer:
    """Compare a backtest's cells in the gate's metric; `margin` is the gate's."""
    days = np.floor(played.times / DAY).astype(np.int64)
    asker = _Asker(played, days, metric)
    stale = played.cells[0].scores
    lines = [asker.line(one.scores, stale, one.cpu_seconds) for one in played.cells]
    families = tuple(asker.line(one.scores, stale, one.cpu_seconds) for one in played.families)
    best = max(range(len(lines)), key=lambda place: lines[place].gain.estimate)
    level, top = shared(len(lines) - 1), played.cells[best].scores
    behind = [asker.gain(top, one.scores, level) for one in played.cells]
    kept = [place == best or not _sure(found, margin) for place, found in enumerate(behind)]
    told = tuple(
        Line(**{**vars(line), "behind": found, "kept": keeps})
        for line, found, keeps in zip(lines, behind, kept, strict=True)
    )
    cheapest = min((p for p, keeps in enumerate(kept) if keeps), key=lambda p: (lines[p].cpu_seconds, p))
    reason = _recommended(played, told, best, cheapest)
    return Answer(told, families, best, cheapest, reason, _iteration(asker, told, families, margin))


def timeline(played: Played, places: Sequence[int], metric: str) -> tuple[Period, ...]:
    """Value by month (by week where less than `MONTHS_FROM` is scored), in UTC, of the cells at `places`.

    A last period of fewer than `LEAST_SLICE` rows belongs to the one before it.
    """
    long = bool(played.times[-1] - played.times[0] >= MONTHS_FROM)
    days, of_row = np.unique(played.times // DAY, return_inverse=True)
    names = np.array([_period(day * DAY, long) for day in days.tolist()])[of_row]
    order = list(dict.fromkeys(names.tolist()))
    if len(order) > 1 and (names == order[-1]).sum() < LEAST_SLICE:
        small = order.pop()
        names[names == small] = order[-1]
    found = []
    for name in order:
        rows = names == name
        told = [values(played.labels[rows], played.cells[place].scores[rows]) for place in places]
        parts = tuple(one[metric] for one in told), tuple(one["roc_auc"] for one in told)
        found.append(Period(name, int(rows.sum()), *parts))
    return tuple(found)


def paces(played: Played, window: Length) -> tuple[int, ...]:
    """Places of the stale cell and of the stateless cells of one window, from the rarest cadence."""
    of_window = [
        (place, one.cell)
        for place, one in enumerate(played.cells)
        if one.cell.window == window and one.cell.mode == "stateless"
    ]
    order = sorted(of_window, key=lambda found: -found[1].cadence.seconds)
    return tuple(dict.fromkeys([0, *(place for place, _ in order)]))


def _period(day: float, months: bool) -> str:
    moment = datetime.fromtimestamp(day, UTC)
    return moment.strftime("%Y-%m") if months else (moment - timedelta(days=moment.weekday())).strftime("%Y-%m-%d")


class _Asker:
    """Compares scores of the same rows."""

    def __init__(self, played: Played, days: np.ndarray, metric: str) -> None:
        self.played, self.days, self.metric = played, days, metric

    def line(self, scores: Floats, stale: Floats, cpu_seconds: float) -> Line:
        told = values(self.played.labels, scores)
        gains = self.gain(scores, stale, SHOWN), self.gain(scores, stale, SHOWN, "roc_auc")
        return Line(told[self.metric], told["roc_auc"], *gains, cpu_seconds)

    def gain(self, scores: Floats, over: Floats, level: float, metric: str | None = None) -> Estimate:
        """How much better `scores` are, with one-sided limits at `level`."""
        if scores is over:
            return Estimate(0.0, 0.0, 0.0)
        found = by_day(metric or self.metric, self.days, self.played.labels, over, scores)
        return paired(found["sums"], found["rows"], level)


def _recommended(played: Played, lines: Sequence[Line], best: int, cheapest: int) -> str:
    kept = sum(line.kept for line in lines)
    top = played.cells[best].cell.name
    if best == cheapest:
        others = "no other cell is as good" if kept == 1 else f"the cheapest of {kept} that are as good"
        return f"the best of {len(lines)} cells, {others}"
    share = lines[cheapest].cpu_seconds / lines[best].cpu_seconds if lines[best].cpu_seconds else 1.0
    return (
        f"the cheapest of {kept} cells (of {len(lines)}) that are not worse than the best one ({top}),"
        f" at {share:.0%} of its CPU-seconds"
    )


def _iteration(asker: _Asker, lines: Sequence[Line], families: Sequence[Line], margin: float) -> Iteration:
    played, stale = asker.played, asker.played.cells[0].scores
    again = [place for place, one in enumerate(played.cells) if one.cell.cadence != NEVER]
    data = max(again, key=lambda place: lines[place].gain.estimate, default=None)
    model = max(range(len(families)), key=lambda place: families[place].gain.estimate, default=None)
    newer = None if data is None else asker.gain(played.cells[data].scores, stale, shared(len(again)))
    other = None if model is None else asker.gain(played.families[model].scores, stale, shared(len(families)))
    lead = None
    if data is not None and model is not None:
        lead = asker.gain(played.cells[data].scores, played.families[model].scores, SHOWN)
    pays = _pays(newer, margin), _pays(other, margin)
    verdict: Verdict = "both" if all(pays) else "data" if pays[0] else "model" if pays[1] else "neither"
    more = _ahead(lead) if verdict == "both" else None
    told = (
        _told(newer, "newer data" if data is None else f"newer data ({played.cells[data].cell.name})"),
        _told(other, "another family" if model is None else f"another family ({played.families[model].name})"),
    )
    reason = _sentence(verdict, more, told, margin)
    limits = newer.lower if newer else None, other.lower if other else None
    return Iteration(verdict, reason, data, model, *limits, lead, more)


def _pays(gain: Estimate | None, margin: float) -> bool:
    return gain is not None and _sure(gain, margin)


def _sure(gain: Estimate, margin: float) -> bool:
    """Proved, and enough to matter."""
    return gain.lower > 0 and gain.estimate >= margin


def _ahead(lead: Estimate | None) -> Literal["data", "model"] | None:
    if lead is None or lead.lower <= 0 <= lead.upper:
        return None
    return "data" if lead.lower > 0 else "model"


def _told(gain: Estimate | None, what: str) -> str:
    if gain is None:
        return f"{what}: none was tried"
    return f"{what} gains {gain.estimate:+.4f} (lower limit {gain.lower:+.4f})"


def _sentence(verdict: Verdict, more: str | None, told: tuple[str, str], margin: float) -> str:
    both = "; ".join(told)
    if verdict == "both":
        lead = {"data": "newer data pays more", "model": "another family pays more", None: "neither is proved ahead"}
        return f"{lead[more]}, both pay: {both}"
    if verdict == "neither":
        return f"neither is proved to gain {margin:g} or more: {both}"
    first, second = told if verdict == "data" else told[::-1]
    return f"{first}, which pays; {second}, which is not proved to gain {margin:g} or more"
