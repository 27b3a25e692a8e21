"""The command line on a journal that a real loop wrote: what it prints for people and for machines."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys

import pytest

from tests.simulated_loop import World, digest_of

HEAVY = ("numpy", "polars", "pandas", "scipy", "mlflow", "feast", "kfp", "lightgbm", "sqlalchemy", "onnxruntime",
         "bentoml", "pydantic", "httpx", "uvicorn", "starlette")  # fmt: skip


@pytest.fixture(scope="module")
def lived(tmp_path_factory) -> World:
    """v1 serves, v2 is in shadow, v3 waits."""
    world = World(tmp_path_factory.mktemp("lived"))
    world.start()
    world.hand_in("v1")
    world.looks(1)
    world.hand_in("v2")
    world.looks(6)
    world.hand_in("v3")
    return world


def test_help_and_version_of_words_import_nothing_heavy():
    program = (
        "import sys; sys.argv = ['tidegate', '--help']\n"
        "from tidegate.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print('status', end.code)\n"
        f"print('heavy', sorted({set(HEAVY)!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("status 0\nheavy []\n")
    for word in ("up", "run", "status", "log", "replay", "release", "judge", "trigger", "ingest", "register"):
        assert f"  {word} " in done.stdout


def test_status_for_people_and_machines(tidegate, lived):
    told = tidegate("status", "--state", lived.folder)
    assert (told.status, told.err) == (0, "")
    assert told.out.splitlines()[0].startswith("quick at 2013-07-02T04:00:00Z: serves v1 since 2013-07-01T00:00:00Z")
    assert "  waiting: v3" in told.out
    (model,) = json.loads(tidegate("status", "--state", lived.folder, "--json").out)["models"]
    assert (model["champion"]["version"], model["release"]["name"], model["waiting"]) == ("v1", "quick-r1", ["v3"])
    told = tidegate("status", "--state", lived.folder, "--at", "2013-07-01T01:00Z", "--json")
    (before,) = json.loads(told.out)["models"]
    assert before["release"] is None


def test_log_is_a_line_an_event_and_whole_as_json(tidegate, lived):
    every = tidegate("log", "--state", lived.folder, "--all").out.splitlines()
    assert len(every) == len(lived.told())
    few = tidegate("log", "--state", lived.folder, "--kind", "release").out.splitlines()
    assert [line.split()[3] for line in few] == ["release.first", "release.opened"]
    documents = [json.loads(line) for line in tidegate("log", "--state", lived.folder, "--json").out.splitlines()]
    assert [document["seq"] for document in documents] == list(range(1, len(every) + 1))


def test_replay_says_that_it_was_reproduced_and_fails_where_it_was_not(tidegate, lived, tmp_path):
    told = tidegate("replay", "--state", lived.folder, "--evidence")
    assert (told.status, told.out.startswith("reproduced: ")) == (0, True)
    assert json.loads(tidegate("replay", "--state", lived.folder, "--json").out)["ok"] is True
    shutil.copytree(lived.folder, tmp_path / "state")
    with sqlite3.connect(tmp_path / "state" / "journal.db") as database:
        database.execute("UPDATE events SET wall = wall + 1 WHERE seq = 5")
    told = tidegate("replay", "--state", tmp_path / "state")
    assert (told.status, told.out.startswith("not reproduced: journal of quick: event 5 (")) == (1, True)
    assert json.loads(tidegate("replay", "--state", tmp_path / "state", "--json").out)["ok"] is False


def test_releases_are_listed_and_shown(tidegate, lived):
    assert tidegate("release", "list", "--state", lived.folder).out.startswith("quick-r1  v2 against v1  shadow")
    shown = tidegate("release", "show", "quick-r1", "--state", lived.folder).out
    assert shown.startswith("quick-r1: shadow: ")
    assert "  loss                 no evidence yet" in shown
    assert "  errors               +0.00000 in [" in shown
    assert json.loads(tidegate("release", "show", "quick-r1", "--state", lived.folder, "--json").out)["judgement"]


def test_lineage_is_a_tree_or_a_document_and_one_line_where_nothing_is_known(tidegate, lived):
    told = tidegate("register", "lineage", "v1", "--state", lived.folder)
    assert (told.status, told.err) == (0, "")
    assert told.out.startswith(f"quick v1  {digest_of('v1')}")
    document = json.loads(tidegate("register", "lineage", "v1", "--state", lived.folder, "--json").out)
    newest = document["answered"]["newest"]["request_id"]
    back = json.loads(tidegate("register", "lineage", newest, "--state", lived.folder, "--json").out)
    assert (back["version"], back["request"]["id"]) == ("v1", newest)
    wrong = tidegate("register", "lineage", "v7", "--state", lived.folder)
    assert (wrong.status, wrong.out) == (2, "")
    assert wrong.err.startswith("tidegate: version or request: got 'v7', takes a version (v2, MODEL@v2")


def test_an_order_needs_a_name_and_is_refused_with_status_1_where_the_answer_is_no(tidegate, lived, monkeypatch):
    monkeypatch.setenv("USER", "ann")
    words = ("release", "rollback", "quick-r1", "--reason", "r", "--state", lived.folder)
    told = tidegate(*words)
    assert (told.status, told.out) == (1, "")
    assert told.err == "tidegate: a release in state shadow takes no rollback\n"
    assert "is the champion already" in tidegate("release", "start", "v1", "--reason", "r", "--state", lived.folder).err
    assert tidegate("release", "pause", "quick-r1", "--state", lived.folder).out.startswith("quick-r1: pause is in the")
    assert lived.state.release["by"] == "ann"
    assert tidegate("release", "resume", "quick-r1", "--by", "bob", "--state", lived.folder).status == 0
    assert lived.state.release["by"] == "bob"


def test_abort_and_unquarantine_are_kept_with_who_and_why(tidegate, lived):
    by = ("--by", "ann", "--reason", "wrong data", "--state", lived.folder)
    assert tidegate("release", "abort", "quick-r1", *by).status == 0
    document = json.loads(tidegate("release", "unquarantine", digest_of("v2"), *by, "--json").out)
    assert document["quarantined"] == {}
    told = tidegate("log", "--kind", "release", "--state", lived.folder).out
    assert "abort by ann: wrong data" in told
