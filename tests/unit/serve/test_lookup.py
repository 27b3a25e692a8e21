"""Precomputed predictions by key: what the last batch said, how old it is, and what was never said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from asked import server

from tidegate.errors import PlatformError
from tidegate.serve.lookup import Lookup, LookupRoute, LookupWriter, lookup_file

AT = 1_372_636_800.0


def predicted(path: Path, scores: dict, model: str = "m@v1", at: float = AT, finished: bool = True) -> None:
    writer = LookupWriter(path, model, "sha256:" + model, at)
    writer.add([key if isinstance(key, tuple) else (key,) for key in scores], scores.values())
    writer.save()
    if finished:
        writer.finish()


def test_a_key_is_found_with_its_model_and_age(tmp_path):
    path = lookup_file(tmp_path)
    lookup = Lookup(path)
    assert lookup.find("F-1", AT) is None
    predicted(path, {"F-1": 0.25, ("UA", None, 7): 0.5})
    found = lookup.find("F-1", AT + 90.5)
    assert (found.score, found.model, found.digest, found.at, found.age_seconds) == (
        0.25, "m@v1", "sha256:m@v1", AT, 90.5,
    )  # fmt: skip
    assert lookup.find("UA,,7", AT - 5).age_seconds == 0.0
    assert lookup.find("F-2", AT) is None


def test_the_next_batch_replaces_key_by_key_and_forgets_the_rest_when_it_is_whole(tmp_path):
    path = lookup_file(tmp_path)
    predicted(path, {"a": 0.1, "b": 0.2, "c": 0.3})
    lookup = Lookup(path)
    predicted(path, {"a": 0.9}, "m@v2", AT + 60, finished=False)
    assert [lookup.find(key, AT + 60).model for key in "abc"] == ["m@v2", "m@v1", "m@v1"]
    predicted(path, {"a": 0.9, "b": 0.8}, "m@v2", AT + 60)
    assert [lookup.find(key, AT + 60) and lookup.find(key, AT + 60).score for key in "abc"] == [0.9, 0.8, None]


def test_rows_that_were_not_saved_are_not_found(tmp_path):
    path = lookup_file(tmp_path)
    predicted(path, {"a": 0.1})
    writer = LookupWriter(path, "m@v2", "d", AT)
    writer.add([("a",)], [0.7])
    assert Lookup(path).find("a", AT).score == 0.1


def test_a_file_that_is_none_of_ours_is_the_machines_fault_in_one_line(tmp_path):
    (tmp_path / "lookup.db").write_text("no database " * 100)
    with pytest.raises(PlatformError, match=r"lookup\.db: file is not a database"):
        LookupWriter(tmp_path / "lookup.db", "m", "d", AT)


def test_the_service_answers_by_key(model_folder, tmp_path):
    path = lookup_file(tmp_path)
    predicted(path, {"F 1/2": 0.25}, "flight-delay@v0")
    found = server(model_folder, tmp_path / "rows")
    found.app.add(LookupRoute.operation, LookupRoute(found.app.scorer, path))
    status, _, body = found.ask("/lookup/F-1", method="GET")
    assert (status, json.loads(body)["error"]) == (
        400,
        "at: got None, takes the request's time: no time was announced yet",
    )
    found.app.scorer.announced = AT + 7200
    status, headers, body = found.ask("/lookup/F%201%2F2", method="GET")
    assert status == 200
    assert json.loads(body) == {
        "key": "F 1/2", "score": 0.25, "model": "flight-delay@v0", "digest": "sha256:flight-delay@v0", "at": AT,
        "age_seconds": 7200.0,
    }  # fmt: skip
    assert headers["x-tidegate-model"] == "flight-delay@v1"
    status, _, body = found.ask("/lookup/other", method="GET")
    assert (status, json.loads(body)["error"]) == (
        404, "key: got 'other', takes a key that the last scheduled batch has predicted",
    )  # fmt: skip
    paths = json.loads(found.ask("/openapi.json", method="GET")[2])["paths"]
    assert set(paths["/lookup/{key}"]["get"]["responses"]) == {"200", "400", "404", "405", "500"}
    found.app.scorer.log.close()
