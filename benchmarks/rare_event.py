"""A day on which everything is different, announced in the calendar: who serves, and what the day costs.

A drawn stream of 100,000 requests a day; from midnight to midnight P(y|x) is another one. The controller, the journal,
the observation store, triggers, releases and the judge are the real ones, in event time. A run takes no event time: it
fits a logistic regression on the rows that its settings name, as the controller handed them over, and asks the model
gate. Runs outside the event fit on all rows before them and do not ask it. Beside it the same controller without the
calendar, and a model of another such day that is switched on and off to the second.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Budget, Result, say
from tests.simulated_loop import START, World, answers, candidate, digest_of, quick
from tidegate.evaluate.gate import Policy, gate
from tidegate.evaluate.step import cluster_of
from tidegate.journal.events import Draft
from tidegate.monitor.clusters import DAY, Floats
from tidegate.monitor.performance import log_losses
from tidegate.observations import Prediction
from tidegate.spec import Model
from tidegate.train.settings import RunSettings, parse_settings, parse_until
from tidegate.train.step import parts_of

SEEDS = (7, 11, 13, 17, 19)
HOUR, STEP, PER_DAY = 3600.0, 600.0, 100_000
SINCE, ONSET, OVER, UNTIL = START - 6 * HOUR, START, START + DAY, START + DAY + 6 * HOUR
USUAL, RARE = np.array([1.0, -0.7, 0.4, 0.0]), np.array([-0.5, 0.8, 0.4, 1.0])
BODY = 10_000
EVENT = {
    "name": "rare", "from": "2013-07-01", "to": "2013-07-01", "cron": "0 1-23 * * *", "gateWindow": "10m",
    "release": {
        "minDuration": "20m", "watch": "30m", "labelDeadline": "10m",
        "stages": [{"canary": {"weights": ["50%"], "requests": 500}}],
    },
}  # fmt: skip
RELEASE = {
    "minDuration": "7d", "block": None, "watch": "7d", "labelDeadline": "1h", "deadline": "20d",
    "stages": [{"shadow": {"requests": 5000}}, {"canary": {"weights": ["20%", "50%"], "requests": 5000}}],
    "judge": {"loss": {"metric": "brier", "margin": 0.01}, "errors": {"margin": "2%"}},
}  # fmt: skip


@dataclass(frozen=True)
class Day:
    """One seed. hours: from the onset until a model of the day answers everything, and from the end until the old one
    does; mean log losses of the day; versions that were promoted.
    """

    seed: int
    hours: float
    back: float
    loop: float
    without: float
    perfect: float
    promoted: int
    refused: int


def run() -> Result:
    """Five seeds, two lives each; about two minutes."""
    days = [_day(seed) for seed in SEEDS]
    rows = [
        (
            str(day.seed), f"{day.hours:.2f}", f"{day.back:.2f}", str(day.promoted), f"{day.loop:.4f}",
            f"{day.without:.4f}", f"{day.perfect:.4f}",
        )
        for day in days
    ]  # fmt: skip
    late, back = max(day.hours for day in days), max(day.back for day in days)
    budgets = [
        Budget("hours until a model of the day serves, the most of five", "at most 2", f"{late:.2f}", late <= 2),
        Budget("hours after the day until the old one serves", "at most 2", f"{back:.2f}", back <= 2),
    ]
    notes = (
        f"{PER_DAY} requests a day, labels after 1 to 9 minutes; log loss in nats over the announced day",
        "gate refused " + ", ".join(f"{day.refused} (seed {day.seed})" for day in days),
        "runs take no event time: what is measured is the calendar, the gate, the release and the way back",
    )
    figures = {f"seed {day.seed}": asdict(day) for day in days}
    columns = ("seed", "h to the day's model", "h back", "promoted", "with calendar", "without", "perfect switch")
    return Result("rare_event", "An announced day that is different", columns, rows, budgets, notes, figures)


def _day(seed: int) -> Day:
    with tempfile.TemporaryDirectory(prefix="tidegate-rare-") as made:
        known = _play(Life(Path(made) / "with", _model(EVENT), seed=seed))
        blind = _play(Life(Path(made) / "without", _model(), seed=seed))
    state = known.state
    first = next((one.since for one in state.history if one.version in known.of_day), np.inf)
    back = state.champion.since if state.champion and state.champion.version == "v1" else np.inf
    today = (known.time >= ONSET) & (known.time < OVER)
    perfect = fitted(*drawn(np.random.default_rng((seed, 2)), PER_DAY, RARE))
    ideal = score(perfect, known.x[today])
    promoted = sum(one.version in known.of_day for one in state.history)
    day = Day(
        seed, (first - ONSET) / HOUR, (back - OVER) / HOUR, known.loss(today), blind.loss(today),
        float(np.mean(log_losses(ideal, known.label[today]))), promoted, known.refused,
    )  # fmt: skip
    say(f"rare_event: seed {seed}: {day.hours:.2f} h, {day.loop:.4f}, {day.without:.4f}, {day.perfect:.4f}")
    return day


def _model(*events: dict[str, Any]) -> Model:
    schedule = {"cron": "0 4 * * *", "events": list(events)}
    triggers = {"schedule": schedule, "cooldown": "0s", "budget": {"runsPerDay": 48}}
    return quick(triggers=triggers, release=RELEASE)


def drawn(draw: np.random.Generator, rows: int, weights: Floats) -> tuple[Floats, Floats]:
    """Features [N, 4] and labels [N] of a world."""
    x = draw.normal(size=(rows, 4))
    return x, (draw.random(rows) < score(np.append(weights, 0.0), x)).astype(np.float64)


def score(model: Floats, x: Floats) -> Floats:
    """Probabilities [N] of a logistic model: its weights and, last, its intercept."""
    return np.asarray(1 / (1 + np.exp(-(x @ model[:-1] + model[-1]))), np.float64)


def fitted(x: Floats, label: Floats) -> Floats:
    """A logistic regression by scikit-learn's defaults."""
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression().fit(x, label)
    return np.append(found.coef_[0], found.intercept_[0])


