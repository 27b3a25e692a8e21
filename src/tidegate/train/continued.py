"""Which setting trains on from the parent: fixed ones, and with trials what Optuna proposes.

Every setting is fitted on the rows before the validation window and compared with the parent on it; a trial on a
quarter, half and all of them, spread evenly over time, and pruned where it is behind the median
(`tidegate.train.search`). What each loses on rows that the parent knew is measured beside it: a setting that forgets
more than the gate allows is not chosen while another one does not (`tidegate.train.stateful`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tidegate.evaluate.metrics import log_loss
from tidegate.train import families, search, stateful
from tidegate.train.boosting import probability
from tidegate.train.estimators import estimator, restored
from tidegate.train.families import Family, Setting
from tidegate.train.search import Measured, Option
from tidegate.train.splits import Mask
from tidegate.train.stateful import Search

if TYPE_CHECKING:
    from optuna.trial import Trial

    from tidegate.train.fitting import Job

KNOWN = 4000
"""Rows of the parent's past, evenly spaced, on which forgetting is measured."""

Positions = NDArray[np.int64]


def minor_rows(job: Job, setting: Setting, inside: Mask) -> Mask:
    """The rows of the part `inside` that a minor with this setting is fitted on."""
    return stateful.training_rows(job.rows.times, inside, job.since, setting.replay, job.settings.seed)


def weights(job: Job, setting: Setting, rows: Mask | Positions) -> NDArray[np.float64] | None:
    """What each of `rows` weighs in a minor's fit; None where all weigh the same."""
    return stateful.weights(job.rows.times[rows], job.since, setting.replay)


def settings(job: Job, family: Family, text: str) -> Search:
    """Compare settings of a minor of the parent whose stored text is `text`."""
    bench = _Bench(job, family, text)
    fixed = families.stateful_settings(family, job.settings.training.replay)
    found, pruned = _searched(bench, job, family)
    tried = (*fixed, *(one for one in found if one not in fixed))
    most = job.settings.gate.forgetting.max_loss if job.settings.gate.forgetting else None
    times = job.rows.times[job.validation]
    return stateful.compare(tried, bench.told, bench.before, times, most, pruned)


def _searched(bench: _Bench, job: Job, family: Family) -> tuple[list[Setting], int]:
    """The settings that Optuna proposed and that ran whole, and how many were pruned."""
    space = families.minor_space(family, job.settings.training.replay)

    def proposed(trial: Trial) -> Option:
        return family, families.minor_at(family, {one.name: search.drawn(one, trial) for one in space})

    trials = job.settings.training.search_trials
    tried = list(search.searched(proposed, bench.measured, trials, job.settings.seed)) if trials else []
    whole = [one.option[1] for one in tried if one.share == 1]
    return list(dict.fromkeys(whole)), len(tried) - len(whole)


class _Bench:
    """Children of one parent, scored on the validation window and on rows that the parent knew.

    `before`: the parent's losses on the window [V].
    """

    def __init__(self, job: Job, family: Family, text: str) -> None:
        self._job, self._family, self._text = job, family, text
        self._parent, self._start = restored(text, job.schema), np.full(len(job.rows.times), np.nan)
        window, known = np.flatnonzero(job.validation), np.flatnonzero(job.fit & (job.rows.times <= job.since))
        spaced = known[np.linspace(0, len(known) - 1, min(KNOWN, len(known))).astype(np.int64)]
        self._asked, self._window = np.concatenate([window, spaced]), len(window)
        self._losses = log_loss(job.rows.labels[self._asked], probability(self._odds(self._asked)))
        self.before = self._losses[: self._window]
        self._told: dict[Setting, tuple[NDArray[np.float64], float | None]] = {}

    def told(self, setting: Setting) -> tuple[NDArray[np.float64], float | None]:
        """Losses on the window [V], and the mean loss over the parent's on rows that it knew, None without such."""
        if setting not in self._told:
            self._told[setting] = self._fitted(setting, 1.0)
        return self._told[setting]

    def measured(self, option: Option, share: float) -> Measured:
        """As `tidegate.train.search.Measure`; the size of a child's export is not asked for."""
        began, setting = time.process_time(), option[1]
        losses = self.told(setting)[0] if share == 1 else self._fitted(setting, share)[0]
        return Measured(losses, time.process_time() - began, 0)

    def _fitted(self, setting: Setting, share: float) -> tuple[NDArray[np.float64], float | None]:
        job, encoded = self._job, self._job.rows.encoded
        rows = np.flatnonzero(minor_rows(job, setting, job.fit))
        count = min(len(rows), max(stateful.LEAST_ROWS, round(share * len(rows))))
        rows = rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]
        child = estimator(self._family, setting, job.schema, job.settings.seed)
        start, ahead = self._odds(rows), self._odds(self._asked)
        fitted = encoded[rows], job.labels(rows), start
        odds = child.ahead(*fitted, encoded[self._asked], ahead, self._text, weights(job, setting, rows))
        losses = log_loss(job.rows.labels[self._asked], probability(odds))
        over = (losses - self._losses)[self._window :]
        return losses[: self._window], float(over.mean()) if len(over) else None

    def _odds(self, rows: Positions) -> NDArray[np.float64]:
        """The parent's log-odds, of each row once."""
        new = rows[np.isnan(self._start[rows])]
        if len(new):
            self._start[new] = self._parent.log_odds(self._job.rows.encoded[new])
        return np.asarray(self._start[rows])
