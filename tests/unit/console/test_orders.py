"""Who may order what, and how it is refused."""

from __future__ import annotations

import pytest

from tests.console_state import TOKEN
from tests.unit.console.conftest import Client
from tidegate.journal.replay import replay_state


@pytest.fixture
def console(fork) -> Client:
    return Client(fork.folder)


def commands(world):
    return [event.data["command"] for event in world.journal.read("quick") if event.kind == "release.command"]


def test_an_order_with_token_and_reason_is_in_the_journal_and_is_carried_out(console, fork):
    found = console.order("quick-r3", order="abort")
    assert (found.status_code, found.headers["location"]) == (303, "/console/models/quick/releases/quick-r3")
    assert commands(fork)[-1] == {"command": "abort", "by": "ann", "reason": "the labels look wrong"}
    fork.looks(1)
    assert fork.target.observe().split == (("v2", 1.0),)
    assert replay_state(fork.folder).fault == ""
    page = console.get("/console/models/quick/releases/quick-r3").text
    assert "abort by ann: the labels look wrong" in page


def test_a_bearer_token_does_as_well(console, fork):
    found = console.order("quick-r3", {"authorization": f"Bearer {TOKEN}"}, order="abort", token="")
    assert found.status_code == 303


def test_a_promoted_release_is_rolled_back(console, fork):
    fork.until(lambda state: state.release["state"] == "watch")
    assert console.order("quick-r3", order="rollback").status_code == 303
    assert fork.state.champion.version == "v2"


@pytest.mark.parametrize(
    ("more", "status", "says"),
    [
        ({"token": ""}, 401, "the token is not"),
        ({"token": "guess"}, 401, "the token is not"),
        ({"reason": " "}, 400, "reason: takes 1 to 500"),
        ({"by": ""}, 400, "by: takes 1 to 80"),
        ({"reason": "x" * 501}, 400, "reason: takes"),
        ({"order": "promote"}, 400, "takes one of approve, abort, rollback"),
        ({"order": "rollback"}, 409, "takes no rollback"),
        ({"headers": {"sec-fetch-site": "cross-site"}}, 403, "own page"),
        ({"headers": {"sec-fetch-site": "same-site"}}, 403, "own page"),
        ({"reason": "x" * 20_000}, 413, "over 16384 bytes"),
    ],
)
def test_what_is_refused_changes_nothing(console, fork, more, status, says):
    before = fork.state.seq
    found = console.order("quick-r3", **{"order": "abort", **more})
    assert found.status_code == status
    assert says in found.text
    assert fork.state.seq == before


def test_a_refused_form_keeps_what_was_typed_but_the_token(console):
    found = console.order("quick-r3", order="abort", token="guess", reason="typed with care")
    assert 'value="typed with care"' in found.text
    assert "guess" not in found.text


def test_an_order_for_another_release_is_refused(console):
    assert console.order("quick-r1", order="abort").status_code == 409


def test_without_a_token_in_the_folder_nothing_is_ordered(fork):
    (fork.folder / "token").unlink()
    assert Client(fork.folder).order("quick-r3", order="abort", token="").status_code == 401


def test_reading_is_not_ordering(console, fork):
    before = fork.state.seq
    path = "/console/models/quick/releases/quick-r3/orders"
    assert console.get(path).status_code == 405
    assert fork.state.seq == before
