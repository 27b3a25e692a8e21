"""What a person orders is written like any decision, or refused with the reason."""

from __future__ import annotations

import pytest

from tests.simulated_loop import START, World, candidate, digest_of
from tidegate.controller import orders
from tidegate.errors import Refused, UserError
from tidegate.journal.events import Draft
from tidegate.journal.replay import replay_state
from tidegate.journal.store import open_journal


@pytest.fixture
def world(tmp_path) -> World:
    """v1 serves, v2 is in shadow."""
    found = World(tmp_path)
    found.start()
    found.hand_in("v1")
    found.looks(1)
    found.hand_in("v2")
    found.looks(1)
    return found


def test_pause_holds_a_release_and_resume_lets_it_go_on(world):
    orders.order(world.folder, "quick-r1", {"command": "pause", "by": "ann"})
    world.looks(15)
    assert (world.state.release["state"], world.state.release["paused"]) == ("shadow", True)
    orders.order(world.folder, "quick-r1", {"command": "resume", "by": "ann"})
    world.looks(1)
    assert world.state.release["state"] == "canary"
    assert replay_state(world.folder, evidence=True).fault == ""


def test_abort_gives_the_champion_everything_and_unquarantine_lets_it_try_again(world):
    told = orders.order(world.folder, "quick-r1", {"command": "abort", "by": "ann", "reason": "wrong data"})
    assert told["quarantined"] == {digest_of("v2"): "by_person"}
    world.looks(1)
    assert world.target.observe().split == (("v1", 1.0),)
    with pytest.raises(Refused, match="v2 is in quarantine"):
        orders.start(world.folder, "v2", "bob", "again")
    assert orders.unquarantine(world.folder, digest_of("v2"), "bob", "it was the data")["quarantined"] == {}
    orders.start(world.folder, "v2", "bob", "again")
    world.looks(1)
    assert [release["state"] for release in orders.releases(world.folder)] == ["aborted", "shadow"]
    assert replay_state(world.folder, evidence=True).fault == ""


def test_a_rollback_brings_the_old_champion_back(world):
    world.until(lambda state: state.release["state"] == "watch")
    orders.order(world.folder, "quick-r1", {"command": "rollback", "by": "ann", "reason": "complaints"})
    world.looks(1)
    assert world.state.champion.version == "v1"
    assert world.target.observe().split == (("v1", 1.0),)


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ({"command": "rollback", "by": "ann", "reason": "r"}, "a release in state shadow takes no rollback"),
        ({"command": "abort", "by": " ", "reason": "r"}, "takes no unnamed"),
        ({"command": "approve", "by": "ann", "reason": ""}, "takes no unnamed"),
    ],
)
def test_a_command_that_the_state_does_not_take_is_refused_and_not_written(world, words, refusal):
    before = world.state.seq
    with pytest.raises(Refused, match=refusal):
        orders.order(world.folder, "quick-r1", words)
    assert world.state.seq == before


@pytest.mark.parametrize(("version", "refusal"), [("v1", "is the champion already"), ("v2", "is in release quick-r1")])
def test_what_serves_or_is_on_its_way_is_not_started(world, version, refusal):
    with pytest.raises(Refused, match=refusal):
        orders.start(world.folder, version, "bob", "again")


def test_a_version_is_started_by_digest_too_and_once(world):
    world.journal.append("quick", [Draft("register.candidate", START, candidate("v3"))], world.state.seq)
    before = world.state.seq
    assert orders.start(world.folder, digest_of("v3"), "bob", "r")["waiting"] == ["v3"]
    assert world.state.seq == before


@pytest.mark.parametrize(
    ("ask", "line"),
    [
        (lambda f: orders.order(f, "quick-r7", {"command": "pause", "by": "a"}), "the open release, quick-r1"),
        (lambda f: orders.show(f, "quick-r7"), "see `tidegate release list`"),
        (lambda f: orders.start(f, "v9", "bob", "r"), "one of v1, v2"),
        (lambda f: orders.unquarantine(f, "sha256:0", "bob", "r"), "one in quarantine: none"),
    ],
)
def test_an_unknown_name_is_told_with_what_there_is(world, ask, line):
    with pytest.raises(UserError, match=line):
        ask(world.folder)


def test_an_order_needs_one_model(tmp_path):
    open_journal(tmp_path, create=True)
    with pytest.raises(UserError, match="0 models in it"):
        orders.start(tmp_path, "v1", "bob", "r")


def test_a_release_is_shown_with_its_last_judgement(world):
    world.looks(3)
    shown = orders.show(world.folder, "quick-r1")
    assert shown["release"]["state"] == "shadow"
    assert set(shown["judgement"]["checks"]) == {"loss", "errors", "latency"}
