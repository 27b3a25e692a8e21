"""How a run's causes want it to be trained reaches the train step; a mode of the Model file's own is obeyed before."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.simulated_loop import START, World, quick
from tidegate import runs
from tidegate.train.settings import RunSettings, parse_settings
from tidegate.train.step import parts_of

DRIFT = {"triggers": {"drift": {"window": "7d", "recent": "21d"}, "cooldown": "1h"}}
DAY = 86400.0


def settings(world: World, mode: str, **spec) -> RunSettings:
    model = quick(**{**DRIFT, **spec})
    passed = runs.arguments(model, world.state, world.folder, START, "r", ("drift",), mode)
    return parse_settings(passed["settings"])


@pytest.fixture
def served(tmp_path) -> World:
    world = World(tmp_path, quick(**DRIFT), per_look=10)
    world.start()
    world.hand_in("v1")
    world.looks(1)
    return world


@pytest.mark.parametrize(
    ("mode", "wanted", "recent"),
    [("auto", "auto", None), ("stateful", "stateful", None), ("recent", "stateless", timedelta(days=21))],
)
def test_the_mode_of_the_causes_is_that_of_the_run(served, mode, wanted, recent):
    found = settings(served, mode)
    assert (found.training.mode, found.recent) == (wanted, recent)
    assert settings(served, mode, training={"mode": "stateless"}).recent is None


def test_before_there_is_a_champion_there_is_nothing_to_go_on_from(tmp_path):
    world = World(tmp_path, quick(**DRIFT))
    assert settings(world, "recent").recent is None


@pytest.mark.parametrize(("finding", "mode"), [("concept_drift", "stateless"), ("data_drift", "stateful")])
def test_a_finding_that_the_controller_sees_starts_a_run_in_its_mode(served, finding, mode):
    look = served.feed.look

    def told(now, *more):
        evidence, events = look(now, *more)
        return evidence, [{"kind": "drift", "time": now, "finding": finding}, *events]

    served.feed.look = told
    served._end_runs = lambda: None
    served.looks(1)
    (passed,) = served.orchestrator.submitted.values()
    assert parse_settings(passed["settings"]).training.mode == mode


def test_a_recent_window_ends_where_training_ends_and_begins_its_span_before():
    all_rows, recent = (parts_of(START, RunSettings(recent=span)) for span in (None, timedelta(days=21)))
    assert recent.train.until == all_rows.train.until
    assert recent.train.after == recent.train.until - 21 * DAY
    assert recent.fit.after == recent.train.after
    assert (recent.gate, recent.validation) == (all_rows.gate, all_rows.validation)
