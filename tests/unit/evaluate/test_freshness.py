"""Windows and cadences: the plan, the comparison on planted streams, what is said of data and model, the cache."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import freshness_streams as streams
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import UserError
from tidegate.evaluate import backtest
from tidegate.evaluate.backtest import play
from tidegate.evaluate.card import to_html
from tidegate.evaluate.freshness import Family, Played, Scored, Skipped, answer, paces, timeline
from tidegate.evaluate.freshness_grid import ALL, CADENCES, DAY, NEVER, Cell, Length, cadences_of, chosen, windows_of
from tidegate.evaluate.freshness_page import Asked, document, sections, text

START = 1_700_000_000.0
MONTHLY = Length("monthly", 28 * DAY)


def grid(days, windows=None, cadences=None):
    asked = windows and windows_of(windows), cadences and cadences_of(cadences)
    return chosen(START, START + days * DAY, DAY, *asked)


def names(lengths):
    return [length.name for length in lengths]


def test_the_grid_is_chosen_by_the_span():
    year = grid(365)
    assert (names(year.windows), names(year.cadences)) == (
        ["28d", "90d", "all"],
        ["never", "quarterly", "monthly", "weekly"],
    )
    assert (year.until - year.first) / DAY == 168
    assert names(grid(730).windows) == ["28d", "90d", "180d", "all"]
    short = grid(60)
    assert (names(short.windows), names(short.cadences)) == (["all"], ["never", "weekly"])
    assert (short.until - short.first) / DAY == 28


def test_what_a_person_asks_for_stands_before_and_is_refused_in_one_line():
    asked = grid(365, "all,14d", "3d,monthly")
    assert (names(asked.windows), names(asked.cadences)) == (["14d", "all"], ["never", "monthly", "3d"])
    for windows, cadences, thing in (
        ("90", None, "--windows: got '90'"),
        ("0.5d", None, "--windows: got '0.5d'"),
        (None, "yearly", "--cadences: got 'yearly'"),
        (None, "168d", "--cadences: got '168d'"),
        (None, ",", "--cadences: got ','"),
    ):
        with pytest.raises(UserError, match=thing):
            grid(365, windows, cadences)
    with pytest.raises(UserError, match="at least 28 days"):
        grid(27)


def test_what_is_scored_may_start_when_a_person_says():
    found = chosen(START, START + 365 * DAY, DAY, None, None, START + 31 * DAY)
    assert (found.first, names(found.windows)) == (START + 31 * DAY, ["all"])
    assert len(found.cuts(MONTHLY)) == math.ceil(334 / 28)
    for days in (-1, 0, 352, 400):
        with pytest.raises(UserError, match=r"--since: got '.*', takes a time from 2023-11-14 to 2024-10-30"):
            chosen(START, START + 365 * DAY, DAY, None, None, START + days * DAY)


@given(st.integers(28, 1500), st.floats(0, 1), st.sampled_from([None, "never,2d", "weekly,10d"]))
def test_every_scored_row_has_one_model_of_each_cadence_and_none_that_saw_it(days, share, cadences):
    found = grid(days, None, cadences if days > 60 else None)
    time = found.first + (found.until - found.first) * max(share, 1e-6)
    for cadence in found.cadences:
        cuts = found.cuts(cadence)
        assert [cuts[0][0], cuts[-1][1]] == [found.first, found.until]
        ((cut, after),) = [(cut, after) for cut, after in cuts if cut < time <= after]
        parts = found.parts(Length("28d", 28 * DAY), cut, after, 7 * DAY)
        assert parts.train.until == pytest.approx(cut - found.deadline)
        assert parts.train.until - parts.train.after == pytest.approx(28 * DAY)
        assert parts.fit.until == pytest.approx(parts.validation.after - found.deadline)
        assert found.scored_until(cut) >= after


@given(st.integers(112, 1500))
def test_a_rarer_cadences_models_are_among_those_of_a_denser_one(days):
    found = grid(days)
    cuts = {cadence.name: {cut for cut, _ in found.cuts(cadence)} for cadence in found.cadences}
    order = [name for name in CADENCES if name in cuts]
    assert all(cuts[rare] <= cuts[dense] for rare, dense in pairwise(order))
    assert cuts["never"] <= cuts["weekly"]


def scored(values, cell, cpu):
    return Scored(cell, values, cpu, 1, 1000)


def played(seed, cells=(), families=(), days=60, per_day=100):
    """Cells and families as (noise on the true log-odds, CPU-seconds), the stale one with noise 1."""
    rng = np.random.default_rng(seed)
    n = days * per_day
    odds = rng.normal(size=n)
    labels = (rng.uniform(size=n) < 1 / (1 + np.exp(-odds))).astype(float)
    times = START + np.arange(n) * DAY / per_day

    def noisy(noise):
        return 1 / (1 + np.exp(-(odds + noise * rng.normal(size=n))))

    found = [scored(noisy(1.0), Cell(ALL, NEVER, "stateless"), 1.0)]
    found += [
        scored(noisy(noise), Cell(Length(f"{i}d", i), MONTHLY, "stateless"), cpu)
        for i, (noise, cpu) in enumerate(cells)
    ]
    others = tuple(Family(f"f{i}", noisy(noise), 1.0) for i, noise in enumerate(families))
    return Played(times, labels, tuple(found), others)


@pytest.mark.parametrize("metric", ["log_loss", "brier", "roc_auc"])
def test_a_gain_is_more_of_what_is_better(metric):
    found = answer(played(1, [(0.2, 5.0), (2.0, 1.0)]), metric, 0.002)
    better, worse = found.lines[1], found.lines[2]
    assert 0 < better.gain.lower < better.gain.estimate < better.gain.upper
    assert worse.gain.upper < 0
    assert better.auc_gain.estimate > 0 > worse.auc_gain.estimate
    assert (found.best, found.recommended) == (1, 1)
    assert "no other cell is as good" in found.reason


def test_the_cheapest_cell_that_is_not_proved_worse_is_recommended():
    found = answer(played(2, [(0.3, 50.0), (0.31, 2.0), (0.8, 0.5)]), "log_loss", 0.002)
    assert [line.kept for line in found.lines] == [False, True, True, False]
    assert found.recommended == 2
    assert found.lines[3].behind.lower > 0 >= found.lines[2].behind.lower


def test_the_truly_best_cell_is_among_those_that_are_kept_in_nineteen_of_twenty():
    """Eight cells that are equally good: the recommendation is the cheapest of them but for chance."""
    kept = [answer(played(seed, [(1.0, 2.0)] * 7, days=30), "log_loss", 0.002).lines[0].kept for seed in range(60)]
    assert sum(kept) >= 54


@pytest.mark.parametrize(
    ("cells", "families", "verdict", "more"),
    [
        ([0.3], [1.0], "data", None),
        ([1.0], [0.3], "model", None),
        ([0.3], [0.3], "both", None),
        ([0.2], [0.7], "both", "data"),
        ([0.7], [0.2], "both", "model"),
        ([1.0], [1.0], "neither", None),
        ([], [], "neither", None),
    ],
)
def test_data_or_model(cells, families, verdict, more):
    found = answer(played(3, [(noise, 2.0) for noise in cells], families), "log_loss", 0.002).iteration
    assert (found.verdict, found.pays_more) == (verdict, more)
    assert found.reason


def test_a_gain_under_the_margin_pays_nothing_however_sure_it_is():
    rows = played(4, [(0.9, 2.0)], per_day=2000)
    gain = answer(rows, "log_loss", 0.002).lines[1].gain
    assert gain.lower > 0
    assert answer(rows, "log_loss", gain.estimate * 1.01).iteration.verdict == "neither"
    assert answer(rows, "log_loss", gain.estimate * 0.99).iteration.verdict == "data"


def test_the_timeline_holds_every_row_once_and_its_periods_are_months_or_weeks():
    months, weeks = played(5, [(0.5, 1.0)], days=120), played(5, [(0.5, 1.0)], days=40)
    for rows, pattern in ((months, "2023-11"), (weeks, "2023-11-13")):
        found = timeline(rows, (0, 1), "log_loss")
        assert sum(period.rows for period in found) == len(rows.times)
        assert found[0].name == pattern
        assert all(len(period.values) == 2 for period in found)
    assert paces(months, Length("0d", 0)) == (0, 1)
    few = timeline(played(5, days=20), (0,), "log_loss")  # the fourth week would have 92 rows
    assert [(period.name, period.rows) for period in few] == [
        ("2023-11-13", 508),
        ("2023-11-20", 700),
        ("2023-11-27", 792),
    ]


@pytest.mark.parametrize(("kind", "seed"), [("drift", 100), ("drift", 101), ("seasons", 100)])
def test_the_planted_window_and_cadence_are_recommended(kind, seed):
    rows, found = streams.recovered(kind, seed)
    cell = rows.cells[found.recommended].cell
    assert (cell.window.name, cell.cadence.name) == streams.BEST[kind]


@pytest.mark.parametrize("seed", [100, 101, 102])
@pytest.mark.parametrize("verdict", streams.PAYS)
def test_planted_cases_say_whether_data_or_model_pays(verdict, seed):
    assert streams.iterated(verdict, seed).iteration.verdict == verdict


def small(rows, **more):
    return play(
        streams.bench_of(rows, others=True, **more),
        streams.grid_of(rows, "28d,all", "monthly"),
        ("stateless", "stateful"),
    )


def test_a_cells_scores_are_those_of_models_fitted_by_hand():
    """The naive twin: each model fitted on rows picked by plain comparisons, each row scored by its own."""
    rows = streams.stream("data", 5)
    bench, asked = streams.bench_of(rows), streams.grid_of(rows, "28d,all", "monthly")
    found = play(bench, asked, ("stateless",))
    (one,) = [one for one in found.cells if one.cell == Cell(Length("28d", 28 * DAY), MONTHLY, "stateless")]
    from tidegate.train.estimators import estimator

    naive = np.full(len(rows.times), np.nan)
    for number in range(3):
        cut = rows.times[-1] - 84 * DAY + number * 28 * DAY
        learned = (rows.times > cut - 29 * DAY) & (rows.times <= cut - DAY) & (rows.label_times <= cut)
        model = estimator(*bench.option, bench.schema, 7).fit(rows.encoded[learned], rows.labels[learned])
        ahead = (rows.times > cut) & (rows.times <= cut + 28 * DAY)
        naive[ahead] = model.predict_proba(rows.encoded[ahead])[:, 1]
    assert np.array_equal(one.scores, naive[~np.isnan(naive)])
    assert one.fits == 3


def test_training_on_is_played_as_a_chain_and_refused_with_the_familys_reason():
    rows = streams.stream("data", 6)
    found = small(rows)
    cells = {one.cell.name: one for one in found.cells}
    assert {"28d, monthly, stateful", "all, monthly, stateful"} <= set(cells)
    assert not np.array_equal(cells["all, monthly, stateful"].scores, cells["all, monthly, stateless"].scores)
    other = play(
        streams.bench_of(rows, "hist_gradient_boosting"), streams.grid_of(rows, "all", "monthly"), ("stateful",)
    )
    assert [one.why for one in other.skipped] == ["HistGradientBoosting: its trees are valid on the same data only"]


def test_a_window_with_too_few_rows_is_named_and_the_rest_is_played():
    rows = streams.stream("data", 7)
    found = play(streams.bench_of(rows), streams.grid_of(rows, "2d,all", "monthly"), ("stateless",))
    assert {one.cell.window.name for one in found.skipped} == {"2d"}
    assert all("1000 are needed" in one.why for one in found.skipped)
    with pytest.raises(UserError, match="1000 labelled rows before the first cut"):
        play(streams.bench_of(rows), streams.grid_of(rows, "2d", "monthly"), ("stateless",))


def test_a_backtest_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    rows = streams.stream("data", 8)
    whole = small(rows)
    fitted, fit = [], backtest.fit

    def stopping(job):
        if len(fitted) == 4:
            raise KeyboardInterrupt
        fitted.append(job)
        return fit(job)

    monkeypatch.setattr(backtest, "fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        small(rows, cache=tmp_path, digest="d")
    monkeypatch.setattr(backtest, "fit", lambda job: fitted.append(job) or fit(job))
    again = small(rows, cache=tmp_path, digest="d")
    total = len(fitted)
    for found in (again, small(rows, cache=tmp_path, digest="d")):
        assert all(np.array_equal(a.scores, b.scores) for a, b in zip(found.cells, whole.cells, strict=True))
        assert all(np.array_equal(a.scores, b.scores) for a, b in zip(found.families, whole.families, strict=True))
    assert len(fitted) == total == sum(1 for _ in tmp_path.iterdir())
    torn = next(path for path in tmp_path.iterdir())
    (torn / "scores.npy").write_bytes(b"torn")
    assert np.array_equal(small(rows, cache=tmp_path, digest="d").cells[0].scores, whole.cells[0].scores)
    assert len(fitted) == total + 1
    small(rows, cache=tmp_path, digest="other rows")
    assert len(fitted) == 2 * total + 1


def test_progress_counts_up_to_all_models():
    rows, told = streams.stream("data", 9), []
    bench = streams.bench_of(rows, others=True)
    play(bench, streams.grid_of(rows, "28d,all", "monthly"), ("stateless", "stateful"), lambda *now: told.append(now))
    total = told[-1][1]
    assert told == [(number, total) for number in range(1, total + 1)]


def test_a_label_that_came_after_its_deadline_is_not_learned_from():
    rows = streams.stream("neither", 10)
    late = replace(rows, label_times=np.full(len(rows.times), math.inf))
    with pytest.raises(UserError, match="0 rows to train on at one cut"):
        play(streams.bench_of(late), streams.grid_of(late, "all", "monthly"), ("stateless",))


def test_the_report_says_the_same_in_all_its_forms():
    rows = played(6, [(0.3, 5.0), (0.5, 2.0)], [0.7], days=100)
    rows = replace(rows, skipped=(Skipped(Cell(Length("2d", 2), MONTHLY, "stateless"), "too few"),))
    asked = Asked("m", "w:w", "2024-02-22T00:00:00Z", "lightgbm", "log_loss", 0.002)
    found = document(asked, grid(200), rows, answer(rows, "log_loss", 0.002))
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, allow_nan=False))
    assert found["recommendation"]["window"] == "0d"
    assert found["iteration"]["data"]["shared_lower"] < found["cells"][1]["gain"]["estimate"]
    assert [period["name"] for period in found["timeline"]["periods"]] == ["2023-11", "2023-12", "2024-01", "2024-02"]
    printed, page = text(found), to_html(sections(found))
    gain = f"{found['cells'][1]['gain']['estimate']:+.4f}"
    for told in (printed, page):
        for word in (gain, "2023-12", "too few", "f0", found["recommendation"]["reason"], found["iteration"]["reason"]):
            assert word in told
    assert page.count("<svg") == 3
