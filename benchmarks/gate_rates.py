"""Error rates of the model gate, all its checks together, in drawn worlds (tests/gate_worlds.py)."""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from benchmarks.results import ROOT, Budget, Result, say
from tidegate.evaluate.gate import GateVerdict

sys.path.insert(0, str(ROOT / "tests"))
import gate_worlds as worlds

COLUMNS = ("candidate", "seen", "refused", "checks that refuse most often")
SHOWN = 4
SEEDS = 5
"""Candidates of one A/A world."""


def run(times: int = 200, planted: int = 50) -> Result:
    """Count refusals: `times` of what must pass, `planted` of what must not."""
    rows, budgets, figures = [], [], {}
    for name, draws, count, least, most in cases(times, planted):
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
            found = list(pool.map(draws, range(count)))
        refused = sum(verdict.verdict == "refused" for verdict in found) / len(found)
        named = Counter(check for verdict in found for check in verdict.failed)
        reasons = ", ".join(f"{check} {n}" for check, n in named.most_common(SHOWN)) or "none"
        say(f"gate_rates: {name}: refused {refused:.1%} of {len(found)} ({reasons})")
        rows.append((name, str(len(found)), f"{refused:.1%}", reasons))
        limit = f"refused in at most {most:.0%}" if most < 1 else f"refused in at least {least:.0%}"
        budgets.append(Budget(name, limit, f"{refused:.1%} of {len(found)}", least <= refused <= most))
        figures[name] = {"refused": refused, "runs": len(found)}
    note = f"the slice that was made worse is region={worlds.SLICE}, the group that was moved is 1"
    return Result("gate_rates", "error rates of the model gate", COLUMNS, rows, budgets, (note,), figures)


def cases(times: int, planted: int) -> Iterator[tuple[str, Callable[[int], GateVerdict], int, float, float]]:
    """(name, seed -> verdict, how often, least and most share of refusals)."""
    yield "A/A: other seeds, same data", equal, times, 0.0, 0.05
    yield "0.01 worse on 20,000 rows", worse, planted, 0.9, 1.0
    yield "0.05 worse on one slice of 500 rows", worse_slice, planted, 0.8, 1.0
    yield "one group's log-odds moved by 0.5", unfair, planted, 0.9, 1.0
    yield "a season forgotten by training on", partial(trained_on, shares=(0.0,)), planted, 0.9, 1.0
    yield "the same with the default replay of 20 %", partial(trained_on, shares=(0.2,)), planted, 0.0, 0.05
    yield "the same, chosen from all settings", partial(trained_on, shares=(0.0, 0.2)), planted, 0.0, 0.05
    yield "a benign sequence", benign, times, 0.0, 0.05


def equal(number: int) -> GateVerdict:
    """Two models of other seeds on the same rows."""
    world = worlds.draw(number // SEEDS)
    champion, candidate = (worlds.scores(world, worlds.fit(world, seed)) for seed in (0, 1 + number % SEEDS))
    return worlds.decide(world, candidate, champion)


def worse(number: int) -> GateVerdict:
    """A model whose training labels were flipped until it is 0.01 worse."""
    world = worlds.draw(number)
    everywhere = np.ones(len(world.labels), bool)
    return worlds.decide(world, worlds.worse(world, 1, 0.01, everywhere), worlds.scores(world, worlds.fit(world, 0)))


def worse_slice(number: int) -> GateVerdict:
    """The same, flipped on one slice of about 500 rows of the gate weeks until it is 0.05 worse there."""
    world = worlds.draw(number)
    candidate = worlds.worse(world, 1, 0.05, world.region == worlds.SLICE)
    return worlds.decide(world, candidate, worlds.scores(world, worlds.fit(world, 0)))


def unfair(number: int) -> GateVerdict:
    """The champion with one group's scores shifted."""
    world = worlds.draw(number)
    champion = worlds.scores(world, worlds.fit(world, 0))
    return worlds.decide(world, worlds.shifted(world, champion, 1, 0.5), champion)


def benign(number: int) -> GateVerdict:
    """A model trained on from its parent, or anew where that does not pay, in a world that stays the same."""
    world = worlds.draw(2000 + number, train_days=42, later="same")
    return worlds.decide(world, *worlds.sequence(world, number, (0.0, 0.2), auto=True))


def trained_on(number: int, shares: tuple[float, ...]) -> GateVerdict:
    """A model trained on from its parent into another season, with the settings of these replay shares only."""
    world = worlds.draw(1000 + number, train_days=42, later="turned")
    return worlds.decide(world, *worlds.sequence(world, number, shares, auto=False))
