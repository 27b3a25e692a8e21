"""The judge on real flights: monthly parent and child made by the train step, a release begun on every day.

Each pair flies twice: the child as the challenger, then the parent, so that worse challengers are there too.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.candidates import WORKLOAD, _features
from benchmarks.core import DAY, MODEL
from benchmarks.results import say
from tidegate.release.fold import EvidenceFold
from tidegate.release.judge import judge
from tidegate.release.policy import SHADOW, JudgePolicy, policy_of
from tidegate.release.rows import Labels, rows_of
from tidegate.spec import Model, load_model
from tidegate.train.export import score
from tidegate.train.model_file import FeatureSchema
from tidegate.train.settings import ParentFacts, RunSettings
from tidegate.train.step import train

Floats = NDArray[np.float64]
CUTS = tuple(datetime(2013, month, 1, tzinfo=UTC) for month in range(2, 12))
END = datetime(2014, 1, 1, tzinfo=UTC)
AFTER = 28 * DAY
"""What a verdict is held against: the mean paired difference of this long after it."""


@dataclass(frozen=True)
class Pair:
    """Scores of a parent and its child on the flights after the child's cut, in order of time; label nan: cancelled."""

    name: str
    time: Floats
    label: Floats
    told: Floats
    old: Floats
    new: Floats
    starts: Floats

    @property
    def turned(self) -> Pair:
        """The same two with the parent as the challenger."""
        return replace(self, name=f"{self.name}, turned round", old=self.new, new=self.old)

    @property
    def difference(self) -> Floats:
        """Brier of the child less that of the parent."""
        return (self.new - self.label) ** 2 - (self.old - self.label) ** 2


@dataclass(frozen=True)
class Flight:
    """One start: the verdict, and the truth of the 28 days after it (nan where the year is over before)."""

    pair: str
    verdict: str
    days: float
    later: float


def make_pairs(folder: Path) -> list[Pair]:
    """Ten versions, one a month, each the child of the one before; nine pairs."""
    import polars as pl

    import benchmarks.candidates as candidates

    candidates.UNTIL = END.isoformat()
    rows = pl.read_parquet(_features(folder))
    say("judge_flights: features of the year are there")
    model, made = load_model(MODEL), []
    for number, cut in enumerate(CUTS):
        made.append(_version(folder, rows, model, cut, number, made[-1] if made else None))
    say(f"judge_flights: {len(made)} versions: {', '.join(facts['mode'] for _, facts in made)}")
    return [_pair(rows, *made[i], *made[i + 1], CUTS[i + 1]) for i in range(len(made) - 1)]


Made = tuple[Path, dict[str, Any]]


def _version(folder: Path, rows: Any, model: Model, cut: datetime, number: int, parent: Made | None) -> Made:
    import polars as pl

    given, out = folder / f"rows-{number}.parquet", folder / f"v{number + 1}"
    known = pl.coalesce("label_timestamp", "event_timestamp") <= cut
    rows.filter(known).write_parquet(given)
    names = ("digest", "feature_schema_digest", "architecture_digest", "train_until")
    facts = ParentFacts(version=parent[0].name, **{name: parent[1][name] for name in names}) if parent else None
    settings = RunSettings(training=model.spec.training, parent=facts)
    train(given, WORKLOAD, cut.isoformat(), settings.text(), parent and parent[0], out)
    return out, json.loads((out / "training.json").read_text())


def _pair(rows: Any, old: Path, _: object, new: Path, facts: dict[str, Any], cut: datetime) -> Pair:
    import polars as pl

    later = rows.filter(pl.col("event_timestamp") >= cut).sort("event_timestamp", maintain_order=True)
    time, told, label = times_and_labels(later)
    scores = [score((f / "model.onnx").read_bytes(), FeatureSchema.load(f).encode_frame(later)) for f in (old, new)]
    last = min(cut.timestamp() + 31 * DAY, END.timestamp() - AFTER - DAY)
    starts = np.arange(cut.timestamp(), last, DAY)
    return Pair(f"{old.name} -> {new.name} ({facts['mode']})", time, label, told, *map(np.asarray, scores), starts)


