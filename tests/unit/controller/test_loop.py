"""The real loop on drawn traffic: a whole life, death at any moment, other writers, versions that do not start."""

from __future__ import annotations

import shutil
import threading

import pytest

from tests.simulated_loop import LOOK, START, Fuse, World, candidate, digest_of, quick
from tidegate.controller.clock import WallClock
from tidegate.controller.feed import DAY
from tidegate.controller.loop import AT_ONCE
from tidegate.errors import NotReady, PlatformError
from tidegate.journal.events import Draft
from tidegate.journal.replay import replay_state
from tidegate.journal.store import verify

RETRAINS = {"volume": {"increase": "50%"}, "cooldown": "1h"}


def life(folder, fuse=None, **world) -> World:
    """v1 serves, v2 is trained by the volume trigger and promoted, v3 answers the opposite and is aborted."""
    found = World(folder, quick(triggers=RETRAINS), fuse or Fuse(), frozenset({"v3"}), **world)
    found.start()
    found.hand_in("v1")
    found.looks(46)
    return found


@pytest.fixture(scope="module")
def lived(tmp_path_factory) -> World:
    return life(tmp_path_factory.mktemp("lived"))


def test_a_good_version_is_promoted_and_a_bad_one_is_aborted(lived):
    state = lived.state
    assert [served.version for served in state.history] == ["v1", "v2"]
    assert state.quarantined == {digest_of("v3"): "proved_worse"}
    assert [run.by for run in state.runs.values()] == ["person", "trigger", "trigger"]
    assert lived.target.observe().split == (("v2", 1.0),)
    assert state.traffic == {"release": "", "split": [["v2", 1.0]], "mirrors": []}


def test_its_journal_reproduces_itself_with_the_sums_of_the_observations(lived):
    report = replay_state(lived.folder, evidence=True)
    assert report.fault == ""
    assert report.decisions["evidence"] == sum(kind in LOOKED for kind, _, _ in lived.told())
    assert {"release.promoted", "release.aborted", "release.first", "serve.traffic"} <= set(report.decisions)


LOOKED = ("release.looked", "release.stage", "release.promoted", "release.aborted", "release.ended")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_controller_killed_at_any_effect_leaves_the_same_journal(tmp_path, lived, seed):
    fuse = Fuse(chance=0.15, seed=seed)
    world = life(tmp_path, fuse)
    assert fuse.deaths > 10
    assert world.told() == lived.told()
    assert world.target.observe() == lived.target.observe()


def test_labels_that_come_late_are_left_out_again_at_a_restart_and_in_proof(tmp_path):
    calm = life(tmp_path / "calm", tardy=0.2)
    killed = life(tmp_path / "killed", Fuse(chance=0.05, seed=3), tardy=0.2)
    looked = [event.data["evidence"] for event in calm.journal.read("quick") if event.kind == "release.looked"]
    assert max(place["counts"]["unlabelled_champion"] for e in looked for place in e["places"].values()) > 20
    assert killed.told() == calm.told()
    for world in (calm, killed):
        assert replay_state(world.folder, evidence=True).fault == ""


def test_observations_that_were_changed_give_other_sums(tmp_path, lived):
    shutil.copytree(lived.folder, tmp_path / "state")
    (segment,) = (tmp_path / "state" / "observations" / "predictions").iterdir()
    lines = segment.read_text().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if '"release":"quick-r1"' in line)
    segment.write_text("".join([*lines[:number], *lines[number + 1 :]]))
    report = replay_state(tmp_path / "state", evidence=True)
    assert "the observations give other sums" in report.fault


class Interfering:
    """A journal to which somebody else writes just before the controller does, `times` times."""

    def __init__(self, world: World, drafts) -> None:
        self.inner, self.world, self.drafts = world.journal, world, list(drafts)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def append(self, model, drafts, expected):
        if self.drafts and drafts:
            self.inner.append(model, [self.drafts.pop(0)], self.world.state.seq)
        return self.inner.append(model, drafts, expected)


def test_what_another_writer_wrote_first_is_read_and_decided_on_again(tmp_path):
    world = World(tmp_path)
    world.start()
    world.hand_in("v1")
    others = [Draft("register.candidate", START, candidate(version)) for version in ("v2", "v3", "v4")]
    world.controller.journal = Interfering(world, others)
    world.looks(1)
    verify(world.journal.read("quick"))
    assert world.controller.journal.drafts == []
    assert [served.version for served in world.state.history] == ["v4"]
    told = [data for kind, _, data in world.told() if kind == "release.superseded"]
    assert [digest_of(f"v{n}") in data for n, data in zip((1, 2, 3), told, strict=True)] == [True] * 3
    assert replay_state(tmp_path).fault == ""


def test_a_challenger_that_does_not_start_is_aborted_and_the_champion_serves(tmp_path):
    world = World(tmp_path)
    world.start()
    world.hand_in("v1")
    world.looks(1)
    world.target.broken.add("v2")
    world.hand_in("v2")
    world.looks(2)
    assert world.state.quarantined == {digest_of("v2"): "not_ready"}
    assert world.target.observe().split == (("v1", 1.0),)
    assert world.state.release["state"] == "aborted"


