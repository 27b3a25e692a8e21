"""Data validation: the data version that git tracks (dvc.lock), made again from its sources, through the data gate."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from tests.stages import ROOT, stages
from tidegate.validate.step import REPORT

LOCK = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A root folder with what ingest, validate and version made of params.yaml."""
    folder = tmp_path_factory.mktemp("tracked")
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump({**settings, "state": str(folder / "state")}))
    stages(folder / "params.yaml", folder / "data", "ingest", "validate", "version")
    return folder / "data"


def test_the_data_gate_passes_and_puts_no_row_aside(data):
    report = json.loads((data / "valid" / REPORT).read_text())
    assert (report["ok"], report["violations"], report["quarantined"]) == (True, [], 0)
    assert report["rows"] > 100_000


@pytest.mark.parametrize("stage", ["ingest", "validate", "version"])
def test_it_is_the_tracked_version_to_the_byte(data, stage):
    """Where this is meant to change: `dvc repro`, and commit dvc.lock."""
    for out in LOCK[stage]["outs"]:
        made = (data.parent / out["path"]).read_bytes()
        assert hashlib.md5(made, usedforsecurity=False).hexdigest() == out["md5"], f"{out['path']} is not dvc.lock's"
