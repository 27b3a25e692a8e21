"""Plays a grid of trainings on rows with their features joined, by the train step's own `fit`. Does I/O: its cache.

A model that was fitted is kept in the cache by what it was made of (contents of the rows, code, settings, its window),
so that a backtest that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tidegate import stepcache
from tidegate.errors import UserError
from tidegate.evaluate.freshness import Family, Played, Scored, Skipped
from tidegate.evaluate.freshness_grid import Cell, Grid, Length, Mode
from tidegate.train import families
from tidegate.train.boosting import probability
from tidegate.train.fitting import Fit, Job, Rows, fit
from tidegate.train.lineage import Parent
from tidegate.train.model_file import FeatureSchema, canonical_json
from tidegate.train.search import Option
from tidegate.train.settings import RunSettings
from tidegate.train.splits import Splits, check_no_leak
from tidegate.train.stateful import LEAST_ROWS

OUTPUTS = ("scores.npy", "model.txt")
Advance = Callable[[int, int], None]
"""(models there, models in all)"""


@dataclass(frozen=True)
class Bench:
    """What every training shares. `option` is the family that data iterations are made with.

    `others` are model iterations by the name that they are shown under. `cache` is a folder, `digest` that of the rows
    and the code; None keeps nothing.
    """

    rows: Rows
    schema: FeatureSchema
    key: str
    option: Option
    others: Mapping[str, Option]
    settings: RunSettings
    cache: Path | None = None
    digest: str = ""


@dataclass(frozen=True)
class _Made:
    """A fitted model: scores of the rows of its gate window, the text that a child goes on from, its cache key."""

    key: str
    scores: NDArray[np.float64]
    text: str
    mode: str
    reason: str
    cpu_seconds: float
    rows: int
    train_until: float


@dataclass(frozen=True)
class _Task:
    option: Option
    parts: Splits
    mode: Mode
    parent: _Made | None = None
    version: str = "v1"


def play(bench: Bench, grid: Grid, modes: Sequence[Mode], advance: Advance = lambda done, total: None) -> Played:
    """Train and score every cell of the grid and every other family; cells without enough rows are named as skipped."""
    return _Player(bench, grid, modes, advance).played()


class _Player:
    """One backtest: models by (window, cut), since cadences share those that are trained from scratch."""

    def __init__(self, bench: Bench, grid: Grid, modes: Sequence[Mode], advance: Advance) -> None:
        self.bench, self.grid, self.modes, self.advance = bench, grid, modes, advance
        self.scratch: dict[tuple[Length, float], _Made] = {}
        self.mask = (bench.rows.times > grid.first) & (bench.rows.times <= grid.until)
        self.done, self.total = 0, self._count()

    def played(self) -> Played:
        """Train and score it."""
        if why := self._why_not(self.grid.stale):
            raise UserError("rows", why, f"{LEAST_ROWS} labelled rows before the first cut, the newest half is scored")
        found = [self._cell(cell) for cell in self.grid.cells(self.modes)]
        others = tuple(self._other(name, option) for name, option in self.bench.others.items())
        rows = self.bench.rows
        return Played(
            rows.times[self.mask],
            rows.labels[self.mask],
            tuple(one for one in found if isinstance(one, Scored)),
            others,
            tuple(one for one in found if isinstance(one, Skipped)),
        )

    def _cell(self, cell: Cell) -> Scored | Skipped:
        if why := self._why_not(cell):
            return Skipped(cell, why)
        made = list(self._from_scratch(cell) if cell.mode == "stateless" else self._chain(cell))
        if cell.mode == "stateful" and all(one.mode == "stateless" for one in made):
            return Skipped(cell, made[-1].reason)
        times, parts = self.bench.rows.times[self.mask], []
        for (cut, after), one in zip(self.grid.cuts(cell.cadence), made, strict=True):
            parts.append(one.scores[: int(((times > cut) & (times <= after)).sum())])
        spent, rows = sum(one.cpu_seconds for one in made), sum(one.rows for one in made)
        return Scored(cell, np.concatenate(parts), spent, len(made), rows)

    def _why_not(self, cell: Cell) -> str:
        if cell.mode == "stateful" and (reason := self.bench.option[0].why_not_stateful):
            return reason
        least = min(self._rows(self._parts(cell.window, *cut)) for cut in self.grid.cuts(cell.cadence))
        return "" if least >= LEAST_ROWS else f"{least} rows to train on at one cut, {LEAST_ROWS} are needed"

    def _from_scratch(self, cell: Cell) -> Iterator[_Made]:
        for cut, _ in self.grid.cuts(cell.cadence):
            yield self._model(cell.window, cut)

    def _model(self, window: Length, cut: float) -> _Made:
        if (window, cut) not in self.scratch:
            parts = self._parts(window, cut, self.grid.scored_until(cut))
            self.scratch[window, cut] = self._made(_Task(self.bench.option, parts, "stateless"))
        return self.scratch[window, cut]

    def _chain(self, cell: Cell) -> Iterator[_Made]:
        """Each model trained on from the one before; the first is from scratch, as is one that cannot go on."""
        made, major, minor = self._model(cell.window, self.grid.first), 1, 0
        yield made
        for cut, after in self.grid.cuts(cell.cadence)[1:]:
            parts = self._parts(cell.window, cut, after, cell.cadence)
            version = f"v{major}.{minor}" if minor else f"v{major}"
            made = self._made(_Task(self.bench.option, parts, "stateful", made, version))
            major, minor = (major, minor + 1) if made.mode == "stateful" else (major + 1, 0)
            yield made

    def _other(self, name: str, option: Option) -> Family:
        stale = self._parts(self.grid.stale.window, self.grid.first, self.grid.until)
        made = self._made(_Task(option, stale, "stateless"))
        return Family(name, made.scores, made.cpu_seconds)

    def _made(self, task: _Task) -> _Made:
        found = _cached(self.bench, task)
        self.done += 1
        self.advance(self.done, self.total)
        return found

    def _parts(self, window: Length, cut: float, after: float, cadence: Length | None = None) -> Splits:
        """Settings of a minor are compared on the newest rows: the gate's window, or half a cadence if that is less."""
        longest = self.bench.settings.gate_window.total_seconds()
        return self.grid.parts(window, cut, after, min(longest, cadence.seconds / 2) if cadence else longest)

    def _rows(self, parts: Splits) -> int:
        rows = self.bench.rows
        return int(parts.train.known(rows.times, rows.label_times, parts.gate.after).sum())

    def _count(self) -> int:
        cells = [cell for cell in self.grid.cells(self.modes) if not self._why_not(cell)]
        cuts = {cell: self.grid.cuts(cell.cadence) for cell in cells}
        shared = {(cell.window, cut) for cell in cells if cell.mode == "stateless" for cut, _ in cuts[cell]}
        return len(shared) + sum(len(cuts[c]) - 1 for c in cells if c.mode == "stateful") + len(self.bench.others)


