"""What an edge observed: nothing lost to ``kill -9``, and in the prediction log once, whenever an upload is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edges import World, request_row, running

from tidegate.observations import SegmentReader
from tidegate.serve.edge.kept import Kept
from tidegate.serve.edge_build import build
from tidegate.serve.edge_upload import upload


def test_answers_before_a_kill_go_up_once_with_what_was_answered(world: World, tmp_path: Path):
    built = world.build(tmp_path / "edge")
    with running(tmp_path / "edge") as edge:
        answers = {f"q{n}/0": edge.ask(request_row(n), **{"x-request-id": f"q{n}"}).json() for n in range(20)}
        edge.ask(request_row(3), **{"x-request-id": "q3"})
        edge.process.kill()
    assert upload(tmp_path / "edge", world.state).rows == 20
    assert upload(tmp_path / "edge", world.state).rows == 0
    with running(tmp_path / "edge") as edge:
        edge.ask(request_row(7), **{"x-request-id": "later"})
        assert upload(tmp_path / "edge", world.state).rows == 1
        assert edge.status()["observations"]["waiting"] == 0
    rows = {row.request_id: row for row in SegmentReader(world.state / "observations/predictions").read()}
    assert set(rows) == {*answers, "later/0"}
    for name, answer in answers.items():
        assert rows[name].score == answer["rows"][0]["score"]
        assert (rows[name].version, rows[name].digest, rows[name].arm) == ("v1", built.digest, None)
        assert rows[name].features == list(request_row(int(name[1:-2])).values())


@pytest.mark.parametrize("after", ["batch", "write"])
def test_an_upload_that_is_killed_is_gone_on_with(world: World, tmp_path: Path, after: str):
    folder = tmp_path / "edge"
    kept = Kept(folder / "var/edge.db")
    row = {"time": 1.0, "version": "v1", "digest": "d", "score": 0.5, "latency_ms": 1.0, "features": [], "keys": None,
           "fallback": None}  # fmt: skip
    kept.record([(f"a{n}/0", {**row, "request_id": f"a{n}/0"}) for n in range(5)])
    code = f"""
import os, signal, sys
from pathlib import Path
from tidegate.serve import edge_upload
from tidegate.serve.edge.kept import Kept
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
if {after!r} == "batch": edge_upload._write = die
else: Kept.uploaded = die
edge_upload.upload(Path(sys.argv[1]), Path(sys.argv[2]))
"""
    done = subprocess.run((sys.executable, "-c", code, str(folder), str(world.state)))
    assert done.returncode == -9
    kept.record([("b/0", {**row, "request_id": "b/0"}), ("a1/0", {**row, "request_id": "a1/0"})])
    assert upload(folder, world.state).rows == 6
    found = [row.request_id for row in SegmentReader(world.state / "observations/predictions").read()]
    assert sorted(found) == ["a0/0", "a1/0", "a2/0", "a3/0", "a4/0", "b/0"]
    kept.close()


def test_where_rows_are_not_retained_neither_head_nor_observations_hold_features(world: World, tmp_path: Path):
    world.log(np.arange(30))
    spec = world.model.spec.model_copy(
        update={"training": world.model.spec.training.model_copy(update={"retain": False})}
    )
    built = build(world.model.model_copy(update={"spec": spec}), world.state, tmp_path / "edge")
    assert built.head["answers"] == 0
    with running(tmp_path / "edge") as edge:
        assert edge.ask(request_row(5)).status_code == 200
    kept = Kept(tmp_path / "edge/var/edge.db")
    assert [row["features"] for row in kept.batch().rows] == [[]]
    kept.close()
    assert "0.625" not in json.dumps(str((tmp_path / "edge/var/edge.db").read_bytes()))
