"""Labels only where the model acted: what the diagnosis says, and the loss over all rows with and without exploration.

A drawn stream: the model acts on the rows whose score is below `ACTS`, as a lender grants where default is unlikely.
On those it is calibrated; elsewhere the truth is not what it says, and nobody would ever see it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.results import Budget, Result
from tidegate.monitor.clusters import Floats
from tidegate.monitor.diagnose import diagnose
from tidegate.monitor.drift import Window
from tidegate.monitor.exploration import Whole, loss_of_all
from tidegate.monitor.performance import log_losses

SEEDS, DAYS, ROWS = 100, 28, 20_000
ACTS, SHARE = 0.4, 0.05
LEAST = 92


@dataclass(frozen=True)
class Life:
    """One seed: names without and with exploration, the loss over all rows, over the labelled ones, estimated."""

    name: str
    explored_name: str
    true: float
    labelled: float
    estimate: Whole

    @property
    def held(self) -> bool:
        """Whether the interval holds the true loss."""
        return self.estimate.lower <= self.true <= self.estimate.upper


def run() -> Result:
    """A hundred seeds, some ten seconds."""
    lives = [_live(seed) for seed in range(SEEDS)]
    held = sum(life.held for life in lives)
    named = sum(life.name == "selective_labels" for life in lives)
    explored = sum(life.explored_name == "selective_labels" for life in lives)
    true, labelled, estimate = (
        np.array(values)
        for values in zip(*((life.true, life.labelled, life.estimate.value) for life in lives), strict=True)
    )
    width = float(np.mean([life.estimate.upper - life.estimate.lower for life in lives]))
    rows = [
        ("all rows (nobody sees it)", f"{true.mean():.4f}", "", ""),
        ("labelled rows, no exploration", f"{labelled.mean():.4f}", f"{(labelled - true).mean():+.4f}", "none"),
        (
            f"explored {SHARE:.0%}, weighted",
            f"{estimate.mean():.4f}",
            f"{(estimate - true).mean():+.4f}",
            f"{width:.4f}",
        ),
    ]
    budgets = [
        Budget("named selective_labels without exploration", f"{SEEDS} of {SEEDS}", str(named), named == SEEDS),
        Budget(
            "95 % intervals that hold the loss over all rows", f"at least {LEAST} of {SEEDS}", str(held), held >= LEAST
        ),
    ]
    notes = (
        f"{ROWS} rows over {DAYS} days; acted on below a score of {ACTS}; {SEEDS} seeds; log loss",
        f"with {SHARE:.0%} explored the diagnosis still says selective_labels in {explored} of {SEEDS}",
    )
    figures = {"held": held, "named": named, "bias": float((labelled - true).mean()), "width": width}
    columns = ("loss of", "mean", "bias", "mean width of the interval")
    return Result("feedback_bias", "Labels only where the model acted", columns, rows, budgets, notes, figures)


def _live(seed: int) -> Life:
    reference, _ = _rows((seed, 0), drifted=False)
    current, draw = _rows((seed, 1), drifted=True)
    loss = np.asarray(log_losses(current.score, current.label), np.float64)
    acted = current.score < ACTS
    propensity = np.where(acted, 1.0, SHARE)
    seen = draw < propensity
    return Life(
        diagnose(reference, _hidden(current, acted)).finding,
        diagnose(reference, _hidden(current, seen)).finding,
        float(loss.mean()),
        float(loss[acted].mean()),
        loss_of_all(np.where(seen, loss, np.nan), propensity),
    )


def _rows(seed: tuple[int, int], drifted: bool) -> tuple[Window, Floats]:
    """Rows with every label, and a number from 0 to 1 for each that says whether it would be explored."""
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=(2, ROWS))
    score = 1 / (1 + np.exp(-(x + 0.5 * y)))
    truth = np.where(score >= ACTS, 0.5 * score, score) if drifted else score
    label = (draw.random(ROWS) < truth).astype(np.float64)
    day = np.sort(draw.integers(0, DAYS, ROWS))
    return Window({"x": x, "y": y}, score, label, day), draw.random(ROWS)


def _hidden(window: Window, seen: np.ndarray) -> Window:
    return Window(window.features, window.score, np.where(seen, window.label, np.nan), window.day)
