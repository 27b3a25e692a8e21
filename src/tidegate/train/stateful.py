"""Does training on pay? Settings, compared with the parent on the newest matured window before the gate's.

Rule: a setting whose mean log loss on rows that the parent knew is over the parent's by more than the gate lets it
forget is left out. The best of the others pays when its mean gain over the parent is above 0 by a one-sided t limit
over days, at level 1 - 0.05 / k (k settings tried share the chance of a false gain; Optuna's depend on each other, so
that for these it is a rule of thumb, and the gate proves on rows that nobody has looked at).
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
    """One setting on the validation window; `gain` is the parent's log loss minus its own, with a lower limit.

    `forgets`: its mean log loss minus the parent's on rows that the parent knew; None where there are none.
    """

    setting: Setting
    log_loss: float
    gain: float
    gain_lower: float
    forgets: float | None = None


@dataclass(frozen=True)
class Search:
    """What was found: the best setting (None when none could be tried), whether it pays, and the reason in words.

    `pruned`: trials that ended before they were fitted on all rows.
    """

    best: Setting | None
    pays: bool
    reason: str
    parent_log_loss: float | None = None
    trials: tuple[Trial, ...] = ()
    pruned: int = 0


def training_rows(times: Times, inside: Mask, parent_until: float, replay: float, seed: int) -> Mask:
    """Rows of the part `inside` newer than the parent's, and a seeded share `replay` of the older ones."""
    older = np.flatnonzero(inside & (times <= parent_until))
    chosen = np.random.default_rng(seed).choice(older, size=round(replay * len(older)), replace=False)
    mask = inside & (times > parent_until)
    mask[chosen] = True
    return mask


def weights(times: Times, parent_until: float, replay: float) -> NDArray[np.float64] | None:
    """Of rows that `training_rows` chose: a replayed row stands for 1 / `replay` earlier ones; None where all weigh 1.

    The fit then loses on the past as much as it would with all earlier rows in it, and costs a share of that.
    """
    if replay in (0.0, 1.0) or not np.isfinite(parent_until):
        return None
    return np.where(times > parent_until, 1.0, 1.0 / replay)


def compare(
    settings: Sequence[Setting],
    told: Callable[[Setting], tuple[NDArray[np.float64], float | None]],
    parent_losses: NDArray[np.float64],
    times: Times,
    most: float | None = None,
    pruned: int = 0,
) -> Search:
    """Try each setting; `told(setting)` are its row losses on the validation window and what it forgets.

    `parent_losses` are the parent's, `times` those of the window; `most`: how much may be forgotten, None for any.
    """
    days = np.floor(times / DAY).astype(np.int64)
    level = 1 - 0.05 / (len(settings) + pruned)
    trials = tuple(_trial(setting, *told(setting), parent_losses, days, level) for setting in settings)
    keeps = [trial for trial in trials if most is None or trial.forgets is None or trial.forgets <= most]
    best, before = min(keeps or trials, key=lambda trial: trial.log_loss), float(parent_losses.mean())
    pays = bool(keeps) and best.gain_lower > 0
    words = "beats the parent" if pays else "no stateful setting beat the parent"
    if not keeps:
        least = min(trial.forgets or 0.0 for trial in trials)
        words = f"every stateful setting forgets, the least {least:+.5f} on the parent's rows, at most {most:g}"
    reason = (
        f"{words}: best {best.log_loss:.5f} vs {before:.5f}, gain {best.gain:+.5f}, lower limit {best.gain_lower:+.5f}"
    )
    if pruned or len(keeps or trials) < len(trials):
        reason += f"; {len(trials)} settings tried, {pruned} more pruned, {len(trials) - len(keeps)} forget too much"
    return Search(best.setting, pays, reason, before, trials, pruned)


def _trial(
    setting: Setting,
    losses: NDArray[np.float64],
    forgets: float | None,
    parent: NDArray[np.float64],
    days: NDArray[np.int64],
    level: float,
) -> Trial:
    _, index = np.unique(days, return_inverse=True)
    rows = np.bincount(index)
    gain = paired(np.bincount(index, parent - losses).tolist(), rows.tolist(), level)
    return Trial(setting, float(losses.mean()), gain.estimate, gain.lower, forgets)
