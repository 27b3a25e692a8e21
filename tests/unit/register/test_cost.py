"""Costs by step, run and version against a naive sum over everything that was recorded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.journal.events import GENESIS, Draft, seal
from tidegate.register import cost

STEPS = ("ingest", "train", "register")
figures = st.fixed_dictionaries(
    {"seconds": st.floats(0, 1e3), "cpu_seconds": st.floats(0, 1e3), "peak_mib": st.floats(0, 1e4),
     "bytes_in": st.integers(0, 10**12), "bytes_out": st.integers(0, 10**12)}
)  # fmt: skip
runs = st.lists(
    st.tuples(
        st.sampled_from(["register.candidate", "register.unchanged", "evaluate.refused", ""]),
        st.sampled_from(["v1", "v2"]),
        st.dictionaries(st.sampled_from(STEPS), figures),
        st.dictionaries(st.sampled_from(STEPS), figures),
    ),
    max_size=6,
)


def history(found):
    """A trigger.started a run, and how it ended where it did."""
    drafts = []
    for number, (kind, version, told, _) in enumerate(found):
        drafts.append(Draft("trigger.started", 0.0, {"run": f"r{number}"}))
        data = {"run": f"r{number}", "cost": told, **({"version": version} if kind.startswith("register") else {})}
        drafts += [Draft(kind, 0.0, data)] if kind else []
    return [seal(draft, "m", seq, 0.0, GENESIS) for seq, draft in enumerate(drafts, 1)]


@given(runs)
def test_every_figure_is_counted_once_in_each_of_the_tables(found):
    disk = {f"r{number}": kept for number, (*_, kept) in enumerate(found) if kept}
    table = cost.table(history(found), disk)
    every = [
        (f"r{number}", kind, version, step, one)
        for number, (kind, version, told, kept) in enumerate(found)
        for step, one in {**(told if kind else {}), **kept}.items()
    ]

    def naive(chosen):
        sums = {name: sum(one[name] for *_, one in chosen) for name in cost.ADDED}
        return {**sums, "peak_mib": max([one["peak_mib"] for *_, one in chosen], default=0.0)}

    assert table["total"] == pytest.approx(naive(every))
    assert set(table["runs"]) == {f"r{number}" for number in range(len(found))}
    for run, got in table["runs"].items():
        assert got == pytest.approx(naive([one for one in every if one[0] == run]))
    assert set(table["steps"]) == {one[3] for one in every}
    for step, got in table["steps"].items():
        assert got == pytest.approx(naive([one for one in every if one[3] == step]))
    for version, got in table["versions"].items():
        mine = [one for one in every if one[1].startswith("register") and one[2] == version]
        assert got == pytest.approx(naive(mine))


def test_costs_that_an_older_run_did_not_record_count_as_nothing():
    assert cost.total([{"cpu_seconds": 2.0}, {"cpu_seconds": 1.5, "peak_mib": 9.0}]) == {
        "seconds": 0, "cpu_seconds": 3.5, "bytes_in": 0, "bytes_out": 0, "peak_mib": 9.0,
    }  # fmt: skip


def test_a_total_in_words():
    told = cost.line({"cpu_seconds": 1.26, "peak_mib": 99.6, "bytes_in": 1_500_000, "bytes_out": 40_000})
    assert told == "1.3 CPU-seconds, peak 100 MiB, 1.5 MB in, 0.0 MB out"
