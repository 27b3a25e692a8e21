"""The journal as lines and documents."""

from __future__ import annotations

import json

import pytest

from tests.simulated_loop import START, candidate, digest_of
from tidegate.errors import UserError
from tidegate.journal import views
from tidegate.journal.events import GENESIS, Draft, canonical, seal
from tidegate.journal.fold import ModelState


def tell(kind: str, data: dict) -> str:
    line = views.line(seal(Draft(kind, START, data), "quick", 7, 0.0, GENESIS))
    head = f"    7  2013-07-01T00:00:00Z  quick  {kind:20s} "
    assert line.startswith(head.rstrip())
    return line[len(head) :]


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        ("serve.model", {"spec": {}}, ""),
        ("trigger.started", {"run": "quick-3", "causes": ["volume", "schedule"]}, "quick-3 volume, schedule"),
        ("trigger.finished", {"run": "quick-3", "ok": False, "error": "no rows"}, "quick-3 failed: no rows"),
        ("trigger.finished", {"run": "quick-3", "ok": True, "error": ""}, "quick-3 ok"),
        ("serve.traffic", {"split": [["v1", 0.99], ["v2", 0.01]], "mirrors": [], "release": "r"}, "v1 99%, v2 1%"),
        ("serve.traffic", {"split": [["v1", 1.0]], "mirrors": ["v2"]}, "v1 100%, mirrored to v2"),
        ("release.superseded", {"digest": "d", "reason": "superseded"}, "a newer candidate took its place"),
        ("release.superseded", {"digest": "d", "reason": "serves"}, "it is the champion already"),
        ("release.first", {"version": "v1", "reason": "first_version"}, "v1: nothing to compare with: the first"),
        ("release.command", {"command": {"command": "pause", "by": "ann"}}, "pause by ann"),
        ("register.candidate", candidate("v2"), "v2: proved not worse than the champion on the newest"),
        ("register.unchanged", {"version": "v1", "reason": "unchanged"}, "v1: the same model as one that is"),
        ("validate.refused", {"reason": "data_refused"}, "the data gate refused the rows"),
    ],
)
def test_one_event_is_one_line(kind, data, told):
    found = tell(kind, data)
    assert found.startswith(told) if told else found == ""
    assert "\n" not in found


def test_only_what_changed_something_is_told_unless_all_is_asked_for(lived):
    events = lived.journal.read("quick")
    few, every = list(views.log(lived.folder, None, False)), list(views.log(lived.folder, None, True))
    assert len(every) == len(events)
    assert 20 < len(few) < len(every) / 2
    quiet = [event for event in events if views.is_quiet(event)]
    assert len(few) + len(quiet) == len(every)
    assert {event.kind for event in quiet} == {"release.looked", "trigger.evaluated"}


def test_a_kind_is_asked_for_by_its_beginning(lived):
    kinds = [document["kind"] for document, _ in views.log(lived.folder, "release", True)]
    assert kinds
    assert all(kind.startswith("release.") for kind in kinds)
    assert list(views.log(lived.folder, "nothing", True)) == []


def test_every_event_is_a_document_and_a_line(lived):
    for document, line in views.log(lived.folder, None, True):
        assert json.loads(canonical(document))["hash"] == document["hash"]
        assert document["time"].endswith("Z")
        assert len(line.splitlines()) == 1


def test_a_journal_tells_its_story_in_lines(lived):
    lines = "\n".join(line for _, line in views.log(lived.folder, "release", False))
    for told in ("v1: nothing to compare with", "quick-r1: v2 against v1", "quick-r1 watch: proved not worse",
                 "quick-r2 aborted: proved worse"):  # fmt: skip
        assert told in lines


def test_status_says_who_serves_who_waits_and_who_is_in_quarantine(lived):
    document = views.status(lived.folder)
    (model,) = document["models"]
    assert (model["champion"]["version"], model["release"]["state"]) == ("v2", "aborted")
    assert model["quarantined"] == {digest_of("v3"): "proved_worse"}
    assert model["traffic"] == {"release": "", "split": [["v2", 1.0]], "mirrors": []}
    assert [version["version"] for version in model["versions"]] == ["v1", "v2", "v3"]
    text = views.status_text(document)
    assert text.startswith(f"quick at {model['time']}: serves v2 since {model['champion']['since']}")
    assert "release quick-r2: v3 against v2, aborted" in text


def test_status_says_what_runs_cost_with_what_is_left_on_disk_of_them(lived):
    told = {"step": "register", "seconds": 2.0, "cpu_seconds": 1.5, "peak_mib": 64.0, "cached": False}
    record = {**told, "verdict": "passed", "result": {}, "bytes_in": 3_000_000, "bytes_out": 1_000_000}
    events = lived.journal.read("quick")
    run = next(e.data["run"] for e in events if e.kind == "register.candidate" and e.data["version"] == "v2")
    path = lived.folder / "runs" / run / "steps" / "register.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    document = views.status(lived.folder)
    cost = document["models"][0]["cost"]
    assert cost["total"]["cpu_seconds"] == cost["runs"][run]["cpu_seconds"] == 1.5
    assert cost["steps"]["register"]["bytes_in"] == cost["versions"]["v2"]["bytes_in"] == 3_000_000
    assert "1.5 CPU-seconds, peak 64 MiB, 3.0 MB in, 1.0 MB out" in views.status_text(document)
    before = views.status(lived.folder, views.iso(START + 1.0))["models"][0]["cost"]
    assert run not in before["runs"]


def test_status_of_nothing_is_said():
    assert views.status_text({"models": []}) == "no models yet"
    empty = views.describe(ModelState(model="quick"))
    assert views.status_text({"models": [empty]}) == "quick at 1970-01-01T00:00:00Z: has no champion yet"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2013-07-01T00:00:00Z", START), ("2013-07-01", START), ("2013-07-01T02:00:00+02:00", START)],
)
def test_times_are_read_in_utc_where_no_zone_is_said(text, seconds):
    assert views.seconds(text, "--at") == seconds


def test_a_time_that_is_none_is_told_with_where_it_stood():
    with pytest.raises(UserError, match="--at: got 'noon', takes a time in ISO 8601"):
        views.seconds("noon", "--at")
