"""From rows and settings to a fitted model: which mode, which family, why, on which rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import UserError
from tidegate.evaluate.metrics import log_loss
from tidegate.spec import format_span
from tidegate.train import continued, search
from tidegate.train.boosting import probability
from tidegate.train.estimator import Estimator
from tidegate.train.estimators import architecture_of, estimator
from tidegate.train.families import Family, Setting
from tidegate.train.lineage import Parent, minor_allowed
from tidegate.train.model_file import FeatureSchema
from tidegate.train.search import Choice, Measured, Option
from tidegate.train.settings import RunSettings
from tidegate.train.splits import Mask, Splits, Times
from tidegate.train.stateful import DAY, LEAST_ROWS, Search

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Rows:
    """Labelled rows in order of (prediction time, key): encoded float32 [N, F], labels [N], times [N] in seconds.

    `label_times` [N] says when each label came.
    """

    frame: pl.DataFrame
    encoded: NDArray[np.float32]
    labels: NDArray[np.float64]
    times: Times
    label_times: Times


@dataclass(frozen=True)
class Job:
    """All that fitting needs; `parent_text` is the parent's stored text where its files are there.

    `options` are the candidate families, the first one the workload's own choice, as each is fitted when not searched.
    """

    rows: Rows
    parts: Splits
    settings: RunSettings
    options: tuple[Option, ...]
    schema: FeatureSchema
    parent: Parent | None = None
    parent_text: str | None = None
    ranges: Mapping[str, tuple[float, float]] | None = None
    """Where rows are not retained: the range that each numeric feature was clipped to."""

    @property
    def since(self) -> float:
        """Where the parent's rows end, seconds; before every row where there is no parent."""
        return self.parent.train_until if self.parent else -np.inf

    def labels(self, rows: Mask | NDArray[np.int64]) -> NDArray[np.float64]:
        """The labels of `rows` to fit on; UserError when they are too few or of one class."""
        labels = self.rows.labels[rows]
        if len(labels) < LEAST_ROWS or not 0 < labels.mean() < 1:
            raise UserError("train", f"{len(labels)} rows", f"at least {LEAST_ROWS} labelled rows of both classes")
        return labels

    @property
    def train(self) -> Mask:
        """Training rows whose label was known before the gate window."""
        return self.parts.train.known(self.rows.times, self.rows.label_times, self.parts.gate.after)

    @property
    def fit(self) -> Mask:
        """Training rows whose label was known before the validation window."""
        return self.parts.fit.known(self.rows.times, self.rows.label_times, self.parts.validation.after)

    @property
    def validation(self) -> Mask:
        """Training rows on which settings are compared."""
        return self.train & self.parts.validation.mask(self.rows.times)


@dataclass(frozen=True)
class Fit:
    """A fitted model, and what led to it; `mask` is its training rows, `compared` those of any comparison before."""

    model: Estimator
    mode: str
    reason: str
    family: Family
    setting: Setting
    mask: Mask
    compared: Mask
    search: Search
    choice: Choice | None = None


def fit(job: Job) -> Fit:
    """A minor where one is asked for, allowed and pays (or mode is stateful); else a new major, with the reason."""
    family = _continued(job)
    found = _search(job, family)
    compared = np.zeros_like(job.train) if found.parent_log_loss is None else job.fit
    if found.best and (found.pays or job.settings.training.mode == "stateful"):
        mask = continued.minor_rows(job, found.best, job.train)
        model = _fit(job, mask, (family, found.best), job.parent_text)
        return Fit(model, "stateful", found.reason, family, found.best, mask, compared, found)
    choice = _choice(job)
    model = _fit(job, job.train, choice.option, None)
    compared = job.fit if choice.table else compared
    return Fit(model, "stateless", found.reason, *choice.option, job.train, compared, found, choice)


def _fit(job: Job, mask: Mask, option: Option, parent: str | None) -> Estimator:
    model = estimator(*option, job.schema, job.settings.seed, job.settings.training.engine)
    weights = None if parent is None else continued.weights(job, option[1], mask)
    return model.fit(job.rows.encoded[mask], job.labels(mask), parent, weights)


def _choice(job: Job) -> Choice:
    """The family and setting of a major: the first one's default where nothing else is asked for or can be compared."""
    trials, first = job.settings.training.search_trials, job.options[0]
    if not trials and len(job.options) == 1:
        return Choice(first, "the only one asked for")
    rows, scored = int(job.fit.sum()), int(job.validation.sum())
    if min(rows, scored) < LEAST_ROWS:
        return Choice(first, f"{rows} rows to fit and {scored} to compare on, {LEAST_ROWS} are needed: the first one")
    days = np.floor(job.rows.times[job.validation] / DAY).astype(np.int64)
    return search.choose(job.options, partial(_measured, job), days, trials, job.settings.seed)


def _measured(job: Job, option: Option, share: float) -> Measured:
    """Fit on the newest `share` of the rows before the validation window and score that window."""
    mask, started = job.fit, time.process_time()
    newest = np.flatnonzero(mask)[-max(LEAST_ROWS, round(share * int(mask.sum()))) :]
    mask = np.zeros_like(mask)
    mask[newest] = True
    model = _fit(job, mask, option, None)
    scores = probability(model.log_odds(job.rows.encoded[job.validation]))
    spent = time.process_time() - started
    return Measured(log_loss(job.rows.labels[job.validation], scores), spent, len(model.onnx()))


def _continued(job: Job) -> Family:
    """The family of a minor: the parent's, where this run would make one like it; else the run's first."""
    first = job.options[0][0]
    if job.parent is None or job.parent_text is None:
        return first
    before = architecture_of(job.parent_text)
    for family, _ in job.options:
        searched = {found.name for found in family.space} if job.settings.training.search_trials else set()
        fixed = {key: value for key, value in family.structure.items() if key not in searched}
        if family.name == before.name and fixed.items() <= before.structure.items():
            return replace(family, structure=before.structure) if searched else family
    return first


def _search(job: Job, family: Family) -> Search:
    forbidden = _forbidden(job, family)
    if forbidden or job.parent_text is None:
        return Search(None, False, forbidden or "the parent's files are not there")
    return continued.settings(job, family, job.parent_text)


def _forbidden(job: Job, family: Family) -> str:
    """Why no minor can be tried; empty when one can."""
    training = job.settings.training
    if job.settings.recent:
        return f"only the rows of the newest {format_span(job.settings.recent)} count"
    if training.mode == "stateless":
        return "stateless was asked for"
    rule = minor_allowed(job.parent, job.schema.digest, family.architecture_digest, training.max_depth)
    if not rule.allowed or job.parent is None:
        return rule.reason
    if family.why_not_stateful:
        return family.why_not_stateful
    newer = int((job.fit & (job.rows.times > job.parent.train_until)).sum())
    if newer < LEAST_ROWS:
        return f"{newer} rows are newer than those of {job.parent.version}; training on needs {LEAST_ROWS}"
    scored = int(job.validation.sum())
    return "" if scored >= LEAST_ROWS else f"{scored} rows to compare settings on, {LEAST_ROWS} are needed"
