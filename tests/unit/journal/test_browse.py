"""A long journal in parts: the same events as reading all of it, in the order that was asked for."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from tidegate.journal import browse
from tidegate.journal.browse import LOOKS, Asked
from tidegate.journal.events import Draft
from tidegate.journal.fold import fold
from tidegate.journal.store import open_journal


@pytest.fixture
def two(tmp_path):
    """Events of two models, whose times are out of step."""
    journal = open_journal(tmp_path, create=True)
    kinds = ["serve.traffic", "release.looked", "trigger.evaluated", "release.stage"]
    for model, step in (("a", 10.0), ("b", 7.0)):
        drafts = [Draft(kinds[i % 4], step * i, {"i": i}) for i in range(40)]
        journal.append(model, drafts, 0)
    return journal


def everything(journal):
    return [event for model in journal.models() for event in journal.read(model)]


def paged(journal, asked, limit):
    found, before = [], None
    while page := browse.page(journal, asked, before, limit):
        found += page
        before = (page[-1].time, page[-1].model, page[-1].seq)
    return found


@pytest.mark.parametrize(
    "asked",
    [
        Asked(looks=True),
        Asked(),
        Asked(kind="release", looks=True),
        Asked(kind="release.st"),
        Asked(since=50.0, until=200.0),
        Asked(model="a", looks=True),
        Asked(model="b", kind="trigger", since=30.0, looks=True),
        Asked(model="c"),
    ],
)
def test_pages_put_together_are_what_was_asked_for(two, asked):
    expected = [
        event
        for event in everything(two)
        if (not asked.model or event.model == asked.model)
        and event.kind.startswith(asked.kind)
        and (asked.looks or event.kind not in LOOKS)
        and (asked.since is None or event.time >= asked.since)
        and (asked.until is None or event.time <= asked.until)
    ]
    expected.sort(key=lambda event: (event.time, event.model, event.seq), reverse=True)
    assert paged(two, asked, 7) == expected


def test_of_one_model_the_order_is_the_one_of_writing(tmp_path):
    journal = open_journal(tmp_path, create=True)
    journal.append("m", [Draft("x", time, {}) for time in (5.0, 3.0, 9.0)], 0)
    assert [event.seq for event in browse.page(journal, Asked(model="m"), None, 5)] == [3, 2, 1]


@pytest.mark.parametrize("time", [-1.0, 0.0, 1.0, 34.0, 70.0, 390.0, 1e9])
def test_the_last_event_by_a_time_is_the_one_before_the_first_later_one(two, time):
    told = [event for event in two.read("a") if event.time <= time]
    assert browse.last_by(two, "a", time) == len(told)


def test_what_changed_folds_to_the_state_but_for_what_looks_tell(lived):
    whole = fold(lived.journal.read("quick"))
    some = fold(browse.turning(lived.journal, "quick"))
    runs = {name: replace(run, told=False, mode="") for name, run in whole.runs.items()}
    assert {name: replace(run, told=False) for name, run in some.runs.items()} == runs
    same = replace(some, runs=whole.runs, looks=whole.looks, finding=whole.finding)
    assert same == whole


def test_it_is_few_events_of_many(lived):
    assert len(browse.turning(lived.journal, "quick")) < len(lived.journal.read("quick")) / 2


def test_a_past_state_is_what_was_told_then(lived):
    events = lived.journal.read("quick")
    for upto in range(1, len(events), 17):
        whole = fold(events[:upto])
        some = fold(browse.turning(lived.journal, "quick", upto=upto))
        told = ("champion", "release", "traffic", "waiting", "quarantined", "trigger", "seq", "time")
        assert {name: getattr(some, name) for name in told} == {name: getattr(whole, name) for name in told}


def test_heads_are_each_models_newest_number(two):
    assert two.heads() == {"a": 40, "b": 40}


def test_a_journal_from_before_the_indexes_gets_them(tmp_path, two):
    two.close()
    with sqlite3.connect(tmp_path / "journal.db") as file:
        for name in ("events_by_kind", "events_by_time"):
            file.execute(f"DROP INDEX {name}")
    again = open_journal(tmp_path)
    assert len(paged(again, Asked(), 50)) == 40
    with sqlite3.connect(tmp_path / "journal.db") as file:
        found = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    assert found >= {"events_by_kind", "events_by_time"}


@pytest.mark.parametrize(
    ("asked", "index"),
    [(Asked(), "events_by_time"), (Asked(model="a", kind="release"), "events_by_kind")],
)
def test_a_page_is_found_in_an_index_alone(tmp_path, two, asked, index, monkeypatch):
    seen = []
    rows = type(two).rows
    monkeypatch.setattr(type(two), "rows", lambda self, query: seen.append(query) or rows(self, query))
    browse.page(two, asked, None, 10)
    sql = str(seen[0].compile(two._engine, compile_kwargs={"literal_binds": True}))
    with sqlite3.connect(tmp_path / "journal.db") as file:
        plan = " ".join(row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {sql}"))
    assert f"COVERING INDEX {index}" in plan
