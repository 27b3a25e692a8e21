"""Evidently's DataDriftPreset and NannyML's CBPE on windows of the diagnosis report: how often each alarms.

Neither names a cause, so what is compared is whether it says anything at all. Both run with their defaults, in an
environment of their own (benchmarks/peers/diagnosis, locked).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import polars as pl

from benchmarks import diagnosis_worlds as worlds
from benchmarks.diagnosis_cells import Cell, look, windows_of
from benchmarks.diagnosis_report import CODE, SEEDS
from benchmarks.kept import done
from benchmarks.results import ROOT, Result
from benchmarks.servers import peers as environment_of
from tidegate.monitor.drift import Window

PLAYER = ROOT / "benchmarks/peers/diagnosis/play.py"
ROWS, QUIET, PLANTED = 2_000, 50, 10
"""Rows of a window; windows without drift, and of each planted cause and strength, in each of two worlds."""


def run() -> Result:
    """The share of windows in which each of the three says something, by what was planted."""
    cells = list(_cells())
    ours = done("diagnosis", cells, look, CODE)
    with tempfile.TemporaryDirectory() as folder:
        peers = _ask_peers(cells, Path(folder))
    by_cause: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_cause[
            f"{cell.cause}{'' if cell.cause in ('none', 'mcar') else ' clear' if cell.clear else ' subtle'}"
        ].append(cell)
    rows = []
    for cause, same in by_cause.items():
        said = [
            sum(bool(ours[cell]["findings"]) for cell in same),
            sum(peers[cell.key]["columns"] > 0 for cell in same),
            sum(peers[cell.key]["dataset"] for cell in same),
            sum(peers[cell.key]["cbpe"] for cell in same),
        ]
        rows.append((cause, str(len(same)), *(f"{count / len(same):.0%}" for count in said)))
    columns = ("planted", "windows", "tidegate", "Evidently, a column", "Evidently, dataset", "NannyML CBPE")
    return Result("diagnosis_peers", "windows in which each says something", columns, rows, (), NOTES)


NOTES = (
    f"The same windows of {ROWS:,} rows for all, of the drawn and of the flights' world, rows independent; none and "
    "mcar: every alarm is a false one.",
    "Evidently: DataDriftPreset over the features with its default tests; a column drifted, or half of them. NannyML: "
    "CBPE of ROC AUC, fitted on the reference in chunks of a window's size, its alert. Neither names a cause; CBPE "
    "does not look at labels, so that a changed P(y given x) is not its task.",
)


def _cells() -> list[Cell]:
    planted = [(cause, clear) for cause in (*worlds.CAUSES, worlds.UNDERSAMPLED) for clear in (False, True)]
    found = []
    for world in ("synth", "flights"):
        for cause, count in (("none", QUIET), ("mcar", QUIET)):
            found += [Cell(world, ROWS, cause, False, n % SEEDS, n) for n in range(count)]
        for cause, clear in planted:
            found += [Cell(world, ROWS, cause, clear, n % SEEDS, 1000 + n) for n in range(PLANTED)]
    return found


def _ask_peers(cells: list[Cell], folder: Path) -> dict[str, dict[str, float]]:
    """Each window written as two files, and what the peers said of it, by the cell's key."""
    listed = folder / "windows.jsonl"
    with listed.open("w") as out:
        for number, cell in enumerate(cells):
            reference, current = windows_of(cell)
            files = [folder / f"{number}-{which}.parquet" for which in ("reference", "current")]
            for window, path in zip((reference, current), files, strict=True):
                _frame(window).write_parquet(path)
            texts = [name for name, column in reference.features.items() if column.dtype.kind == "O"]
            asked = {"key": cell.key, "files": [str(path) for path in files], "texts": texts, "rows": ROWS}
            out.write(json.dumps(asked) + "\n")
    python = environment_of("diagnosis") / "python"
    silent = {**os.environ, "NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}
    told = subprocess.run((python, PLAYER, listed), env=silent, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {one["key"]: one for one in map(json.loads, told.splitlines())}


def _frame(window: Window) -> pl.DataFrame:
    return pl.DataFrame(
        {
            **{name: list(column) for name, column in window.features.items()},
            "score": window.score,
            "label": window.label,
        }
    )