def times_and_labels(rows: Any) -> tuple[Floats, Floats, Floats]:
    """When each row of a polars frame was asked and labelled, in seconds, and its label; nan: cancelled. [N] each."""
    import polars as pl

    asked, told = (rows[name].dt.timestamp("us") / 1e6 for name in ("event_timestamp", "label_timestamp"))
    label = rows["label"].cast(pl.Float64).fill_null(float("nan"))
    return np.asarray(asked.to_numpy()), np.asarray(told.to_numpy()), np.asarray(label.to_numpy())


def policies(model: Model) -> Iterator[tuple[str, JudgePolicy]]:
    """The committed Model file's judge over shadow pairs; first the bound alone, last as it is."""
    rules = policy_of(model.spec.release)
    metrics = tuple(replace(metric, proved_at=SHADOW) for metric in rules.metrics)
    whole = replace(rules, metrics=metrics, places=(SHADOW,))
    yield "the bound alone", replace(whole, block=None, min_duration=None)
    yield "and 7 days before a promotion", replace(whole, block=None)
    yield "and the block check", whole


def fly(pair: Pair, rules: JudgePolicy, start: float, deadline: float) -> Flight:
    """Shadow pairs from `start` on, a look a day, until the verdict or the deadline."""
    fold, at = EvidenceFold(rules), np.searchsorted(pair.time, start)
    for day in range(1, int(deadline / DAY) + 1):
        now = start + day * DAY
        if now + AFTER > END.timestamp():
            break
        until = int(np.searchsorted(pair.time, now))
        _feed(fold, pair, slice(int(at), until))
        at = until
        found = judge(rules, fold.advance(now).at(SHADOW), now=now, opened=start, place=SHADOW)
        if found.verdict != "hold":
            return Flight(pair.name, found.verdict, float(day), _later(pair, now))
    return Flight(pair.name, "hold", float(day), float("nan"))


def _feed(fold: EvidenceFold, pair: Pair, part: slice) -> None:
    ids, time = [f"{part.start + i}" for i in range(part.stop - part.start)], pair.time[part]
    size = len(ids)
    for arm, scores in ((0, pair.old), (1, pair.new)):
        more = {"mirrored": [arm == 1] * size, "score": scores[part], "latency_ms": [5.0] * size}
        fold.add(rows_of(time, ids, [arm] * size, [1.0] * size, **more))
    fold.label(Labels(pair.told[part], ids, pair.label[part]))


def _later(pair: Pair, now: float) -> float:
    window = (pair.time >= now) & (pair.time < now + AFTER)
    return float(np.nanmean(pair.difference[window]))


@dataclass(frozen=True)
class Outcome:
    """One rule over every start: how often each verdict, and how often wrong against the next 28 days."""

    rule: str
    starts: int
    promoted: int
    promoted_wrong: int
    aborted: int
    aborted_wrong: int
    days: float

    @property
    def wrong(self) -> float:
        """Share of all starts."""
        return (self.promoted_wrong + self.aborted_wrong) / self.starts


def outcome(rule: str, flights: list[Flight], margin: float) -> Outcome:
    """Counts; wrong is a promotion that is later worse than the margin, an abort that is later better than 0."""
    up, down = ([f for f in flights if f.verdict == verdict] for verdict in ("promote", "abort"))
    wrong = (sum(f.later > margin for f in up), sum(f.later < 0 for f in down))
    decided = [f.days for f in flights if f.verdict != "hold"] or [float("nan")]
    return Outcome(rule, len(flights), len(up), wrong[0], len(down), wrong[1], float(np.median(decided)))


def outcomes() -> tuple[list[Outcome], list[tuple[str, int, float]]]:
    """Every rule over every start of every pair; and (pair, starts, mean difference of its month and 28 days)."""
    model = load_model(MODEL)
    with tempfile.TemporaryDirectory(prefix="tidegate-judge-flights-") as made:
        straight = make_pairs(Path(made))
    pairs = [*straight, *(pair.turned for pair in straight)]
    deadline, found = model.spec.release.deadline.total_seconds(), []
    for rule, rules in policies(model):
        flights = [fly(pair, rules, float(start), deadline) for pair in pairs for start in pair.starts]
        margin = next(metric.margin for metric in rules.metrics if metric.name == "loss")
        found.append(outcome(rule, flights, margin))
        say(f"judge_flights: {found[-1]}")
    told = [(p.name, len(p.starts), float(np.nanmean(p.difference[p.time < p.time[0] + 59 * DAY]))) for p in straight]
    return found, told