class Life(World):
    """One controller's life from six hours before the day to six hours after it; rows are drawn before."""

    def __post_init__(self) -> None:
        super().__post_init__()
        draw = np.random.default_rng((self.seed, 0))
        rows = round(PER_DAY * (UNTIL - SINCE) / DAY)
        self.time = np.sort(draw.uniform(SINCE, UNTIL, rows))
        self.x, usual = drawn(draw, rows, USUAL)
        today = (self.time >= ONSET) & (self.time < OVER)
        rare = draw.random(rows) < score(np.append(RARE, 0.0), self.x)
        self.label = np.where(today, rare, usual).astype(np.float64)
        self.told, self.draw = self.time + draw.uniform(60, 540, rows), draw.random(rows)
        self.served, self.models, self.now = np.full(rows, np.nan), dict[str, Floats](), SINCE
        self._order, self._delivered, self.of_day = np.argsort(self.told), 0, set[str]()
        self.refused = 0

    def loss(self, rows: Any) -> float:
        """Mean log loss of what users got."""
        return float(np.mean(log_losses(self.served[rows], self.label[rows])))

    def step(self) -> None:
        """Ten minutes: runs end, requests are answered, labels come, the controller turns."""
        self._end_runs()
        self._traffic()
        self.now += STEP
        self._settle()

    def _register(self, version: str, run: str) -> None:
        """A run's end: a candidate, or the gate's refusal."""
        told = candidate(version, run)
        if run in self.orchestrator.submitted:
            arguments = self.orchestrator.submitted[run]
            told.update(self._trained(version, parse_until(arguments["until"]), parse_settings(arguments["settings"])))
        refused = told["gate"]["verdict"] != "passed"
        self.refused += refused
        self._write(Draft("evaluate.refused" if refused else "register.candidate", self.now, told))

    def _trained(self, version: str, until: float, wanted: RunSettings) -> dict[str, Any]:
        if wanted.recent is None:
            rows = self.told <= until
            self.models[version] = fitted(self.x[rows], self.label[rows])
            return {}
        parts = parts_of(until, wanted)
        rows = parts.train.known(self.time, self.told, parts.gate.after)
        self.models[version] = fitted(self.x[rows], self.label[rows])
        self.of_day.add(version)
        return {"gate": self._asked(version, parts.gate.mask(self.time), wanted)}

    def _asked(self, version: str, rows: Any, wanted: RunSettings) -> dict[str, Any]:
        """The model gate on the gate window's rows, as `tidegate.evaluate.step` asks it."""
        assert self.state.champion is not None
        new, old = (
            log_losses(score(self.models[name], self.x[rows]), self.label[rows])
            for name in (version, self.state.champion.version)
        )
        cluster = np.floor(self.time[rows] / cluster_of(wanted.gate_window.total_seconds())).astype(np.int64)
        _, place = np.unique(cluster, return_inverse=True)
        days = {"rows": np.bincount(place).tolist(), "sums": np.bincount(place, new - old).tolist()}
        measured = {"compared_with": "champion", "reference_distance": 0.0, "days": days, "slices": {}}
        policy = Policy(wanted.gate.metric, wanted.gate.margin)
        return {"policy": asdict(policy), "measurements": measured, **asdict(gate(policy, measured))}

    def _traffic(self) -> None:
        seen = self.target.observe()
        first, last = np.searchsorted(self.time, (self.now, self.now + STEP))
        scores = {version: score(model, self.x[first:last]) for version, model in self.models.items()}
        for row in range(first, last):
            for arm, share, by in answers(seen, self.draw[row]):
                value = float(scores[by][row - first])
                if arm == by:
                    self.served[row] = value
                self.writer.append(
                    Prediction(
                        f"q{row}/0", float(self.time[row]), 0.0, by, digest_of(by), arm, share,
                        seen.release or None, value, False, 5.0, [],
                    )
                )  # fmt: skip
        self.writer.flush()

    def _deliver(self) -> None:
        until = int(np.searchsorted(self.told[self._order], self.now, side="right"))
        due = list(self._labels(self._delivered, until))
        for at in range(0, len(due), BODY):
            self.feed.take_labels(json.dumps({"labels": due[at : at + BODY]}).encode())
        self._delivered = until

    def _labels(self, first: int, last: int) -> Iterator[dict[str, Any]]:
        for row in self._order[first:last]:
            label = {"request_id": f"q{row}", "value": float(self.label[row]), "outcome": "observed"}
            yield {**label, "time": float(self.told[row])}


def _play(life: Life) -> Life:
    life.models["v1"] = fitted(*drawn(np.random.default_rng((life.seed, 1)), PER_DAY, USUAL))
    life.start()
    life.hand_in("v1")
    life._settle()
    while life.now < UNTIL:
        life.step()
    return life
