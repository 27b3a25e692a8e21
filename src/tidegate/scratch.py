"""The scratch folder of a run whose rows are not retained (``training.retain: false``). Does I/O.

``STATE/runs/<run>/scratch/`` holds everything that has rows in it: artifacts, what ingest keeps, the DVC remote and
temporary files. It is there from before the run starts, and is deleted when the run has ended, however it ended. The
file ``not-retained`` beside it stays, so that no step mistakes such a run for another.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.errors import PlatformError

FOLDER, MARK = "scratch", "not-retained"
_PARTS = ("root", "state", "tmp")
_TOLD = ("verdict", "feature_service", "data_version", "version", "digest", "mode", "parent")
"""Texts of a step's result that hold none of a row."""


def retains(arguments: Mapping[str, str]) -> bool:
    """Whether a run with these arguments keeps its rows; one without settings does."""
    settings = json.loads(arguments.get("settings") or "{}")
    return bool(settings.get("training", {}).get("retain", True))


def begin(run: Path) -> None:
    """Make the scratch folder of a run's folder."""
    for part in _PARTS:
        (run / FOLDER / part).mkdir(parents=True)
    (run / MARK).touch()


def forgets(run: Path) -> bool:
    """Whether the run in this folder is one whose rows are not retained."""
    return (run / MARK).exists()


def scratch_of(state: Path, run: str) -> Path | None:
    """The scratch folder of run `run`; None where its rows are retained. PlatformError when it is gone already."""
    folder = state / "runs" / run
    if not run or not forgets(folder):
        return None
    if not (folder / FOLDER).is_dir():
        raise PlatformError(f"run {run}: its rows are not retained, and its scratch folder is gone")
    return folder / FOLDER


def wipe(run: Path) -> None:
    """Delete a run's rows; again as often as one likes."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def without_rows(result: Mapping[str, Any]) -> dict[str, Any]:
    """A step's result without the texts that could quote a row."""
    return {name: value for name, value in result.items() if isinstance(value, int | float) or name in _TOLD}


def report_without_rows(report: Mapping[str, Any]) -> dict[str, Any]:
    """The data gate's report: counts and which guards were not assessed, without examples, which quote values."""
    kept = {name: report[name] for name in ("ok", "rows", "repaired", "quarantined") if name in report}
    guards = {table: text for table, text in report.get("guards", {}).items() if text.startswith("not assessed")}
    names = ("table", "check", "column", "rows")
    violations = [{name: found[name] for name in names if name in found} for found in report.get("violations", ())]
    return {**kept, **({"guards": guards} if guards else {}), "violations": violations}
