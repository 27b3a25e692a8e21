"""From rows and settings to a fitted model: which mode, why, on which rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import UserError
from tidegate.evaluate.metrics import log_loss
from tidegate.train import families, stateful
from tidegate.train.families import Family, Setting
from tidegate.train.lineage import Parent, minor_allowed
from tidegate.train.model_file import FeatureSchema
from tidegate.train.settings import RunSettings
from tidegate.train.splits import Mask, Splits, Times
from tidegate.train.stateful import LEAST_ROWS, Search

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Rows:
    """Labelled rows in order of (prediction time, key): encoded float32 [N, F], labels [N], times [N] in seconds."""

    frame: pl.DataFrame
    encoded: NDArray[np.float32]
    labels: NDArray[np.float64]
    times: Times


@dataclass(frozen=True)
class Job:
    """All that fitting needs; `parent_text` is the parent's LightGBM text where its files are there."""

    rows: Rows
    parts: Splits
    settings: RunSettings
    family: Family
    from_scratch: Setting
    schema: FeatureSchema
    parent: Parent | None = None
    parent_text: str | None = None


@dataclass(frozen=True)
class Fit:
    """A fitted model's text, and what led to it; `mask` is its training rows."""

    text: str
    mode: str
    reason: str
    setting: Setting
    mask: Mask
    search: Search


def fit(job: Job) -> Fit:
    """A minor where one is asked for, allowed and pays (or mode is stateful); else a new major, with the reason."""
    search = _search(job)
    if search.best and (search.pays or job.settings.training.mode == "stateful"):
        mask = _minor_rows(job, search.best, fit=False)
        return Fit(_fit(job, mask, search.best, job.parent_text), "stateful", search.reason, search.best, mask, search)
    mask = job.parts.train.mask(job.rows.times)
    return Fit(_fit(job, mask, job.from_scratch, None), "stateless", search.reason, job.from_scratch, mask, search)


def _fit(job: Job, mask: Mask, setting: Setting, parent: str | None) -> str:
    labels = _labels(job, mask)
    encoded, names = job.rows.encoded[mask], job.schema.names
    return families.fit(job.family, encoded, labels, names, setting, job.settings.seed, parent)


def _labels(job: Job, mask: Mask) -> NDArray[np.float64]:
    labels = job.rows.labels[mask]
    if len(labels) < LEAST_ROWS or not 0 < labels.mean() < 1:
        raise UserError("train", f"{len(labels)} rows", f"at least {LEAST_ROWS} labelled rows of both classes")
    return labels


def _minor_rows(job: Job, setting: Setting, fit: bool) -> Mask:
    window = job.parts.fit if fit else job.parts.train
    since = job.parent.train_until if job.parent else -np.inf
    return stateful.training_rows(job.rows.times, window, since, setting.replay, job.settings.seed)


def _search(job: Job) -> Search:
    forbidden = _forbidden(job)
    if forbidden or job.parent_text is None:
        return Search(None, False, forbidden or "the parent's files are not there")
    validation, encoded = job.parts.validation.mask(job.rows.times), job.rows.encoded
    ahead, labels, seed = encoded[validation], job.rows.labels[validation], job.settings.seed
    settings = families.stateful_settings(job.settings.training.replay)
    needed = np.logical_or.reduce([validation, *(_minor_rows(job, setting, fit=True) for setting in settings)])
    start = np.full(len(needed), np.nan)
    start[needed] = families.log_odds(job.parent_text, encoded[needed])

    def losses(setting: Setting) -> NDArray[np.float64]:
        mask = _minor_rows(job, setting, fit=True)
        added = families.new_trees(job.family, encoded[mask], _labels(job, mask), start[mask], setting, seed, ahead)
        return log_loss(labels, families.probability(start[validation] + added))

    parent = log_loss(labels, families.probability(start[validation]))
    return stateful.compare(settings, losses, parent, job.rows.times[validation])


def _forbidden(job: Job) -> str:
    """Why no minor can be tried; empty when one can."""
    training = job.settings.training
    if training.mode == "stateless":
        return "stateless was asked for"
    rule = minor_allowed(job.parent, job.schema.digest, job.family.architecture_digest, training.max_depth)
    if not rule.allowed or job.parent is None:
        return rule.reason
    times, parts = job.rows.times, job.parts
    newer = int((parts.fit.mask(times) & (times > job.parent.train_until)).sum())
    if newer < LEAST_ROWS:
        return f"{newer} rows are newer than those of {job.parent.version}; training on needs {LEAST_ROWS}"
    scored = int(parts.validation.mask(times).sum())
    return "" if scored >= LEAST_ROWS else f"{scored} rows to compare settings on, {LEAST_ROWS} are needed"
