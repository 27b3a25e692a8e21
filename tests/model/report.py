"""What a change does to data, features, metrics, latency and cost: ``python -m tests.model.report --base HEAD^``.

The short run of the model validation, once as the base commit has it and once as this tree has it; both models are
asked about the same rows, each with its own tree's features.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.model import report_page
from tests.model.short_run import training
from tests.stages import ROOT
from tidegate.evaluate.curves import calibration, roc
from tidegate.evaluate.days import LEVEL, paired
from tidegate.evaluate.measure import by_day, values
from tidegate.ingest.arrivals import parse_manifest
from tidegate.serve.loaded import load_model
from tidegate.steps import COST
from tidegate.train.export import score
from tidegate.train.model_file import FeatureSchema
from tidegate.train.settings import parse_settings, parse_until
from tidegate.train.splits import split
from tidegate.version.diff import diff
from tidegate.workload import load_workload

MADE_OF = (
    *("src", "tests/model/short_run.py", "tests/model/params.yaml", "tests/stages.py"),
    *("params.yaml", "dvc.lock", "uv.lock", "feature_repo"),
)
"""What data, features and models are made of; a change of nothing here changes none."""
RUN = "import sys; from pathlib import Path; from tests.model.short_run import short_run; short_run(Path(sys.argv[1]))"
CALLS, ROUNDS = 40, 9


def main() -> None:
    """Write OUT/report.md, report.html and report.json; the Markdown goes to stdout too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="HEAD^", help="commit to compare with")
    parser.add_argument("--out", type=Path, default=Path("build/report"))
    given = parser.parse_args()
    told = compared(commit_of(given.base))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "report.json").write_text(json.dumps(told, indent=1) + "\n")
    (given.out / "report.html").write_text(report_page.page(told))
    (given.out / "report.md").write_text(text := report_page.markdown(told))
    print(text)


def commit_of(base: str) -> str:
    """The commit's name; that before HEAD where there is none of it, as of a branch that is new."""
    for name in (base, "HEAD^", "HEAD"):
        done = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", check=False)
        if done.returncode == 0:
            return done.stdout.decode().strip()
    raise SystemExit("report: no commit to compare with")


def compared(base: str) -> dict[str, Any]:
    """The report on this working tree against commit `base`."""
    changed = _git("diff", "--name-only", base, "--", *MADE_OF).stdout.split()
    changed += _git("ls-files", "--others", "--exclude-standard", "--", *MADE_OF).stdout.split()
    if not changed:
        return {"base": base, "same": True}
    with tempfile.TemporaryDirectory() as folder:
        tree, old, new = (Path(folder) / name for name in ("tree", "base", "head"))
        with tarfile.open(fileobj=io.BytesIO(_git("archive", base).stdout)) as packed:
            packed.extractall(tree, filter="data")
        _run(tree, old)
        refused = _run(ROOT, new)
        told = {"base": base, "same": False, "refused": refused, "tracked": [_tracked(tree), _tracked(ROOT)]}
        return told | measured(old, new)


def _run(tree: Path, folder: Path) -> str:
    """The short run of a tree; why its gate refused, empty where it did not. SystemExit where it did not train."""
    folder.mkdir()
    env = {**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}"}
    done = subprocess.run([sys.executable, "-c", RUN, folder], cwd=tree, env=env, capture_output=True, text=True)
    if not (folder / "data/model/training.json").exists():
        raise SystemExit(f"report: {tree.name}: nothing was trained:\n{done.stderr.strip()[-2000:]}")
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def measured(old: Path, new: Path) -> dict[str, Any]:
    """All figures, from the folders of the two runs."""
    settings = yaml.safe_load((new / "params.yaml").read_text())
    key = load_workload(settings["workload"]).key
    before, after = (_rows(folder, settings) for folder in (old, new))
    both = before.select(key).join(after.select(key), on=key)
    before, after = (one.join(both, on=key, how="semi").sort(key) for one in (before, after))
    folders = {"base": old / "data/model", "head": new / "data/model"}
    frames = {"base": before, "head": after}
    encoded = {who: FeatureSchema.load(folders[who]).encode_frame(frames[who]) for who in folders}
    scores = {who: score((folders[who] / "model.onnx").read_bytes(), encoded[who]) for who in folders}
    labels, days = after["label"].cast(float).to_numpy(), after["day"].to_numpy()
    facts = {who: training(folder) for who, folder in folders.items()}
    return {
        "until": settings["until"],
        "rows": len(labels),
        "days": len(np.unique(days)),
        "data": _data(old, new),
        "features": features(before, after, *(FeatureSchema.load(folder) for folder in folders.values())),
        "schema_changed": _differ(facts, "feature_schema_digest"),
        "architecture_changed": _differ(facts, "architecture_digest"),
        "metrics": metrics(labels, days, scores["base"], scores["head"]),
        "roc": {who: roc(labels, found) for who, found in scores.items()},
        "calibration": {who: calibration(labels, found) for who, found in scores.items()},
        "cost": _cost(folders, encoded),
    }


