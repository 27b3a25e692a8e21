from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for folder in (Path(__file__).parents[3], Path(__file__).parents[2]):
    sys.path.insert(0, str(folder))

from tiny_models import write_model  # noqa: E402

from tidegate.targets.local import LocalTarget  # noqa: E402
from tidegate.train.model_file import folder_name, write_manifest  # noqa: E402


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder models/ and the digests in it; v9 never becomes ready: its reference rows are answered otherwise."""
    models = tmp_path_factory.mktemp("store") / "models"
    digests = {version: write_model(models, bias) for version, bias in {"v1": 0.1, "v1.1": 0.2, "v2": 0.3}.items()}
    broken = models / folder_name(write_model(models, 0.4))
    reference = json.loads((broken / "reference.json").read_text())
    reference["scores"][0] += 0.1
    (broken / "reference.json").write_text(json.dumps(reference))
    digests["v9"] = write_manifest(broken)
    broken.rename(models / folder_name(digests["v9"]))
    return models, digests


@pytest.fixture(scope="session")
def steep(store: tuple[Path, dict[str, str]]) -> dict[str, str]:
    """Two more versions in the store that rank the other way round."""
    return {"v1": write_model(store[0], 0.5), "v2": write_model(store[0], 0.5, weights=(-0.4, 0.6, 0.05))}


@pytest.fixture
def state(tmp_path: Path, store: tuple[Path, dict[str, str]]) -> Path:
    shutil.copytree(store[0], tmp_path / "models")
    (tmp_path / "token").write_text("secret")
    return tmp_path


@pytest.fixture
def digests(store: tuple[Path, dict[str, str]]) -> dict[str, str]:
    return store[1]


@pytest.fixture
def target(state: Path) -> Iterator[LocalTarget]:
    found = LocalTarget(state, model="flight-delay", port=0, clock="events", control_port=9)
    try:
        found.start()
        yield found
    finally:
        found.stop()
    assert found._record.alive == ()
