"""Does training on pay? A few settings, compared with the parent on the newest matured window before the gate's.

Rule: the best of k settings pays when its mean gain in log loss over the parent is above 0 by a one-sided t limit over
days, at level 1 - 0.05 / k (k settings share the chance of a false gain).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate.evaluate.days import paired
from tidegate.train.families import Setting
from tidegate.train.splits import Mask, Times

LEAST_ROWS = 1000
"""Rows newer than the parent, and rows in the validation window, below which nothing is tried."""
DAY = 86_400.0


@dataclass(frozen=True)
class Trial:
    """One setting on the validation window; `gain` is the parent's log loss minus its own, with a lower limit."""

    setting: Setting
    log_loss: float
    gain: float
    gain_lower: float


@dataclass(frozen=True)
class Search:
    """What was found: the best setting (None when none could be tried), whether it pays, and the reason in words."""

    best: Setting | None
    pays: bool
    reason: str
    parent_log_loss: float | None = None
    trials: tuple[Trial, ...] = ()


def training_rows(times: Times, inside: Mask, parent_until: float, replay: float, seed: int) -> Mask:
    """Rows of the part `inside` newer than the parent's, and a seeded share `replay` of the older ones."""
    older = np.flatnonzero(inside & (times <= parent_until))
    chosen = np.random.default_rng(seed).choice(older, size=round(replay * len(older)), replace=False)
    mask = inside & (times > parent_until)
    mask[chosen] = True
    return mask


def compare(
    settings: Sequence[Setting],
    losses_of: Callable[[Setting], NDArray[np.float64]],
    parent_losses: NDArray[np.float64],
    times: Times,
) -> Search:
    """Try each setting; `losses_of(setting)` and `parent_losses` are row losses on the validation window."""
    days = np.floor(times / DAY).astype(np.int64)
    level = 1 - 0.05 / len(settings)
    trials = tuple(_trial(setting, losses_of(setting), parent_losses, days, level) for setting in settings)
    best = min(trials, key=lambda trial: trial.log_loss)
    before, pays = float(parent_losses.mean()), best.gain_lower > 0
    words = "beats the parent" if pays else "no stateful setting beat the parent"
    reason = (
        f"{words}: best {best.log_loss:.5f} vs {before:.5f}, gain {best.gain:+.5f}, lower limit {best.gain_lower:+.5f}"
    )
    return Search(best.setting, pays, reason, before, trials)


def _trial(
    setting: Setting, losses: NDArray[np.float64], parent: NDArray[np.float64], days: NDArray[np.int64], level: float
) -> Trial:
    _, index = np.unique(days, return_inverse=True)
    rows = np.bincount(index)
    gain = paired(np.bincount(index, parent - losses).tolist(), rows.tolist(), level)
    return Trial(setting, float(losses.mean()), gain.estimate, gain.lower)
