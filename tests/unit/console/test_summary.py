"""A model in a line: what needs a person comes first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulated_loop import digest_of
from tidegate.console.summary import HEALTHS, in_order, matches, summarize
from tidegate.journal.fold import ModelState, Served


@pytest.fixture
def serves() -> ModelState:
    return ModelState(model="m", champion=Served("v1", digest_of("v1"), 5.0))


def test_nothing_serves_yet():
    assert summarize(ModelState(model="m")).health == "new"


@pytest.mark.parametrize(
    ("known", "health", "why"),
    [
        ({}, "well", "v1 serves"),
        ({"degraded": {"version": "v1", "reason": "degraded"}}, "wrong", "v1: the champion is proved beyond"),
        ({"failed": {"run": "m-3", "time": 1.0}}, "warned", "run m-3 failed"),
        ({"trigger": {"skew": True}}, "warned", "skew: the pipeline"),
        ({"trigger": {"skew": False, "last_tick": 1.0}}, "well", "v1 serves"),
        (
            {"failed": {"run": "r", "time": 1.0}, "degraded": {"version": "v1", "reason": "degraded_alone"}},
            "wrong",
            "v1",
        ),
    ],
)
def test_health_is_the_worst_that_is_known(serves, known, health, why):
    found = summarize(replace(serves, **known))
    assert found.health == health
    assert found.why.startswith(why)


def test_a_broken_split_is_to_be_looked_at_while_its_release_is_open(serves):
    release = {"name": "m-r1", "state": "canary", "latched": True, "weight": 0.0, "challengers": [{"name": "v2"}]}
    assert summarize(replace(serves, release=release)).health == "warned"
    assert summarize(replace(serves, release={**release, "state": "aborted"})).health == "well"


def test_models_that_need_a_person_come_first(serves):
    worse = summarize(replace(serves, model="z", degraded={"version": "v1", "reason": "degraded"}))
    new, well = summarize(ModelState(model="a")), summarize(serves)
    assert [one.model for one in in_order([new, well, worse])] == ["z", "m", "a"]
    assert [one.health for one in in_order([new, well, worse])] == ["wrong", "well", "new"]
    assert next(iter(HEALTHS)) == "wrong"


def test_every_word_must_match(serves):
    one = summarize(serves)
    assert matches(one, "M v1", "")
    assert not matches(one, "m v2", "")
    assert not matches(one, "m", "wrong")
