"""Interleaving beside A/B: wrong verdicts in A/A, and the sessions until a worse ranking is aborted.

The stated user: ten items, attractiveness Beta(1, 6) times an activity 1.5 x Beta(2, 2) of the user's own; looks at
place k with probability k^-bias (bias 1, or .3: nearly flat) and clicks by attractiveness. A ranker sorts by the true
log-odds / 1.5 plus N(0, sigma): the larger sigma, the worse. Coins, credits, folding and verdicts are production code;
the draft itself is an array twin of it, compared with it on every run's first sessions.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Budget, Result, say
from tidegate.release.evidence import Counts, Stats
from tidegate.release.interleave import coins, credit, team_draft
from tidegate.release.judge import Judgement, judge
from tidegate.release.policy import INTERLEAVE, SPLIT, JudgePolicy, Metric
from tidegate.release.sums import fold_difference, fold_mean

SEED, ITEMS = 51, 10
LOOK = 100
A_A_RUNS, A_A_SESSIONS = 1000, 20_000
INTERLEAVED, SPLIT_RUNS, MOST = 200, 40, 1_000_000
PAIRS = ((0.9, 0.6, 1.0), (1.2, 0.4, 1.0), (0.9, 0.6, 0.3))
"""(sigma of the worse ranker, of the better one, bias)."""
CREDIT = JudgePolicy(0.05, (Metric("credit", 0.01, INTERLEAVE, True),), (INTERLEAVE,), 0.0)
LOSS = JudgePolicy(0.05, (Metric("loss", 0.01, SPLIT, True),), (SPLIT,), 0.0)
Array = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Users:
    """A stream of sessions; `sigma` of champion and challenger."""

    sigma: tuple[float, float]
    bias: float = 1.0

    def come(self, rng: np.random.Generator, size: int) -> tuple[Array, tuple[Places, Places]]:
        """(attractiveness of each item, both models' lists: item numbers from the top)."""
        attract = rng.beta(1, 6, (size, ITEMS)) * (1.5 * rng.beta(2, 2, size))[:, None]
        attract = np.clip(attract, 1e-6, 0.999)
        truth = np.log(attract / (1 - attract)) / 1.5
        champion, challenger = (np.argsort(-(truth + s * rng.standard_normal(truth.shape)), 1) for s in self.sigma)
        return attract, (champion, challenger)

    def clicks(self, rng: np.random.Generator, attract: Array, order: Places) -> Array:
        """1 where the item at a place was clicked."""
        looked = np.arange(1, ITEMS + 1, dtype=np.float64) ** -self.bias
        return (rng.random(order.shape) < looked * np.take_along_axis(attract, order, 1)).astype(np.float64)


def draft(lists: tuple[Places, Places], starts: Places) -> tuple[Places, Places]:
    """`team_draft` of many sessions at once: (items, owners) by place."""
    size = len(starts)
    ranks = tuple(np.argsort(one, 1) for one in lists)
    taken = np.zeros((size, ITEMS), dtype=np.int64)
    order, owner = np.empty((size, ITEMS), dtype=np.int64), np.empty((size, ITEMS), dtype=np.int64)
    for place in range(ITEMS):
        owner[:, place] = starts[:, place // 2] ^ (place % 2)
        left = np.where(owner[:, place, None] == 0, ranks[0], ranks[1]) + 100 * taken
        order[:, place] = left.argmin(1)
        np.put_along_axis(taken, order[:, place, None], 1, 1)
    return order, owner


def credits(users: Users, rng: np.random.Generator, size: int, name: str) -> Array:
    """The credit of each of `size` sessions; the first ones are mixed and credited by production code too."""
    attract, lists = users.come(rng, size)
    starts = np.array([coins(f"{name}/{number}", ITEMS // 2) for number in range(size)], dtype=np.int64)
    order, owner = draft(lists, starts)
    clicked = users.clicks(rng, attract, order)
    found = np.sign((clicked * (2 * owner - 1)).sum(1))
    for number in range(5):
        mixed = team_draft(lists[0][number].tolist(), lists[1][number].tolist(), f"{name}/{number}")
        assert (list(mixed.order), list(mixed.owner)) == (order[number].tolist(), owner[number].tolist())
        places = [str(place) for place in range(ITEMS)]
        pairs = (dict(zip(places, row[number].tolist(), strict=True)) for row in (owner, clicked))
        assert credit(*pairs) == found[number]
    return np.asarray(found, dtype=np.float64)


def look(policy: JudgePolicy, stats: Stats) -> Judgement:
    """The production judge at the policy's one place."""
    return judge(policy, stats, now=0.0, opened=0.0, place=policy.places[0])


def interleaved(users: Users, seed: tuple[int, ...], most: int, stop: bool = True) -> Iterator[tuple[int, str, float]]:
    """(sessions, verdict, z of the mean credit) at each look; ends at a verdict where `stop`, else at `most`."""
    rng, stats, name = np.random.default_rng(seed), Stats(), "-".join(map(str, seed))
    chunk = min(most, 2000)
    for begin in range(0, most, chunk):
        given = -credits(users, rng, chunk, f"{name}-{begin}")
        for part in np.split(given, chunk // LOOK):
            state = fold_mean(stats.state("credit"), part)
            stats = Stats({"credit": state}, {}, Counts(matured=state.n))
            verdict = look(CREDIT, stats).verdict
            yield state.n, verdict, state.S / max(1.0, state.V) ** 0.5
            if stop and verdict != "hold":
                return


def split(users: Users, seed: tuple[int, ...], most: int) -> int:
    """Sessions of a 50/50 A/B test until the challenger is aborted; the loss is a session without a click."""
    rng, stats, chunk = np.random.default_rng(seed), Stats(), 1000
    for _ in range(0, most, chunk):
        attract, lists = users.come(rng, chunk)
        a = rng.integers(0, 2, chunk)
        order = np.where(a[:, None] == 0, *lists)
        lost = (users.clicks(rng, attract, order).sum(1) == 0).astype(np.float64)
        state, *_ = fold_difference(stats.state("loss"), lost, a.astype(np.float64), np.full(chunk, 0.5))
        stats = Stats({"loss": state}, {}, Counts(matured=state.n))
        if look(LOSS, stats).verdict == "abort":
            return state.n
    return most


def a_a(bias: float) -> tuple[int, int]:
    """Of A/A runs: those with any look that aborts; those where a z-test at 1.96 rejects from the second look on."""
    wrong = naive = 0
    for run_number in range(A_A_RUNS):
        looks = list(interleaved(Users((0.9, 0.9), bias), (SEED, run_number), A_A_SESSIONS, stop=False))
        wrong += any(verdict == "abort" for _, verdict, _ in looks)
        naive += any(abs(z) > 1.96 for _, _, z in looks[1:])
        if run_number % 100 == 99:
            say(f"interleave: A/A, bias {bias:g}, {run_number + 1} runs, {wrong} wrong, z {naive}")
    return wrong, naive


def verdicts(users: Users, seed: int) -> list[tuple[int, str]]:
    """(sessions, verdict) at the end of each interleaved run."""
    ends = [list(interleaved(users, (seed, run_number), MOST))[-1] for run_number in range(INTERLEAVED)]
    return [(sessions, verdict) for sessions, verdict, _ in ends]


def beside(number: int, worse: float, better: float, bias: float) -> tuple[list[str], dict[str, object], Budget]:
    """One line of the table: a worse challenger aborted, a better one promoted, the A/B test beside it."""
    say(f"interleave: sigma {worse:g} against {better:g}, bias {bias:g}")
    aborted = verdicts(Users((better, worse), bias), SEED + 10 * number)
    promoted = verdicts(Users((worse, better), bias), SEED + 10 * number + 1)
    tested = [split(Users((better, worse), bias), (SEED + 10 * number + 2, n), MOST) for n in range(SPLIT_RUNS)]
    sessions = [statistics.median(n for n, _ in one) for one in (aborted, promoted)]
    ab = statistics.median(tested)
    wrong = sum(v != "abort" for _, v in aborted) + sum(v != "promote" for _, v in promoted)
    what = f"sigma {worse:g} against {better:g}, bias {bias:g}"
    line = [what, f"{sessions[0]:,.0f}", f"{sessions[1]:,.0f}", f"{ab:,.0f}", f"{ab / sessions[0]:.1f}", f"{wrong}"]
    figures = {"pair": [worse, better, bias], "aborted": aborted, "promoted": promoted, "split": tested}
    budget = Budget(
        f"wrong verdicts, {what}", f"at most 5 % of {2 * INTERLEAVED}", str(wrong), wrong <= INTERLEAVED / 10
    )
    return line, figures, budget


def run() -> Result:
    """A/A under both biases, then three pairs of rankers."""
    rows, budgets, figures = [], [], {}
    for bias in (1.0, 0.3):
        wrong, naive = a_a(bias)
        figures[f"a_a_{bias:g}"] = {"wrong": wrong, "z": naive, "runs": A_A_RUNS}
        budgets.append(Budget(f"A/A wrong, bias {bias:g}", f"34 of {A_A_RUNS}", str(wrong), wrong <= 34))
        rows.append([f"A/A, bias {bias:g}: {wrong} of {A_A_RUNS} aborted, z-test {naive}", "", "", "", "", str(wrong)])
    for number, pair in enumerate(PAIRS):
        line, found, budget = beside(number, *pair)
        rows.append(line)
        budgets.append(budget)
        figures[f"pair_{number}"] = found
    notes = (
        f"A/A: {A_A_RUNS} runs of {A_A_SESSIONS:,} sessions, a look every {LOOK}, two rankers of sigma 0.9 with noise "
        "of their own; wrong: aborted at any look. z-test: two-sided 1.96 at any look from the second.",
        f"Medians of {INTERLEAVED} interleaved runs and {SPLIT_RUNS} A/B runs (looks of 1,000), alpha .05, credit "
        f"margin 0.01, no block check; seeds from {SEED}. The ratio depends on the user model.",
    )
    columns = ("rankers", "worse aborted", "better promoted", "A/B: worse aborted", "A/B / interleaving", "wrong")
    return Result("interleave", "sessions until a verdict, and wrong verdicts", columns, rows, budgets, notes, figures)
