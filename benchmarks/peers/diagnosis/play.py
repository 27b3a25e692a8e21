"""Run by the peers' own interpreter: what Evidently and NannyML say of each window, a JSON line each on stdout."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import nannyml
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

warnings.filterwarnings("ignore")


def drifted(reference: pd.DataFrame, current: pd.DataFrame, texts: list[str]) -> dict[str, Any]:
    """How many features Evidently holds to have drifted, and whether it says so of the data set."""
    numbers = [name for name in reference if name not in (*texts, "score", "label")]
    shape = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    sides = [Dataset.from_pandas(side[[*numbers, *texts]], data_definition=shape) for side in (current, reference)]
    told = Report([DataDriftPreset()]).run(*sides).dict()
    count = next(one["value"] for one in told["metrics"] if "DriftedColumnsCount" in one["metric_name"])
    return {"columns": int(count["count"]), "dataset": bool(count["share"] >= 0.5)}


def alerted(reference: pd.DataFrame, current: pd.DataFrame, rows: int) -> bool:
    """Whether NannyML estimates a ROC AUC outside of what it saw in the reference."""
    sides = [
        side[side["score"].notna()].assign(said=lambda one: (one["score"] > 0.5).astype(int))
        for side in (reference, current)
    ]
    estimator = nannyml.CBPE(
        metrics=["roc_auc"],
        y_pred_proba="score",
        y_pred="said",
        y_true="label",
        problem_type="classification_binary",
        chunk_size=rows,
    )
    known = sides[0][sides[0]["label"].notna()]
    estimator.fit(known)
    found = estimator.estimate(sides[1]).filter(period="analysis").to_df()
    return bool(found[("roc_auc", "alert")].any())


def main() -> None:
    """Windows are listed in a file of JSON lines."""
    asked = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    for number, one in enumerate(asked, 1):
        reference, current = (pd.read_parquet(path) for path in one["files"])
        said = {**drifted(reference, current, one["texts"]), "cbpe": alerted(reference, current, one["rows"])}
        print(json.dumps({"key": one["key"], **said}), flush=True)
        if number % 50 == 0:
            print(f"peers: {number} of {len(asked)} windows", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
