"""Every compiled pipeline is what its code compiles to."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "pipelines"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_the_committed_package_is_the_compiled_one(tmp_path, name):
    made = importlib.import_module(f"pipelines.{name}").compile_package(tmp_path / f"{name}.yaml")
    committed = FOLDER / f"{name}.yaml"
    assert made.read_text() == committed.read_text(), f"pipelines/{name}.yaml is stale: run make golden and commit it"