def named(option: Option, families_known: Mapping[str, Mapping[str, object]]) -> dict[str, Option]:
    """Model iterations beside `option`: every other family, and its own one's defaults where they differ from it.

    `families_known` are the workload's hints by family.
    """
    own = option[0]
    found = {
        name: families.configured(one, families_known.get(name, {}))
        for name, one in families.FAMILIES.items()
        if name != own.name
    }
    plain = families.configured(families.family(own.name), {})
    if plain[0].architecture_digest != own.architecture_digest:
        found[f"{own.name}, default architecture"] = plain
    return found


def _cached(bench: Bench, task: _Task) -> _Made:
    key = _key(bench, task)
    if bench.cache is None:
        return _fitted(bench, task, key)
    entry = bench.cache / key
    with tempfile.TemporaryDirectory(prefix=".reading-", dir=bench.cache) as name:
        paths = {output: Path(name) / output for output in OUTPUTS}
        if (kept := stepcache.fetch(entry, paths)) is not None:
            scores, text = np.load(paths["scores.npy"]), paths["model.txt"].read_text(encoding="utf-8")
            return _Made(key, scores, text, **kept)
        made = _fitted(bench, task, key)
        np.save(paths["scores.npy"], made.scores)
        paths["model.txt"].write_text(made.text, encoding="utf-8")
        told = {name: value for name, value in asdict(replace(made, scores=np.zeros(0))).items() if name in _KEPT}
        stepcache.store(entry, paths, told)
    return made


_KEPT = ("mode", "reason", "cpu_seconds", "rows", "train_until")


def _key(bench: Bench, task: _Task) -> str:
    family, setting = task.option
    told = [bench.digest, family.name, families.hints_of(family, setting), task.mode, str(asdict(task.parts))]
    told += [bench.settings.text(), task.parent.key if task.parent else "", task.version]
    return hashlib.sha256(canonical_json(told).encode()).hexdigest()[:32]


def _fitted(bench: Bench, task: _Task, key: str) -> _Made:
    began = time.process_time()
    job = _job(bench, task)
    found = fit(job)
    spent = time.process_time() - began
    _check(bench, job, found)
    rows, scored = bench.rows, task.parts.gate.mask(bench.rows.times)
    scores = probability(found.model.log_odds(rows.encoded[scored]))
    trained = task.parts.train.until
    return _Made(key, scores, found.model.text, found.mode, found.reason, spent, int(found.mask.sum()), trained)


def _job(bench: Bench, task: _Task) -> Job:
    training = bench.settings.training.model_copy(update={"mode": task.mode, "search_trials": 0, "engine": "local"})
    settings = bench.settings.model_copy(update={"training": training})
    parent, text = None, None
    if task.parent is not None:
        text = task.parent.text
        digest = task.option[0].architecture_digest
        parent = Parent(task.version, "", bench.schema.digest, digest, task.parent.train_until)
    return Job(bench.rows, task.parts, settings, (task.option,), bench.schema, parent, text)


def _check(bench: Bench, job: Job, found: Fit) -> None:
    """The train step's own checks: nothing that a model learned from is younger than what it scores."""
    times = [name for name in bench.rows.frame.columns if name == bench.key or name.endswith("_timestamp")]
    rows = bench.rows.frame.select(times)
    check_no_leak(rows.filter(found.mask), bench.key, job.parts.gate.after)
    check_no_leak(rows.filter(found.compared), bench.key, job.parts.validation.after)


def rows_digest(path: Path, workload: str) -> str:
    """Digest of a features file and of the code that trains and scores."""
    libraries = ("lightgbm", "numpy", "polars", "scikit-learn")
    code = stepcache.code_digest("train", ("evaluate",), {"workload": workload}, libraries)
    return hashlib.sha256(json.dumps([stepcache.content_digest(path), code]).encode()).hexdigest()
