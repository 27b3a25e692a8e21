"""Many models: pages of them, those not read yet said, each with its own folder."""

from __future__ import annotations

import time

import pytest

from tests.simulated_loop import candidate, digest_of
from tidegate.console import pages, reader
from tidegate.console.reader import MOST_LOOKS, Reader, _spread
from tidegate.console.routes import folders_below
from tidegate.console.summary import slim, summarize
from tidegate.errors import UserError
from tidegate.journal import browse
from tidegate.journal.events import Draft
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.store import open_journal

MANY, ROWS = 60, 25


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Sixty models with a champion; the last by name is degraded."""
    monkeypatch.setattr(reader, "FRESH", 0.0)
    journal = open_journal(tmp_path, create=True)
    for number in range(MANY):
        name, version = f"m{number:02d}", f"v{number}"
        served = {"version": version, "digest": digest_of(version), "reason": "first_version"}
        drafts = [Draft("register.candidate", 1.0, candidate(version)), Draft("release.first", 1.0, served)]
        journal.append(name, drafts, 0)
    worse = {
        "version": f"v{MANY - 1}",
        "digest": digest_of(f"v{MANY - 1}"),
        "to": None,
        "reason": "degraded",
        "look": {},
    }
    journal.append(f"m{MANY - 1}", [Draft("release.degraded", 2.0, worse)], 2)
    return tmp_path


def everything_read(found: Reader) -> None:
    ends = time.monotonic() + 30
    while found.overview("", "", 0, ROWS)[2]:
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_before_all_are_read_they_stand_by_name_and_it_is_said(many, monkeypatch):
    monkeypatch.setattr(reader, "PATIENCE", 60.0)
    found = Reader(many)
    monkeypatch.setattr(found, "_bring_up_behind", lambda names: None)
    lines, count, unread = found.overview("", "", 0, ROWS)
    assert [one.model for one in lines] == [f"m{i:02d}" for i in range(ROWS)]
    assert (count, unread, {one.health for one in lines}) == (MANY, MANY, {"well"})


def test_what_cannot_be_read_at_once_is_said_and_read_behind(many, monkeypatch):
    monkeypatch.setattr(reader, "PATIENCE", -1.0)
    found = Reader(many)
    with monkeypatch.context() as patched:
        patched.setattr(found, "_bring_up_behind", lambda names: None)
        lines, _, _ = found.overview("", "", 0, ROWS)
    assert {one.health for one in lines} == {"unread"}
    everything_read(found)
    assert "unread" not in {one.health for one in found.overview("", "", 0, ROWS)[0]}


def test_once_read_those_that_need_a_person_come_first_on_pages(many):
    found = Reader(many)
    everything_read(found)
    pages = [[one.model for one in found.overview("", "", first, ROWS)[0]] for first in range(0, MANY, ROWS)]
    assert pages[0][0] == "m59"
    assert sorted(name for page in pages for name in page) == [f"m{i:02d}" for i in range(MANY)]
    assert [len(page) for page in pages] == [25, 25, 10]
    assert [one.model for one in found.overview("", "wrong", 0, ROWS)[0]] == ["m59"]
    assert [one.model for one in found.overview("m3 v37", "", 0, ROWS)[0]] == ["m37"]


def test_a_line_follows_its_journal(many):
    found = Reader(many)
    everything_read(found)
    good = {"version": "v59", "digest": digest_of("v59"), "reason": "recovered", "look": {}}
    open_journal(many).append("m59", [Draft("release.recovered", 3.0, good)], 3)
    lines, _, _ = found.overview("m59", "", 0, ROWS)
    assert [(one.seq, one.health) for one in lines] == [(4, "well")]


def test_a_past_moment_of_all_is_paged_too(many):
    found = Reader(many)
    shown = pages.at(found, "", 1.5, 3)
    assert [line["one"].model for line in shown["lines"]] == [f"m{i}" for i in range(50, 60)]
    assert {(line["one"].health, line["said"].kind) for line in shown["lines"]} == {("well", "release.first")}
    assert {line["one"].health for line in pages.at(found, "", 0.5, 3)["lines"]} == {"new"}


def test_heads_are_asked_for_seldom(many, monkeypatch):
    monkeypatch.setattr(reader, "FRESH", 60.0)
    found, asked = Reader(many), []
    heads = type(found.journal).heads
    monkeypatch.setattr(type(found.journal), "heads", lambda self: asked.append(1) or heads(self))
    for _ in range(10):
        found.heads()
    assert len(asked) == 1


def test_a_models_files_are_in_the_folder_of_its_name_where_there_is_one(tmp_path):
    (tmp_path / "own").mkdir()
    where = folders_below(tmp_path)
    assert (where("own"), where("other")) == (tmp_path / "own", tmp_path)


def test_a_model_that_is_not_there_is_refused(many):
    with pytest.raises(UserError, match="model: got 'none'"):
        Reader(many).state("none")


@pytest.mark.parametrize("count", [0, 1, MOST_LOOKS, MOST_LOOKS + 1, 100_000])
def test_of_many_looks_some_are_read_the_first_and_the_last_among_them(count):
    found = _spread(range(count), MOST_LOOKS)
    assert len(found) == min(count, MOST_LOOKS)
    assert len(set(found)) == len(found)
    assert not found or (found[0], found[-1]) == (0, count - 1)


def test_going_on_from_what_was_kept_is_as_reading_all(lived):
    journal, found = lived.journal, Reader(lived.folder)
    state = ModelState(model="quick")
    for event in journal.read("quick"):
        try:
            state = slim(fold([event], state))
        except KeyError:
            state = slim(fold(journal.read("quick")[: event.seq], ModelState(model="quick")))
        if event.seq % 9 == 0:
            whole = summarize(fold(browse.turning(journal, "quick", upto=event.seq), ModelState(model="quick")))
            assert summarize(state) == whole
    assert found.every() == [summarize(state)]
