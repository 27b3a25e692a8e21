"""Three families searched on real flights, and LightGBM on two Dask workers beside one process."""

from __future__ import annotations

import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.results import Budget, Result, say
from tidegate.evaluate.step import evaluate
from tidegate.features.step import features
from tidegate.ingest.step import ingest
from tidegate.spec import TrainingSpec
from tidegate.state import prepare
from tidegate.train.settings import ParentFacts, RunSettings
from tidegate.train.step import train
from tidegate.validate.step import validate
from tidegate.version.step import version

WORKLOAD = "flights.workload:flight_delay"
UNTIL = datetime(2013, 8, 1, tzinfo=UTC).isoformat()
FAMILIES = ("lightgbm", "hist_gradient_boosting", "logistic_regression")
TRIALS = 24
COLUMNS = ("family", "log loss (95 %)", "behind the winner (95 %)", "CPU s", "KB", "select", "components", "reason")


def run() -> Result:
    """Features of the flights until `UNTIL`, then a search, then two fits that the model gate compares."""
    with tempfile.TemporaryDirectory(prefix="tidegate-candidates-") as name:
        folder = Path(name)
        rows = _features(folder)
        say("candidates: features are there")
        searched, spent = _trained(rows, folder / "searched", families=FAMILIES, search_trials=TRIALS)
        say(f"candidates: searched in {spent:.0f} s")
        alone, spread, verdict = _on_two_workers(rows, folder)
    return _result(searched, spent, alone, spread, verdict)


def _features(folder: Path) -> Path:
    state, out = prepare(folder / "state"), {name: folder / name for name in ("raw", "valid", "version", "features")}
    ingest(WORKLOAD, UNTIL, out["raw"], state)
    validate(out["raw"], WORKLOAD, out["valid"], None)
    version(out["valid"], state, out["version"])
    features(out["valid"], WORKLOAD, out["version"], state, out["features"])
    return out["features"]


def _trained(rows: Path, out: Path, **training: Any) -> tuple[dict[str, Any], float]:
    started = time.monotonic()
    train(rows, WORKLOAD, UNTIL, RunSettings(training=TrainingSpec(**training)).text(), None, out)
    return json.loads((out / "training.json").read_text()), time.monotonic() - started


def _on_two_workers(rows: Path, folder: Path) -> tuple[float, float, dict[str, Any]]:
    """Seconds of one process and of two workers, and what the gate says of the second beside the first."""
    import dask.config
    from distributed import LocalCluster

    first, alone = _trained(rows, folder / "alone")
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        dask.config.set({"scheduler-address": cluster.scheduler_address}),
    ):
        _, spread = _trained(rows, folder / "spread", engine="dask")
    names = ("digest", "feature_schema_digest", "architecture_digest", "train_until")
    parent = ParentFacts(version="v1", **{name: first[name] for name in names})
    told = folder / "gate.json"
    evaluate(folder / "spread", rows, WORKLOAD, UNTIL, RunSettings(parent=parent).text(), folder / "alone", told)
    return alone, spread, json.loads(told.read_text())


def _result(searched: dict[str, Any], spent: float, alone: float, spread: float, gate: dict[str, Any]) -> Result:
    table, check = searched["choice"]["table"], gate["checks"]["log_loss"]
    met = {entry["family"] for entry in table} == set(FAMILIES) and all(entry["reason"] for entry in table)
    told = f"{check['estimate']:+.5f} ({check['lower']:+.5f} to {check['upper']:+.5f})"
    budgets = (
        Budget("every family in the table, every line with its reason", "yes", "yes" if met else "no", met),
        Budget(
            "log loss on two workers over one process",
            "passed",
            f"{gate['verdict']} {told}",
            gate["verdict"] == "passed",
        ),
    )
    notes = (
        f"{searched['train_rows']:,} training rows; {len(table)} settings in {spent:.0f} s",
        f"chosen: {searched['choice']['reason']}",
        f"LightGBM alone {alone:.1f} s, on two workers here {spread:.1f} s, without the cluster's start-up",
    )
    figures = {"table": table, "check": check, "seconds": {"search": spent, "alone": alone, "spread": spread}}
    return Result(
        "candidates", "families searched, and a cluster", COLUMNS, [_row(one) for one in table], budgets, notes, figures
    )


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    behind = (
        ""
        if entry["behind"] is None
        else (f"{entry['behind']:+.4f} ({entry['behind_lower']:+.4f} to {entry['behind_upper']:+.4f})")
    )
    return (
        entry["family"],
        f"{entry['log_loss']:.4f} ({entry['lower']:.4f} to {entry['upper']:.4f})",
        behind,
        f"{entry['seconds']:.1f}",
        f"{entry['size'] / 1000:.0f}",
        f"{entry['setting']['select']:.2f}",
        str(entry["setting"]["components"]),
        entry["reason"].partition(":")[0],
    )
