"""The short run of the model validation; ``python -m tests.model.short_run`` makes its model the committed champion."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.stages import stages
from tidegate.train.lineage import format_version
from tidegate.train.model_file import folder_name
from tidegate.train.settings import parse_until

HERE = Path(__file__).parent
CHAMPION = HERE / "champion"
"""A model folder as a run makes it: ONNX, feature schema, reference rows, what it was trained on; no code."""


def short_run(folder: Path, champion: Path | None = None) -> Path:
    """Ingest to evaluate in `folder`, through the model gate beside `champion`; the folder of the artifacts.

    AssertionError with the gate's reason when one of the two gates refused.
    """
    told: dict[str, Any] = yaml.safe_load((HERE / "params.yaml").read_text())
    told |= {"state": str(folder / "state"), "champion": ""}
    if champion is not None:
        facts = training(champion)
        told["champion"] = facts["digest"]
        told["settings"]["parent"] = {
            "version": format_version(1, 0),
            **{key: facts[key] for key in ("digest", "feature_schema_digest", "architecture_digest")},
            "train_until": parse_until(told["until"]),
        }
        shutil.copytree(champion, folder / "state" / "models" / folder_name(facts["digest"]))
    (folder / "params.yaml").write_text(yaml.safe_dump(told))
    stages(folder / "params.yaml", folder / "data", "ingest", "validate", "version", "features", "train", "evaluate")
    return folder / "data"


def training(model: Path) -> dict[str, Any]:
    """What a model folder says of its training."""
    found: dict[str, Any] = json.loads((model / "training.json").read_text())
    return found


def main() -> None:
    """Train, and put the model in the champion's place."""
    with tempfile.TemporaryDirectory() as folder:
        made = short_run(Path(folder)) / "model"
        shutil.rmtree(CHAMPION, ignore_errors=True)
        shutil.copytree(made, CHAMPION, ignore=shutil.ignore_patterns("cost.json"))
    print(f"champion: {training(CHAMPION)['digest']}")


if __name__ == "__main__":
    main()
