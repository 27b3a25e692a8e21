"""When scheduled batches start, on states and events made by hand; what was decided is decided again in replay."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulated_loop import START, candidate, digest_of, quick
from tidegate.controller.batch_schedule import check_batch
from tidegate.controller.reconcile import Seen, reconcile
from tidegate.errors import TamperedJournal, UserError
from tidegate.journal.events import GENESIS, Draft, Event, canonical, seal
from tidegate.journal.fold import ModelState, apply
from tidegate.journal.replay import replay_events
from tidegate.spec import BatchSpec

HOUR = 3600.0
NIGHTLY = {"cron": "0 4 * * *", "input": "rows", "output": "out"}
DONE = {"result": {"rows": 7}}


class Journal:
    """Events in memory, sealed as on disk, and the state that they give."""

    def __init__(self, batch: dict | None = NIGHTLY) -> None:
        self.model, self.state, self.events = (
            quick(**({"batch": batch} if batch else {})),
            ModelState(model="quick"),
            [],
        )

    def append(self, *drafts: Draft) -> list[str]:
        for draft in drafts:
            before = self.events[-1].hash if self.events else GENESIS
            plain = Draft(draft.kind, draft.time, json.loads(canonical(draft.data)))
            self.events.append(seal(plain, "quick", self.state.seq + 1, 0.0, before))
            self.state = apply(self.state, self.events[-1])
        return [draft.kind for draft in drafts if draft.kind.startswith("serve.batch")]

    def at(self, hours: float, end: dict | None = None) -> list[str]:
        return self.append(*reconcile(self.model, self.state, Seen(START + hours * HOUR, batch=end)))

    def serve(self, version: str) -> None:
        self.append(Draft("register.candidate", START, candidate(version)))

    @property
    def last(self) -> Event:
        return next(event for event in reversed(self.events) if event.kind.startswith("serve.batch"))


@pytest.fixture
def journal() -> Journal:
    """v1 serves since midnight."""
    found = Journal()
    found.serve("v1")
    assert found.at(0) == []
    return found


def test_a_batch_starts_when_it_is_due_by_the_champion_with_its_cause(journal):
    assert journal.at(3.9) == []
    assert journal.at(4) == ["serve.batch_started"]
    assert journal.last.data == {
        "run": f"quick-batch-{journal.last.seq}", "cause": {"cron": "0 4 * * *", "due": "2013-07-01T04:00:00Z"},
        "version": "v1", "digest": digest_of("v1"), "input": "rows", "output": "out",
    }  # fmt: skip
    assert journal.state.batch["time"] == START + 4 * HOUR


def test_one_at_a_time_and_times_that_passed_meanwhile_start_one(journal):
    journal.at(4)
    assert journal.at(28) == journal.at(100) == []
    assert journal.at(101, DONE) == ["serve.batch_finished", "serve.batch_started"]
    assert journal.last.data["cause"]["due"] == "2013-07-02T04:00:00Z"
    assert journal.at(102, DONE) == ["serve.batch_finished"]
    assert journal.at(123.9) == []
    assert journal.at(124) == ["serve.batch_started"]


def test_how_a_batch_ended_is_kept_and_a_failed_one_waits_for_its_next_time(journal):
    journal.at(4)
    journal.at(5, {"error": "no rows"})
    assert (journal.last.data["ok"], journal.last.data["error"]) == (False, "no rows")
    assert journal.state.batch["ok"] is False
    assert journal.at(6) == []
    assert journal.at(28) == ["serve.batch_started"]


def test_an_end_that_comes_twice_is_written_once(journal):
    journal.at(4)
    assert journal.at(5, DONE) == ["serve.batch_finished"]
    assert journal.at(5, DONE) == []


def test_without_a_champion_a_batch_waits_and_without_a_schedule_there_is_none():
    waiting = Journal()
    assert waiting.at(0) == waiting.at(30) == []
    waiting.serve("v1")
    assert waiting.at(31) == ["serve.batch_started"]
    never = Journal(None)
    never.serve("v1")
    assert never.at(0) == never.at(1000) == []


def test_a_schedule_counts_from_when_it_came_into_the_model_file(journal):
    journal.model = quick(batch={**NIGHTLY, "cron": "30 * * * *"})
    assert journal.at(10) == []
    assert journal.at(10.5) == ["serve.batch_started"]


@given(st.lists(st.tuples(st.floats(0.01, 40), st.booleans()), max_size=25))
def test_however_often_it_is_looked_at_each_time_starts_at_most_one_batch(steps):
    journal, hours, started = Journal(), 0.0, []
    journal.serve("v1")
    journal.at(0)
    for wait, ends in steps:
        hours += wait
        if "serve.batch_started" in journal.at(hours, DONE if ends else None):
            started.append(journal.last)
    nights = [(event.time - START - 4 * HOUR) // (24 * HOUR) for event in started]
    assert nights == sorted(set(nights))
    assert nights == [] or nights[0] >= 0
    replayed = replay_events(journal.events)
    assert replayed["serve.batch_started"] == len(started)


@pytest.mark.parametrize("change", [{"version": "v2"}, {"output": "elsewhere"}, {"run": "quick-batch-1"}])
def test_a_start_that_was_changed_does_not_reproduce_itself(journal, change):
    journal.at(4)
    event = journal.events[-1]
    assert replay_events(journal.events)["serve.batch_started"] == 1
    forged = Event(**{**event.__dict__, "data": {**event.data, **change}})
    with pytest.raises(TamperedJournal, match="the batch was written as"):
        replay_events([*journal.events[:-1], forged])


def test_a_cron_that_never_comes_is_named():
    with pytest.raises(UserError, match=r"spec\.batch\.cron: got '0 4 31 2 \*'"):
        check_batch(BatchSpec(cron="0 4 31 2 *", input="a", output="b"))
