"""The point-in-time join: every landed flight of the year with three views, through Feast and by bare polars.

Every side reads the same Parquet files, entity rows included, and ends with an Arrow table or a pandas frame. Cold is
the first join of a fresh process after its imports, with the files out of the page cache; warm is the median of the
later ones. Peak is what the joins took beside the opened store. Feast's duckdb store is measured at every size that it
finishes within a limit.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.results import ROOT, Budget, Result, say

STORES = {"asof": "tidegate.features.AsofOfflineStore", "duckdb": "duckdb"}
SIZES = (1_000, 10_000, 100_000)
REPEATS, PROCESSES = 8, 3
LIMIT = 600
"""Seconds for all joins of a duckdb process; a size that takes longer is told as such."""
NAMES = {"polars": "bare polars join_asof", "asof": "Feast, our store", "duckdb": "Feast, duckdb store"}
Side = Mapping[str, Any]


def run() -> Result:
    """Measure every side in fresh processes, in turns."""
    with tempfile.TemporaryDirectory(prefix="tidegate-join-") as made:
        folder = Path(made)
        sizes = (*SIZES, prepare(folder))
        found = {rows: _of_size(folder, rows) for rows in sizes}
    return told(found)


def _of_size(folder: Path, rows: int) -> dict[str, list[Side]]:
    """The sides' measurements with so many entity rows; duckdb in one process of few joins."""
    found: dict[str, list[Side]] = {"polars": [], "asof": [], "duckdb": []}
    for number in range(PROCESSES):
        for side in ("polars", "asof"):
            say(f"join: {side}, {rows} rows, process {number + 1} of {PROCESSES}")
            found[side].append(_side(side, folder, rows, REPEATS))
    if _has_duckdb():
        say(f"join: duckdb, {rows} rows")
        with contextlib.suppress(subprocess.TimeoutExpired):
            found["duckdb"].append(_side("duckdb", folder, rows, 2, LIMIT))
    return found


def prepare(folder: Path) -> int:
    """Write entity rows, views and a Feast repo for each store; returns the number of entity rows."""
    import polars as pl

    from flights.workload import flight_delay
    from tidegate.features.asof import TIME
    from tidegate.validate.repair import CHANGED, repaired

    end = datetime(2014, 1, 8, tzinfo=UTC)
    contract, tables = flight_delay.contract().tables, flight_delay.source.arrivals(end)
    clean = {name: repaired(tables[name], contract[name])[0].drop(CHANGED) for name in contract}
    entities = flight_delay.entities(clean, end).filter(pl.col("outcome") == "observed")
    asked = entities.select("origin", "tailnum", TIME).sort(TIME, maintain_order=True)
    asked.write_parquet(folder / "entities.parquet")
    views = folder / "data" / "views"
    views.mkdir(parents=True)
    for name, table in flight_delay.views(clean).items():
        (views / name).mkdir()
        table.write_parquet(views / name / "batch.parquet")
    for side in STORES:
        if side != "duckdb" or _has_duckdb():
            _make_repo(folder, side)
    return entities.height


def _make_repo(folder: Path, side: str) -> None:
    """A copy of the product's Feast repo beside the views, applied, with the side's offline store."""
    from tidegate.features.feast_repo import load_objects, quick_import

    with quick_import():
        from feast import FeatureStore

    repo = folder / side
    shutil.copytree(ROOT / "feature_repo", repo, ignore=shutil.ignore_patterns("__pycache__"))
    text = (repo / "feature_store.yaml").read_text().replace(STORES["asof"], STORES[side])
    (repo / "feature_store.yaml").write_text(text.replace("../data/feast", f"../data/{side}"))
    views = repo / "feature_views.py"  # duckdb takes a relative path from the working folder, and no folder
    views.write_text(views.read_text().replace("../data/views/{name}", f"{folder}/data/views/{{name}}/batch.parquet"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        FeatureStore(repo_path=str(repo)).apply(load_objects(repo))


def _side(side: str, folder: Path, rows: int, repeats: int, limit: float | None = None) -> Side:
    words = (sys.executable, "-m", "benchmarks.join_side", side, str(folder), str(rows), str(repeats))
    done = subprocess.run(
        words, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=limit
    )
    if done.returncode:
        raise SystemExit(f"join: {side} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _has_duckdb() -> bool:
    return importlib.util.find_spec("ibis") is not None


def told(found: Mapping[int, Mapping[str, list[Side]]]) -> Result:
    """The result from the measurements by size and side; SystemExit when the answers differ."""
    for rows, sides in found.items():
        sums = [one["sums"] for measured in sides.values() for one in measured]
        if any(one != sums[0] for one in sums):
            raise SystemExit(f"join: the sides' answers differ at {rows} rows: {sums}")
    spent = {rows: {side: times(all_) for side, all_ in sides.items() if all_} for rows, sides in found.items()}
    rows = max(spent)
    ratios = {key: spent[rows]["asof"][key] / spent[rows]["polars"][key] for key in ("cold", "warm")}
    limit = "within 2x of bare polars"
    budgets = [Budget(f"{key} join", limit, f"{value:.2f}x", value <= 2) for key, value in ratios.items()]
    notes = ["opened: imports and opening the store, in a fresh process; not part of the join."]
    if any("duckdb" in sides for sides in spent.values()):
        ratio = {
            size: sides["duckdb"]["warm"] / sides["asof"]["warm"] for size, sides in spent.items() if "duckdb" in sides
        }
        budgets.append(_against_duckdb(max(ratio), ratio[max(ratio)]))
        grown = ", ".join(f"{value:.0f}x at {size:,} rows" for size, value in ratio.items())
        notes.append(f"warm against Feast's duckdb store: {grown}.")
        notes += [f"duckdb at {size:,} rows: stopped after {LIMIT} s." for size in spent if "duckdb" not in spent[size]]
    else:
        notes.append("Feast's duckdb store was not measured: ibis-framework[duckdb] is not installed here.")
    title = f"point-in-time join, {rows} entity rows x 3 views, Parquet to Arrow"
    columns = ("side", "rows", "opened, s", "cold, s", "warm, s", "to_df, s", "rows/s, warm", "peak, MiB")
    table = [_row(NAMES[side], size, of) for size, sides in spent.items() for side, of in sides.items()]
    figures = {"seconds": {str(size): sides for size, sides in spent.items()}, "ratio": ratios}
    return Result("join", title, columns, table, budgets, notes, figures)


def times(sides: list[Side]) -> dict[str, float]:
    """Medians over the processes, in seconds; the peak in MiB."""
    return {
        "opened": statistics.median(side["opened"] for side in sides),
        "cold": statistics.median(side["seconds"][0] for side in sides),
        "warm": statistics.median(spent for side in sides for spent in side["seconds"][1:]),
        "frame": statistics.median(spent for side in sides for spent in side["frames"]),
        "peak": statistics.median(side["peak"] for side in sides) / 2**20,
    }


def _row(name: str, rows: int, spent: Mapping[str, float]) -> tuple[str, ...]:
    seconds = (f"{spent[key]:.3f}" for key in ("opened", "cold", "warm", "frame"))
    return (name, f"{rows:,}", *seconds, f"{rows / spent['warm']:,.0f}", f"{spent['peak']:.0f}")


def _against_duckdb(rows: int, ratio: float) -> Budget:
    """The budget of the largest size that duckdb finished; the smaller ones show the growth."""
    return Budget(
        f"warm join of {rows:,} rows against Feast's duckdb store", "at least 50x", f"{ratio:.0f}x", ratio >= 50
    )
