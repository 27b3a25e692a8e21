"""A result's three forms, and the command line."""

import json
import sys
from types import SimpleNamespace

import pytest

from benchmarks import results
from benchmarks.__main__ import main
from benchmarks.core import label_join, looks
from benchmarks.join import times, told
from benchmarks.results import Budget, Result, write

RESULT = Result(
    "tiny", "a title", ("what", "s"), [("one", "1.0"), ("twenty", "20.0")], [Budget("it", "1 s", "2 s", False)], ["so"]
)


def test_the_text_has_columns_of_one_width_and_says_what_is_not_met():
    lines = RESULT.to_text().splitlines()
    assert lines[2:5] == ["what       s", "one      1.0", "twenty  20.0"]
    assert lines[6:] == ["NOT MET: it: 2 s (budget: 1 s)", "so"]


def test_a_page_names_commit_machine_and_date(tmp_path):
    page = write(RESULT, tmp_path).read_text()
    assert [line.split(":")[0] for line in page.splitlines()[2:6]] == ["- commit", "- date", "- machine", "- system"]
    assert "| twenty | 20.0 |" in page


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr("benchmarks.__main__.NAMES", ("tiny",))
    monkeypatch.setitem(sys.modules, "benchmarks.tiny", SimpleNamespace(run=lambda: RESULT))


@pytest.mark.usefixtures("tiny")
def test_json_is_one_document_and_a_missed_budget_is_exit_status_1(capsys):
    assert main(["--json"]) == 1
    told_ = json.loads(capsys.readouterr().out)
    assert told_["results"][0]["bench"] == "tiny"
    assert "commit" in told_["machine"]


@pytest.mark.usefixtures("tiny")
def test_nothing_is_written_without_write(monkeypatch):
    monkeypatch.setattr("benchmarks.__main__.write", lambda result: pytest.fail("written"))
    main([])


def test_an_unknown_name_is_wrong_use(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["nothing"])
    assert ended.value.code == 2
    assert "loop, join, serving, small" in capsys.readouterr().err


def side(seconds, sums=None):
    return {"opened": 1.0, "seconds": seconds, "frames": [2.0, 4.0], "peak": 3 * 2**20, "sums": sums or {}}


def test_the_first_join_of_a_process_is_cold_and_the_others_warm():
    spent = times([side([3.0, 1.0, 1.2]), side([5.0, 1.1, 0.9])])
    assert spent == {"opened": 1.0, "cold": 4.0, "warm": 1.05, "frame": 3.0, "peak": 3.0}


def test_the_budgets_are_those_of_the_largest_size():
    sizes = {
        rows: {"polars": [side([0.2, 0.1])], "asof": [side([0.3, 0.15])], "duckdb": [side([9.0, seconds])]}
        for rows, seconds in ((1_000, 1.0), (100_000, 15.0))
    }
    result = told(sizes)
    assert [budget.got for budget in result.budgets] == ["1.50x", "1.50x", "100x"]
    assert len(result.rows) == 6


def test_a_size_that_duckdb_did_not_finish_is_told():
    sides = {"polars": [side([0.2, 0.1])], "asof": [side([0.3, 0.15])]}
    result = told({1_000: {**sides, "duckdb": [side([9.0, 15.0])]}, 327_000: {**sides, "duckdb": []}})
    assert any("duckdb at 327,000 rows: stopped" in note for note in result.notes)
    assert [budget.what for budget in result.budgets][2:] == ["warm join of 1,000 rows against Feast's duckdb store"]


def test_sides_that_answer_differently_are_not_compared():
    wrong = {"polars": [side([1.0, 1.0], {"a": [0, 1.0]})], "asof": [side([1.0, 1.0], {"a": [0, 2.0]})], "duckdb": []}
    with pytest.raises(SystemExit, match="differ"):
        told({1_000: wrong})


def test_the_core_is_measured_look_by_look_and_batch_by_batch():
    assert len(looks(200, 3)) == 3
    assert len(label_join(100, 2)) == 2


def test_the_page_goes_to_docs_results_by_default():
    assert results.write.__defaults__ == (results.ROOT / "docs/results",)
