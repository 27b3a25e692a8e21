"""Two projects as people have them: a notebook with a script, and a pipeline that starts itself and no more."""

from __future__ import annotations

import json
from pathlib import Path

CELLS = ["import pandas as pd\n", "%matplotlib inline\n", "from sklearn.linear_model import LogisticRegression\n"]
NOTEBOOK = {
    "explore.ipynb": json.dumps({"cells": [{"cell_type": "code", "source": CELLS}], "nbformat": 4}),
    "train.py": "import lightgbm\n\n# mlflow, pandera, feast: some day\nmodel = lightgbm.train({}, None)\n",
    "requirements.txt": "lightgbm\nmlflow\npandera\nfeast\nevidently\n",
    "README.md": "We use dvc, CI with pytest, a canary and drift monitoring.\n",
}
"""Words in comments, texts and requirements are no evidence."""

PIPELINE = {
    "dvc.yaml": """stages:
  take: {cmd: python steps/take.py, outs: [data/rows.parquet]}
  validate: {cmd: python steps/validate.py, deps: [data/rows.parquet]}
  train: {cmd: python steps/train.py, outs: [model.txt]}
  evaluate: {cmd: python steps/evaluate.py, deps: [model.txt]}
""",
    "dvc.lock": "schema: '2.0'\nstages: {}\n",
    "steps/validate.py": "import pandera.polars as pa\n",
    "steps/train.py": "import lightgbm\nimport mlflow\n",
    "feature_repo/feature_store.yaml": "project: churn\nprovider: local\n",
    ".github/workflows/nightly.yml": """on:
  schedule: [{cron: "0 3 * * *"}]
jobs:
  train:
    runs-on: ubuntu-latest
    steps:
    - run: dvc repro && dvc push
""",
}


def write(files: dict[str, str], folder: Path) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder
