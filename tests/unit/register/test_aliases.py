"""MLflow's aliases mirror the journal: a real MLflow on SQLite beside the real loop, promoted, aborted, rolled back."""

from __future__ import annotations

import shutil
import time

import pytest

from tests.simulated_loop import World, digest_of, quick
from tidegate.controller.mirror import AliasMirror
from tidegate.errors import PlatformError
from tidegate.journal.fold import ModelState, Served
from tidegate.register import aliases, registry
from tidegate.register.aliases import aliases_of, repair


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """An MLflow store that holds nothing; making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("empty")
    registry.client_of(folder).search_registered_models()
    return folder / "mlflow.db"


@pytest.fixture
def folder(tmp_path, empty):
    shutil.copy(empty, tmp_path / "mlflow.db")
    return tmp_path


def named(folder):
    """Version by alias, as MLflow tells it."""
    client = registry.client_of(folder)
    found = client.get_registered_model("quick").aliases
    return {alias: client.get_model_version("quick", number).tags["version"] for alias, number in found.items()}


def decided(world, kind):
    return any(event.kind == kind for event in world.journal.read("quick"))


def test_they_follow_a_promoted_an_aborted_and_a_rolled_back_release(folder):
    world = World(folder, quick(), bad=frozenset({"v3"}))
    world.start()
    world.hand_in("v1")
    world.looks(1)
    assert (repair(folder, "quick"), named(folder)) == ({"champion": digest_of("v1")}, {"champion": "v1"})
    world.hand_in("v2")
    world.until(lambda state: state.release is not None)
    repair(folder, "quick")
    assert named(folder) == {"champion": "v1", "challenger": "v2"}
    world.until(lambda state: state.champion.version == "v2")
    repair(folder, "quick")
    assert named(folder) == {"champion": "v2"}
    world.hand_in("v3")
    world.until(lambda state: state.release["name"] == "quick-r2")
    repair(folder, "quick")
    assert named(folder) == {"champion": "v2", "challenger": "v3"}
    world.until(lambda state: digest_of("v3") in state.quarantined)
    repair(folder, "quick")
    assert named(folder) == {"champion": "v2"}


def lived(folder, more=()):
    """A journal with v1 as champion, and candidates."""
    world = World(folder, quick())
    world.start()
    world.hand_in("v1")
    world.looks(1)
    for version in more:
        world.hand_in(version)
    return world


def test_what_somebody_changed_is_repaired_and_other_names_stay(folder):
    lived(folder)
    repair(folder, "quick")
    client = registry.client_of(folder)
    client.delete_registered_model_alias("quick", "champion")
    for alias in ("challenger", "reviewed-by-anna"):
        client.set_registered_model_alias("quick", alias, "1")
    repair(folder, "quick")
    assert named(folder) == {"champion": "v1", "reviewed-by-anna": "v1"}


def test_a_version_that_mlflow_lost_is_told_to_it_again(folder):
    lived(folder)
    repair(folder, "quick")
    client = registry.client_of(folder)
    client.delete_registered_model("quick")
    repair(folder, "quick")
    assert named(folder) == {"champion": "v1"}


def test_a_version_that_mlflow_does_not_take_is_an_error(folder, monkeypatch):
    lived(folder)
    monkeypatch.setattr(registry, "tell_again", lambda *_: None)
    with pytest.raises(PlatformError, match=f"no version of quick with digest {digest_of('v1')}"):
        repair(folder, "quick")


def test_the_run_that_registers_a_version_is_waited_for(folder, monkeypatch):
    """It may be telling MLflow of the version at this moment; only one that does not end is overtaken."""
    world = lived(folder)
    events = world.journal.read("quick")
    open_run = [event for event in events if event.kind != "trigger.finished"]
    waits = []
    monkeypatch.setattr(aliases, "open_journal", lambda _: Cut(open_run))
    monkeypatch.setattr(aliases.time, "sleep", waits.append)
    monkeypatch.setattr(aliases.time, "monotonic", iter(range(100)).__next__)
    repair(folder, "quick", patience=3)
    assert len(waits) >= 2
    assert named(folder) == {"champion": "v1"}


class Cut:
    """A journal of these events."""

    def __init__(self, events):
        self._events = events

    def read(self, _, after=0):
        return [event for event in self._events if event.seq > after]

    def close(self):
        pass


def release(state, *versions):
    return {"state": state, "challengers": [{"name": one, "digest": digest_of(one)} for one in versions]}


@pytest.mark.parametrize(
    ("opened", "wanted"),
    [
        (None, {}),
        (release("shadow", "v2"), {"challenger": "v2"}),
        (release("canary", "v2"), {"challenger": "v2"}),
        (release("ab", "v2", "v3", "v4"), {"challenger": "v2", "challenger-2": "v4"}),
        (release("watch", "v2"), {}),
        *((release(end, "v2"), {}) for end in ("promoted", "aborted", "expired", "rolled_back")),
    ],
)
def test_a_challenger_is_one_while_its_release_is_open(opened, wanted):
    """v3 is in quarantine."""
    quarantined = {digest_of("v3"): "proved_worse"}
    state = ModelState("m", champion=Served("v1", digest_of("v1"), 0.0), release=opened, quarantined=quarantined)
    names = {"champion": "v1", **wanted}
    assert aliases_of(state) == {alias: digest_of(version) for alias, version in names.items()}
    assert aliases_of(ModelState("m")) == {}


def followed(mirror, state, reached):
    """Turn as the loop does until `reached`; no turn waits for MLflow."""
    deadline = time.monotonic() + 60
    while not reached(mirror.status()):
        assert time.monotonic() < deadline, mirror.status()
        mirror.follow(state)
        time.sleep(0.05)


def test_the_loop_starts_a_process_and_goes_on(folder):
    state = lived(folder).state
    mirror = AliasMirror(folder, "quick")
    try:
        followed(mirror, state, lambda status: status["aliases"])
    finally:
        mirror.stop()
    assert mirror.status() == {"aliases": {"champion": digest_of("v1")}, "failures": 0, "error": ""}
    assert named(folder) == {"champion": "v1"}


def test_an_mlflow_that_fails_is_counted_and_stops_nothing(folder):
    world = lived(folder)
    (folder / "mlflow.db").write_text("this is no database" * 100)
    mirror = world.controller.mirror = AliasMirror(folder, "quick")
    try:
        followed(mirror, world.state, lambda status: status["failures"])
        world.hand_in("v2")
        assert world.until(lambda state: state.champion.version == "v2")
    finally:
        mirror.stop()
    told = world.controller.status()["mlflow"]
    assert (told["aliases"], told["failures"]) == ({}, 1)
    assert "database" in told["error"]
