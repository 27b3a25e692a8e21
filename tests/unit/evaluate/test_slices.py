"""Slices: large ones by their own rows, small ones shrunk, all of them sharing the 5 %."""

import math

import numpy as np
import pytest

from tidegate.evaluate.days import paired, shared
from tidegate.evaluate.slices import shrunk, slice_checks


def drawn(rng, rows, mean=0.0, spread=0.3, days=14, alike=0.0):
    """Rows of a slice by day, and their summed differences; `alike` is the deviation of a day."""
    counts = rng.multinomial(rows, [1 / days] * days)
    found = [rng.normal(mean + alike * rng.normal(), spread, n) for n in counts]
    squares = float(sum((day**2).sum() for day in found))
    return {"rows": counts.tolist(), "sums": [float(day.sum()) for day in found], "squares": squares}


def pooled(*slices):
    return {key: np.sum([one[key] for one in slices], 0).tolist() for key in ("rows", "sums")}


def test_a_large_slice_speaks_for_itself():
    rng = np.random.default_rng(1)
    found = {"origin": {"a": drawn(rng, 5000, 0.03), "b": drawn(rng, 900)}}
    checks, a = slice_checks(found, pooled(*found["origin"].values()), 0.002), found["origin"]["a"]
    assert checks["origin=a"].estimate == sum(a["sums"]) / 5000
    assert checks["origin=a"].estimate - checks["origin=a"].lower == pytest.approx(2.06 * 0.3 / 5000**0.5, rel=0.5)


def test_without_squares_a_large_slice_has_the_limits_of_its_days():
    days = drawn(np.random.default_rng(1), 5000, 0.03)
    del days["squares"]
    check, own = slice_checks({"o": {"a": days}}, days, 0.0)["o=a"], paired(days["sums"], days["rows"], shared(1))
    assert (check.estimate, check.lower, check.upper) == (own.estimate, own.lower, own.upper)


def test_a_slice_of_500_rows_that_is_worse_is_mostly_proved_so():
    """By 0.05 among fourteen others, at the spread that flipped labels have (0.29 a row), moved by chance."""
    rng, refused = np.random.default_rng(6), 0
    for _ in range(200):
        values = {
            "bad": drawn(rng, 500, 0.05, 0.29),
            **{str(n): drawn(rng, n) for n in np.geomspace(20, 6000, 14, dtype=int)},
        }
        check = slice_checks({"region": values}, pooled(*values.values()), 0.002)["region=bad"]
        refused += check.lower > check.margin
    assert refused / 200 >= 0.7


def test_a_small_slice_is_drawn_to_all_rows_and_less_so_the_more_rows_it_has():
    """Against the posterior written out: B = t^2 / (t^2 + v)."""
    rng = np.random.default_rng(2)
    values = {str(n): drawn(rng, n, mean) for n, mean in ((30, 0.4), (120, 0.4), (4000, 0.0), (3000, -0.1))}
    overall = paired(*pooled(*values.values()).values().__reversed__(), 0.95)
    spread = sum(_squares(d) for d in values.values()) / sum(sum(d["rows"]) for d in values.values())
    means = {name: sum(d["sums"]) / sum(d["rows"]) - overall.estimate for name, d in values.items()}
    weights = {name: sum(d["rows"]) / spread for name, d in values.items()}
    truly = (sum(weights[n] * means[n] ** 2 for n in values) - len(values)) / sum(weights.values())
    found, believed = shrunk(values, overall, 0.95), {n: truly / (truly + 1 / weights[n]) for n in values}
    for name in values:
        assert found[name].estimate == pytest.approx(overall.estimate + believed[name] * means[name])
    assert 0 < believed["30"] < believed["120"] < believed["4000"] < 1


def _squares(days):
    mean, count = sum(days["sums"]) / sum(days["rows"]), len(days["rows"])
    return count / (count - 1) * sum((s - n * mean) ** 2 for s, n in zip(days["sums"], days["rows"], strict=True))


@pytest.mark.parametrize(("mean", "refused"), [(0.1, False), (3.0, True)])
def test_few_rows_refuse_only_when_they_are_terrible(mean, refused):
    rng = np.random.default_rng(3)
    values = {"small": drawn(rng, 60, mean), **{str(n): drawn(rng, 2000) for n in range(6)}}
    check = slice_checks({"region": values}, pooled(*values.values()), 0.002)["region=small"]
    assert (check.lower > check.margin) is refused


@pytest.mark.parametrize("alike", [0.0, 0.05, 0.3])
def test_equal_models_are_refused_by_any_slice_in_at_most_one_case_of_twenty(alike):
    """At a margin of 0, where the level is used up: 24 slices of 20 to 6,000 rows."""
    rng, sizes, refused, times = np.random.default_rng(4), np.geomspace(20, 6000, 12).astype(int), 0, 400
    for _ in range(times):
        found = {name: {str(n): drawn(rng, n, alike=alike) for n in sizes} for name in ("origin", "carrier")}
        checks = slice_checks(found, pooled(*found["origin"].values(), *found["carrier"].values()), 0.0)
        refused += any(check.lower > 0 for check in checks.values())
    assert refused / times < 0.05 + 2 * math.sqrt(0.05 * 0.95 / times)
