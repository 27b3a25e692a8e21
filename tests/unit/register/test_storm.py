"""Many processes register and promote at once and are killed: one history, nothing lost, never a worse champion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import registry_side
from benchmarks.registry_side import KILLS, NAME, storm
from tidegate.journal.events import Event
from tidegate.journal.fold import fold
from tidegate.journal.store import open_journal


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(4, 10))])
def test_a_storm_leaves_one_history_and_loses_nothing(tmp_path, seed):
    told = storm(tmp_path, 1000 + seed)
    assert told.kills == KILLS
    assert told.promotions >= 2


@pytest.fixture(scope="module")
def after(tmp_path_factory) -> tuple[Path, list[Event]]:
    """What a calm round left."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry_side, "KILLS", 0)
        storm(folder, 1)
    return folder, open_journal(folder / "state").read(NAME)


def test_a_lost_event_would_be_told(after):
    folder, events = after
    registry_side.check(folder, events)
    with pytest.raises(AssertionError, match="acknowledged and lost"):
        registry_side.check(folder, events[:-1])


def test_a_champion_that_got_worse_would_be_told(after):
    _, events = after
    last = fold(events).history[-1].digest

    def worse(event: Event) -> Event:
        if event.kind != "register.candidate" or event.data["digest"] != last:
            return event
        return replace(event, data={**event.data, "metrics": {"train_log_loss": 2.0}})

    with pytest.raises(AssertionError, match="went back"):
        registry_side.check_champions([worse(event) for event in events])


def test_a_candidate_without_a_fate_would_be_told(after):
    _, events = after
    with pytest.raises(AssertionError, match="without a fate"):
        registry_side.check_champions([event for event in events if event.kind != "release.superseded"])
