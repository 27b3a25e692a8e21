from __future__ import annotations

import sys
from pathlib import Path

import pytest

for folder in (Path(__file__).parents[3], Path(__file__).parents[2], Path(__file__).parent):
    sys.path.insert(0, str(folder))

from tiny_models import write_model  # noqa: E402

from tidegate.train.model_file import folder_name  # noqa: E402


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("models")
    return store / folder_name(write_model(store))
