"""From answered requests to versions and back, on a journal and a prediction log that a real loop wrote."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.simulated_loop import START, World, digest_of
from tidegate.errors import UserError
from tidegate.journal.events import GENESIS, Draft, seal
from tidegate.observations import Prediction, SegmentReader
from tidegate.register import lineage, trace
from tidegate.register.answered import answered


@pytest.fixture(scope="module")
def lived(tmp_path_factory) -> World:
    """v2 took v1's place, v3 was aborted."""
    world = World(tmp_path_factory.mktemp("lived"), bad=frozenset({"v3"}))
    world.start()
    world.hand_in("v1")
    world.looks(1)
    world.hand_in("v2")
    world.until(lambda state: state.champion.version == "v2")
    world.hand_in("v3")
    world.until(lambda state: digest_of("v3") in state.quarantined)
    return world


def predictions(world):
    records = SegmentReader(world.folder / "observations" / "predictions").read()
    return [record for record in records if isinstance(record, Prediction)]


def test_every_answered_request_leads_to_the_version_that_answered_it(lived):
    sent = [one for one in predictions(lived) if one.arm == one.version]
    assert {one.version for one in sent} == {"v1", "v2"}  # v3 was aborted while it answered copies
    for one in sent[:: len(sent) // 12]:
        name = one.request_id.removesuffix("/0")
        found = trace.trace(lived.folder, name)
        assert (found["version"], found["digest"], found["model"]) == (one.version, one.digest, "quick")
        assert found["request"]["rows"] == [{"row": one.request_id, "score": one.score}]
        assert trace.trace(lived.folder, one.request_id)["digest"] == one.digest
        copies = {p.version for p in predictions(lived) if p.request_id == one.request_id and p.arm != p.version}
        assert set(found["request"]["copied_to"]) == copies


def test_a_version_leads_back_to_what_it_answered(lived):
    every = predictions(lived)
    rows = Counter(one.version for one in every)
    copies = Counter(one.version for one in every if one.arm != one.version)
    for version in ("v1", "v2", "v3"):
        found = trace.trace(lived.folder, version)
        assert (found["answered"]["rows"], found["answered"]["copies"]) == (rows[version], copies[version])
        if (newest := found["answered"]["newest"]) is None:
            assert version == "v3"
        else:
            assert trace.trace(lived.folder, newest["request_id"])["version"] == version
    log = answered(lived.folder / "observations" / "predictions")
    assert sum(tally.rows for tally in log.tallies.values()) == len(every)


def test_a_version_tells_its_run_its_releases_and_when_it_was_champion(lived):
    first, second, third = (trace.trace(lived.folder, version) for version in ("v1", "quick@v2", digest_of("v3")))
    assert first["run"] == {
        "run": "hand-v1", "cause": None, "by": "person", "until": None, "workload": None, "mlflow_run_id": None,
    }  # fmt: skip
    assert [one["until"] for one in first["champion"]] == [one["since"] for one in second["champion"]]
    assert second["champion"][0]["until"] is None
    assert [(one["release"], one["against"]) for one in second["releases"]] == [("quick-r1", "v1")]
    assert [(one["state"], one["reason"]) for one in third["releases"]] == [("aborted", "proved_worse")]
    assert (third["quarantined"], third["champion"]) == ("proved_worse", [])


def test_the_tree_is_text_and_the_document_is_json(lived):
    told = trace.text(trace.trace(lived.folder, "v3")).splitlines()
    assert told[0].startswith(f"quick v3  {digest_of('v3')}  files ")
    assert any(line.startswith("├ quarantine proved worse than the champion") for line in told)
    assert told[-1].startswith("└ answered")
    (sent, *_) = [one for one in predictions(lived) if one.version == "v1"]
    document = trace.trace(lived.folder, sent.request_id)
    assert trace.text(document).startswith(f"request {sent.request_id}  2013-07-0")
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("asked", ["v9", "nothing", "other@v1", "sha256:0000", "q1/7", "", "v1@v1"])
def test_what_nobody_knows_is_one_line(lived, asked):
    with pytest.raises(UserError, match="takes a version") as told:
        trace.trace(lived.folder, asked)
    assert len(str(told.value).splitlines()) == 1


def test_a_torn_and_a_foreign_line_of_the_log_are_passed_over(lived, tmp_path):
    lines = [b'{"t":"l","request_id":"q1/0"}', b"no json", b'{"t":"m","time":1.0}']
    good = next((lived.folder / "observations" / "predictions").glob("*.jsonl")).read_bytes().splitlines()[0]
    (tmp_path / "w.000001.jsonl").write_bytes(b"\n".join([*lines, good, good[:40]]))
    (tmp_path / "notes.txt").write_bytes(good + b"\n")
    assert sum(tally.rows for tally in answered(tmp_path).tallies.values()) == 1


def candidate(version, digest, **data):
    gate = {"verdict": "passed", "reason": "not_worse"}
    same = {"run": f"run-{version}", "version": version, "digest": digest, "gate": gate, "data_version": "d.dir"}
    return Draft("register.candidate", START, {**same, **data})


def told_by(model, *drafts):
    return [seal(draft, model, seq, 0.0, GENESIS) for seq, draft in enumerate(drafts, 1)]


def test_a_minor_names_its_parents_up_to_the_major_and_a_parent_its_children():
    events = told_by(
        "m",
        candidate("v1", "sha256:a"),
        candidate("v1.1", "sha256:b", parent="v1", data_version="e.dir"),
        candidate("v1.2", "sha256:c", parent="v1.1"),
    )
    found = lineage.lineage(events, "sha256:c")
    assert [(one["version"], one["run"]) for one in found["parents"]] == [("v1.1", "run-v1.1"), ("v1", "run-v1")]
    assert found["same_data"] == ["v1"]
    assert lineage.lineage(events, "sha256:a")["children"] == ["v1.1"]


def test_a_version_of_two_models_is_asked_for_with_its_model():
    histories = {
        name: told_by(name, candidate("v1", f"sha256:{digit * 64}")) for name, digit in (("a", "1"), ("b", "2"))
    }
    with pytest.raises(UserError, match="'v1', takes one of several: a@v1 or b@v1"):
        lineage.find_version(histories, "v1")
    assert lineage.find_version(histories, "b@v1") == ("b", "sha256:" + "2" * 64)
    assert lineage.find_version(histories, "1" * 8) == ("a", "sha256:" + "1" * 64)
    assert lineage.find_version(histories, "1" * 7) is None