@pytest.mark.parametrize("trouble", [PlatformError("gateway did not take its routes"), NotReady("v1", " in 60 s")])
def test_what_is_not_the_challengers_fault_is_no_verdict_on_it(tmp_path, trouble):
    world = World(tmp_path)
    world.start()
    world.hand_in("v1")
    world.looks(1)
    world.hand_in("v2")
    apply = world.target.apply

    def fails(plan):
        raise trouble

    world.target.apply = fails
    with pytest.raises(PlatformError, match=str(trouble)):
        world.looks(1)
    assert world.state.release["state"] == "shadow"
    world.target.apply = apply
    world.looks(1)
    assert world.target.observe().mirrors == ("v2",)


def test_one_turn_looks_at_a_bounded_number_of_moments_and_skips_none(tmp_path):
    world = World(tmp_path)
    world.start()
    world.hand_in("v1")
    world.looks(1)
    world.clock.announce(START + LOOK * 61)
    for _ in range(3):
        before = world.controller.looked
        world.controller.turn()
        assert world.controller.looked - before <= AT_ONCE * LOOK
    ticks = [event.data["event"] for event in world.journal.read("quick") if event.kind == "trigger.evaluated"]
    times = [event["time"] for event in ticks if event["kind"] == "tick"]
    assert times == [START + LOOK * n for n in range(1, 62)]


def at_the_wall(world: World, monkeypatch, now: float) -> None:
    """Give the controller the wall's clock, and let that show `now`."""
    clock = WallClock()
    monkeypatch.setattr(clock, "now", lambda: now)
    world.controller.clock = clock


def test_under_the_wall_clock_what_was_slept_through_is_past(tmp_path, monkeypatch):
    world = World(tmp_path)
    world.start()
    world.hand_in("v1")
    at_the_wall(world, monkeypatch, START + 400 * DAY + 90.0)
    for _ in range(3):
        world.controller.turn()
    looks = [event.time for event in world.journal.read("quick") if event.kind == "trigger.evaluated"]
    assert sorted(set(looks)) == [START + 400 * DAY, START + 400 * DAY + 60.0]
    world.start()
    at_the_wall(world, monkeypatch, START + 400 * DAY + 119.0)
    world.controller.turn()
    assert len(looks) == len([e for e in world.journal.read("quick") if e.kind == "trigger.evaluated"])


def test_under_the_wall_clock_a_release_opens_now_and_not_at_the_last_look(tmp_path, monkeypatch):
    world = World(tmp_path)
    world.start()
    world.hand_in("v1")
    now = START + 400 * DAY + 90.0
    at_the_wall(world, monkeypatch, now)
    world.controller.turn()
    world.hand_in("v2")
    world.controller.turn()
    assert world.state.release["opened"] == now
    assert world.state.release["state"] == "shadow"
    times = [event.time for event in world.journal.read("quick") if event.kind.startswith(("release", "serve"))]
    assert times == sorted(times)


def test_a_journal_ahead_of_the_clock_is_waited_for(tmp_path):
    world = World(tmp_path)
    world.start()
    world.hand_in("v1")
    world.looks(1)
    ahead = Draft("register.candidate", START + 3 * DAY, candidate("v2"))
    world.journal.append("quick", [ahead], world.state.seq)
    world.looks(3)
    times = [event.time for event in world.journal.read("quick")]
    assert times == sorted(times)
    world.looks(17)
    assert world.state.time == START + 21 * LOOK


def test_a_run_is_handed_over_once_and_again_by_the_next_controller(tmp_path):
    world = World(tmp_path, quick(triggers=RETRAINS))
    submitted = []
    submit = world.orchestrator.submit
    world.orchestrator.submit = lambda *args: submitted.append(args[2]) or submit(*args)
    world.start()
    world.hand_in("v1")
    world._end_runs = lambda: None
    world.until(lambda state: state.running)
    world.looks(5)
    (run,) = world.state.running
    assert submitted == [run.name]
    assert world.controller.busy() == [f"run {run.name}"]
    world.start()
    world.looks(2)
    assert submitted == [run.name, run.name]


def test_the_loop_tries_again_after_trouble_with_the_machine_and_ends_on_anything_else(tmp_path, monkeypatch):
    world = World(tmp_path)
    world.start()
    turns = []

    def turn():
        turns.append(len(turns))
        if len(turns) == 1:
            raise PlatformError("disk is full")
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(world.controller, "turn", turn)
    with pytest.raises(ZeroDivisionError):
        world.controller.run()
    assert turns == [0, 1]


def test_stop_ends_the_loop(tmp_path):
    world = World(tmp_path)
    world.start()
    looping = threading.Thread(target=world.controller.run)
    looping.start()
    world.controller.stop()
    looping.join(10)
    assert not looping.is_alive()
