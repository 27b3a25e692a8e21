"""The point-in-time join: every landed flight of the year with three views, through Feast and by bare polars.

Both sides read the same Parquet files, entity rows included, and end with an Arrow table. Cold is the first join of a
fresh process after its imports, with the files out of the page cache; warm is the median of the later ones. Feast's
duckdb store is measured on fewer rows where `ibis` is installed, and extrapolated by the line through both.
"""

from __future__ import annotations

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
DUCKDB_ROWS = (10_000, 50_000)
REPEATS, PROCESSES = 8, 3
Side = Mapping[str, Any]


def run() -> Result:
    """Measure every side in fresh processes, in turns."""
    with tempfile.TemporaryDirectory(prefix="tidegate-join-") as made:
        folder = Path(made)
        rows = prepare(folder)
        found: dict[str, list[Side]] = {"polars": [], "asof": []}
        for number in range(PROCESSES):
            for side, measured in found.items():
                say(f"join: {side}, {rows} rows, process {number + 1} of {PROCESSES}")
                measured.append(_side(side, folder, rows, REPEATS))
        duckdb = [_side("duckdb", folder, n, 2) for n in DUCKDB_ROWS] if _has_duckdb() else []
    return told(found["polars"], found["asof"], duckdb)


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
        table.write_parquet(views / f"{name}.parquet")
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
    views = repo / "feature_views.py"  # duckdb takes a relative path from the working folder
    views.write_text(views.read_text().replace("../data/", f"{folder}/data/"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        FeatureStore(repo_path=str(repo)).apply(load_objects(repo))


def _side(side: str, folder: Path, rows: int, repeats: int) -> Side:
    words = (sys.executable, "-m", "benchmarks.join_side", side, str(folder), str(rows), str(repeats))
    done = subprocess.run(words, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"join: {side} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _has_duckdb() -> bool:
    return importlib.util.find_spec("ibis") is not None


def told(polars: list[Side], asof: list[Side], duckdb: list[Side]) -> Result:
    """The result from the sides' measurements; SystemExit when the answers differ."""
    if any(side["sums"] != polars[0]["sums"] for side in (*polars, *asof)):
        raise SystemExit(f"join: the sides' answers differ: {polars[0]['sums']} and {asof[0]['sums']}")
    rows = int(polars[0]["rows"])
    bare, ours = times(polars), times(asof)
    table = [_row("bare polars join_asof", rows, bare), _row("Feast, our store", rows, ours)]
    ratio = {key: ours[key] / bare[key] for key in ("cold", "warm")}
    limit = "within 2x of bare polars"
    budgets = [Budget(f"{key} join", limit, f"{value:.2f}x", value <= 2) for key, value in ratio.items()]
    notes = ["opened: imports and opening the store, in a fresh process; not part of the join."]
    if duckdb:
        told_rows, budget, note = _duckdb(duckdb, rows, ours["warm"])
        table, budgets, notes = table + told_rows, [*budgets, budget], [*notes, note]
    else:
        notes.append("Feast's duckdb store was not measured: ibis-framework[duckdb] is not installed here.")
    title = f"point-in-time join, {rows} entity rows x 3 views, Parquet to Arrow"
    columns = ("side", "rows", "opened, s", "cold, s", "warm, s", "rows/s, warm")
    figures = {"rows": rows, "polars": bare, "asof": ours, "ratio": ratio, "duckdb": duckdb}
    return Result("join", title, columns, table, budgets, notes, figures)


def times(sides: list[Side]) -> dict[str, float]:
    """Medians over the processes, in seconds."""
    return {
        "opened": statistics.median(side["opened"] for side in sides),
        "cold": statistics.median(side["seconds"][0] for side in sides),
        "warm": statistics.median(spent for side in sides for spent in side["seconds"][1:]),
    }


def _row(name: str, rows: int, spent: Mapping[str, float]) -> tuple[str, ...]:
    seconds = (f"{spent[key]:.3f}" for key in ("opened", "cold", "warm"))
    return (name, f"{rows:,}", *seconds, f"{rows / spent['warm']:,.0f}")


def _duckdb(sides: list[Side], rows: int, ours: float) -> tuple[list[tuple[str, ...]], Budget, str]:
    """Rows of the table, the budget and the note, from a line through two sizes."""
    (small, low), (large, high) = ((side["rows"], side["seconds"][-1]) for side in sides)
    whole = high + (rows - large) * (high - low) / (large - small)
    table = [_row("Feast, duckdb store", int(side["rows"]), times([side])) for side in sides]
    table.append(("Feast, duckdb store", f"{rows:,}", "", "", f"{whole:.1f} (extrapolated)", f"{rows / whole:,.0f}"))
    budget = Budget(
        "warm join against Feast's duckdb store", "at least 50x", f"{whole / ours:.0f}x", whole / ours >= 50
    )
    return table, budget, f"duckdb at {rows:,} rows is not measured: a line through {small:,} and {large:,} rows."
