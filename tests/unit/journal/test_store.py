"""The journal keeps what it got, in order, once, and says where it was changed."""

from __future__ import annotations

import multiprocessing
import sqlite3

import pytest

from tidegate.errors import Conflict, TamperedJournal, UserError
from tidegate.journal.events import Draft, seal
from tidegate.journal.store import Journal, open_journal, verify


def drafts(n: int) -> list[Draft]:
    return [Draft("trigger.evaluated", 10.0 * i, {"n": i, "share": 0.1 * i, "pair": (1, 2)}) for i in range(n)]


@pytest.fixture
def journal(tmp_path) -> Journal:
    return open_journal(tmp_path, create=True)


def test_events_come_back_as_they_were_written(journal):
    written = journal.append("m", drafts(3), 0)
    assert journal.read("m") == written
    assert [event.seq for event in written] == [1, 2, 3]
    assert written[2].data == {"n": 2, "share": 0.2, "pair": [1, 2]}
    verify(journal.read("m"))


def test_a_late_writer_loses_and_writes_nothing(journal):
    journal.append("m", drafts(2), 0)
    with pytest.raises(Conflict, match="event 2 is there, expected 1"):
        journal.append("m", drafts(2), 1)
    assert len(journal.read("m")) == 2


def test_models_have_positions_of_their_own(journal):
    journal.append("a", drafts(2), 0)
    journal.append("b", drafts(1), 0)
    assert journal.models() == ["a", "b"]
    assert journal.read("a", after=1)[0].seq == 2


def _write(folder, n):
    own, done = open_journal(folder), 0
    while done < n:
        try:
            seen = len(own.read("m"))
            own.append("m", [Draft("x", 1.0, {"writer": multiprocessing.current_process().name})], seen)
            done += 1
        except Conflict:
            continue


def test_concurrent_writers_make_one_history(tmp_path):
    open_journal(tmp_path, create=True).close()
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path, 20), name=f"w{i}") for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    events = open_journal(tmp_path).read("m")
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(events) == 60
    verify(events)


@pytest.mark.parametrize("column", ["kind", "time", "wall", "data", "before", "hash"])
def test_one_changed_byte_is_found_and_named(tmp_path, column):
    journal = open_journal(tmp_path, create=True)
    journal.append("m", drafts(4), 0)
    journal.close()
    with sqlite3.connect(tmp_path / "journal.db") as database:
        (value,) = database.execute(f"SELECT {column} FROM events WHERE seq = 3").fetchone()  # noqa: S608
        changed = value + 1 if isinstance(value, float) else value[:-1] + chr(ord(value[-1]) ^ 1)
        database.execute(f"UPDATE events SET {column} = ? WHERE seq = 3", (changed,))  # noqa: S608
    with pytest.raises(TamperedJournal, match=r"event 3 "):
        verify(open_journal(tmp_path).read("m"))


def test_a_chain_that_was_hashed_again_from_the_middle_still_breaks(journal):
    events = journal.append("m", drafts(3), 0)
    forged = seal(Draft("trigger.evaluated", 10.0, {"n": 9}), "m", 2, events[1].wall, events[1].before)
    with pytest.raises(TamperedJournal, match="event 3"):
        verify([events[0], forged, events[2]])


def test_a_folder_without_a_journal_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match=r"no journal\.db"):
        open_journal(tmp_path / "nowhere")


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path):
    (tmp_path / "journal.db").write_bytes(b"not a database" * 100)
    with pytest.raises(TamperedJournal, match=r"journal\.db"):
        open_journal(tmp_path).read("m")
