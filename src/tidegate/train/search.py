"""Which candidate: families and settings, compared on the newest matured window before the gate's.

Rule: every family's default is fitted on all rows before the validation window; the run's trials are shared out evenly
among the families. Optuna proposes a trial's setting (TPE, seeded) and it is fitted on the newest quarter, half and all
of those rows, pruned after a step where it is behind the median. The lowest mean log loss wins. Intervals are 95 %,
with days as clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tidegate.evaluate.days import paired
from tidegate.train import families
from tidegate.train.families import PREPARED, Family, Range, Setting

if TYPE_CHECKING:
    from optuna.trial import Trial

SHARES = (0.25, 0.5, 1.0)
"""What of the rows, newest first, a trial is fitted on, step by step."""
UNPRUNED = 3
"""Trials of a family that run whole before one is pruned."""
DRAWN = 5
"""Trials of a family that are drawn evenly before those that went well lead to the next."""

Option = tuple[Family, Setting]


@dataclass(frozen=True)
class Measured:
    """A setting's row losses on the validation window [V], CPU seconds of its fit, bytes of its export."""

    losses: NDArray[np.float64]
    seconds: float
    size: int


Measure = Callable[[Option, float], Measured]
"""(family and setting, share of the rows) -> what came of it."""


@dataclass(frozen=True)
class Entry:
    """A line of the table. `behind` is the mean loss over the winner's, paired by row; None of a pruned one."""

    family: str
    setting: Mapping[str, Any]
    log_loss: float
    lower: float
    upper: float
    seconds: float
    size: int
    share: float
    behind: float | None = None
    behind_lower: float | None = None
    behind_upper: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Choice:
    """The winner, and why; the table has the winner first, then by loss, pruned ones last."""

    option: Option
    reason: str
    table: tuple[Entry, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As data for training.json."""
        return {"reason": self.reason, "table": [asdict(entry) for entry in self.table]}


@dataclass(frozen=True)
class Tried:
    """An option and what came of it on a `share` of the rows; `seconds` are those of all its steps."""

    option: Option
    measured: Measured
    seconds: float
    share: float = 1.0


def choose(
    defaults: Sequence[Option],
    measure: Measure,
    days: NDArray[np.int64],
    trials: int,
    seed: int,
) -> Choice:
    """Try the defaults and `trials` proposals, and name the winner; `days` [V] of the validation rows."""
    tried = []
    for place, option in enumerate(defaults):
        first = measure(option, 1.0)
        tried.append(Tried(option, first, first.seconds))
        mine = trials // len(defaults) + (place < trials % len(defaults))
        tried += searched(partial(_proposed, option[0]), measure, mine, seed) if mine else []
    return _decide(tried, days)


def searched(propose: Callable[[Trial], Option], measure: Measure, trials: int, seed: int) -> Iterator[Tried]:
    """Try what `propose` draws, `trials` times; the ones that are behind end with a share below 1."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(n_startup_trials=DRAWN, seed=seed)
    study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.MedianPruner(UNPRUNED, 0))
    for _ in range(trials):
        trial = study.ask()
        tried, pruned = _steps(propose(trial), measure, trial)
        study.tell(trial, *((None, optuna.trial.TrialState.PRUNED) if pruned else (_mean(tried),)))
        yield tried


def _steps(option: Option, measure: Measure, trial: Trial) -> tuple[Tried, bool]:
    """Fit on more and more of the rows, until done or pruned."""
    spent = 0.0
    for step, share in enumerate(SHARES):
        found = measure(option, share)
        spent += found.seconds
        tried = Tried(option, found, spent, share)
        trial.report(_mean(tried), step)
        if share < 1 and trial.should_prune():
            return tried, True
    return tried, False


def _proposed(base: Family, trial: Trial) -> Option:
    return families.at(base, {found.name: drawn(found, trial) for found in base.space})


def drawn(asked: Range, trial: Trial) -> float:
    """A value of one searched parameter."""
    if asked.whole:
        return trial.suggest_int(asked.name, int(asked.low), int(asked.high), log=asked.log)
    return trial.suggest_float(asked.name, asked.low, asked.high, log=asked.log)


def _decide(tried: Sequence[Tried], days: NDArray[np.int64]) -> Choice:
    whole = [one for one in tried if one.share == 1]
    order = sorted(whole, key=_mean) + sorted((one for one in tried if one.share < 1), key=_mean)
    best = order[0]
    table = tuple(_entry(one, best, days) for one in order)
    others = [entry for entry in table[1:] if entry.family != table[0].family and entry.share == 1]
    words = f"lowest log loss of {len(order)} tried, {len(order) - len(whole)} of them pruned: {table[0].log_loss:.5f}"
    rival = others[0] if others else next((entry for entry in table[1:] if entry.share == 1), None)
    if rival:
        words += (
            f"; the best {rival.family}{'' if others else ' but this'} is {rival.behind:+.5f} behind"
            f" ({rival.behind_lower:+.5f} to {rival.behind_upper:+.5f})"
        )
    return Choice(best.option, words, (replace(table[0], reason=f"chosen: {words}"), *table[1:]))


def _entry(one: Tried, best: Tried, days: NDArray[np.int64]) -> Entry:
    own = _interval(one.measured.losses, days)
    setting = {**PREPARED, **families.hints_of(*one.option)}
    about = (one.option[0].name, setting, *own, one.seconds, one.measured.size, one.share)
    if one.share < 1:
        return Entry(*about, reason=f"pruned after {one.share:.0%} of the rows")
    behind = _interval(one.measured.losses - best.measured.losses, days)
    proved = "proved worse" if behind[1] > 0 else "not proved worse, but not better"
    return Entry(*about, *behind, reason=f"{proved}: {behind[0]:+.5f}")


def _interval(losses: NDArray[np.float64], days: NDArray[np.int64]) -> tuple[float, float, float]:
    _, index = np.unique(days, return_inverse=True)
    found = paired(np.bincount(index, losses).tolist(), np.bincount(index).tolist(), 0.975)
    return found.estimate, found.lower, found.upper


def _mean(one: Tried) -> float:
    return float(one.measured.losses.mean())