def _rows(folder: Path, settings: dict[str, Any]) -> Any:
    """The labelled rows of the gate window, with their day."""
    import polars as pl

    wanted = parse_settings(json.dumps(settings["settings"]))
    window = split(
        parse_until(settings["until"]), wanted.label_deadline.total_seconds(), wanted.gate_window.total_seconds()
    ).gate
    time_ = pl.col("event_timestamp").dt.timestamp("us") / 1e6
    found = pl.read_parquet(folder / "data/features.parquet").filter(pl.col("label").is_not_null())
    found = found.with_columns(time=time_, day=(time_ / 86400).floor().cast(pl.Int64))
    return found.filter((pl.col("time") > window.after) & (pl.col("time") <= window.until))


def metrics(labels: Any, days: Any, base: Any, head: Any) -> dict[str, dict[str, float | None]]:
    """Each metric of both, with the paired difference by day (this minus base) and its limits."""
    found, ours, theirs = {}, values(labels, head), values(labels, base)
    for name in ours:
        told = by_day(name, days, labels, head, base)
        one = paired(told["sums"], told["rows"], LEVEL)
        # of the AUC the days tell the loss, which falls as it rises
        low, high = (-one.upper, -one.lower) if name == "roc_auc" else (one.lower, one.upper)
        known = np.isfinite(low) and np.isfinite(high)
        difference = None if ours[name] is None or theirs[name] is None else ours[name] - theirs[name]
        limits = {"lower": float(low) if known else None, "upper": float(high) if known else None}
        found[name] = {"base": theirs[name], "head": ours[name], "difference": difference, **limits}
    return found


def features(before: Any, after: Any, old: FeatureSchema, new: FeatureSchema) -> dict[str, Any]:
    """Which features came, went, have another type or other values."""
    first, second = ({one.name: one for one in schema.features} for schema in (old, new))
    shared = [name for name in second if name in first]
    moved = [_moved(name, before[name], after[name]) for name in shared if name in before.columns]
    return {
        "count": len(second),
        "added": [name for name in second if name not in first],
        "removed": [name for name in first if name not in second],
        "retyped": [name for name in shared if first[name] != second[name]],
        "moved": [one for one in moved if one["share"]],
    }


def _moved(name: str, before: Any, after: Any) -> dict[str, Any]:
    differ = (before != after).fill_null(False) | (before.is_null() != after.is_null())
    number = after.dtype.is_numeric() and before.dtype.is_numeric()
    missing = {"missing_before": before.null_count() / len(before), "missing": after.null_count() / len(after)}
    means = {"before": before.mean() if number else None, "after": after.mean() if number else None}
    return {"name": name, "share": float(differ.mean()), **means, **missing}


def _data(old: Path, new: Path) -> dict[str, Any]:
    paths = [folder / "data/valid/manifest.json" for folder in (old, new)]
    pair = [parse_manifest(path.read_text(), str(path)) for path in paths]
    return {name: vars(one) for name, one in diff(*pair).items()}


def _cost(folders: dict[str, Path], encoded: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    spent = {who: _spent(folder / COST) for who, folder in folders.items()}
    size = {who: float((folder / "model.onnx").stat().st_size) for who, folder in folders.items()}
    return {"latency of a row, ms": _latency(folders, encoded), "training, CPU seconds": spent, "bytes": size}


def _latency(folders: dict[str, Path], encoded: dict[str, Any]) -> dict[str, float | None]:
    """Median milliseconds of one row; the models are asked in turn, so that what else the machine does hits both."""
    models, found = {who: load_model(folder) for who, folder in folders.items()}, {who: [] for who in folders}
    for _ in range(ROUNDS):
        for who, model in models.items():
            for row in np.linspace(0, len(encoded[who]) - 1, CALLS).astype(int):
                began = time.perf_counter()
                model.score(encoded[who][row : row + 1])
                found[who].append(1000 * (time.perf_counter() - began))
    return {who: float(np.median(spent)) for who, spent in found.items()}


def _spent(path: Path) -> float | None:
    return float(json.loads(path.read_text())["cpu_seconds"]) if path.is_file() else None


def _tracked(tree: Path) -> str:
    """What dvc.lock says of the data version."""
    lock = yaml.safe_load((tree / "dvc.lock").read_text())["stages"]
    return json.dumps(lock["version"]["outs"], sort_keys=True)


def _differ(facts: dict[str, dict[str, Any]], name: str) -> bool:
    return bool(facts["base"][name] != facts["head"][name])


def _git(*words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=check)


if __name__ == "__main__":
    main()
