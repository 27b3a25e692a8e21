"""k8s/crds is made from the Model file's own schema; `python -m k8s.crds` makes it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8s.crds.definitions import definitions, text

FOLDER = Path(__file__).resolve().parents[2] / "k8s/crds"


@pytest.mark.parametrize("name", definitions())
def test_the_definitions_are_the_schemas(name):
    assert (FOLDER / name).read_text(encoding="utf-8") == text(definitions()[name]), "run python -m k8s.crds"
