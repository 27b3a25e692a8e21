"""Freshness: planted windows and cadences recovered on drawn streams, data against model, and the flights' table."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.results import ROOT, Budget, Result, say
from tidegate.evaluate.freshness_report import Wanted, freshness
from tidegate.spec import load_model

sys.path.insert(0, str(ROOT / "tests"))
import freshness_streams as streams

MODEL = ROOT / "k8s/models/flight-delay.yaml"
SEEDS = range(60, 64)
"""Four streams of each kind, twenty in all; not those that the kinds were made with."""
CASES = range(40, 45)
SINCE = "2013-02-01"
"""The flights' stale model is one of January; the other backtest chooses by the span, and its stale one knows half."""
COLUMNS = ("stream", "seed", "planted", "found", "gain over stale", "best", "as good")


def run() -> Result:
    """Twenty streams, then the four cases five times each, then the flights twice."""
    rows, right, figures = _streams()
    said = _cases()
    flights = _flights()
    told = [f"{case}: {sum(found)} of {len(found)}" for case, found in said.items()]
    cases = sum(map(sum, said.values()))
    budgets = (
        Budget(
            "planted window and cadence recovered",
            f"{len(rows)} of {len(rows)} streams",
            str(right),
            right == len(rows),
        ),
        Budget("data or model said rightly", "all planted cases", ", ".join(told), cases == len(CASES) * len(said)),
    )
    notes = [f"flights, {line}" for name, found in flights.items() for line in _told(name, found)]
    everything = {"streams": figures, "cases": said, "flights": flights}
    return Result("freshness", "what newer data is worth", COLUMNS, rows, budgets, notes, everything)


def _streams() -> tuple[list[tuple[str, ...]], int, list[dict[str, Any]]]:
    rows, figures = [], []
    for kind, planted in streams.BEST.items():
        for seed in SEEDS:
            played, found = streams.recovered(kind, seed)
            cell, line = played.cells[found.recommended].cell, found.lines[found.recommended]
            got = cell.window.name, cell.cadence.name
            best, kept = played.cells[found.best].cell, sum(one.kept for one in found.lines)
            gain = f"{line.gain.estimate:+.4f} ({line.gain.lower:+.4f} to {line.gain.upper:+.4f})"
            about = f"{best.window.name}, {best.cadence.name}", f"{kept} of {len(found.lines)}"
            rows.append((kind, str(seed), ", ".join(planted), ", ".join(got), gain, *about))
            figures.append({"kind": kind, "seed": seed, "planted": planted, "found": got, "gain": vars(line.gain)})
            say(f"freshness: {kind} {seed}: {', '.join(got)}")
    return rows, sum(tuple(one["found"]) == tuple(one["planted"]) for one in figures), figures


def _cases() -> dict[str, list[bool]]:
    said = {}
    for case in streams.PAYS:
        said[case] = [streams.iterated(case, seed).iteration.verdict == case for seed in CASES]
        say(f"freshness: {case} pays: right in {sum(said[case])} of {len(said[case])}")
    return said


def _flights() -> dict[str, dict[str, Any]]:
    model = load_model(MODEL)
    with tempfile.TemporaryDirectory(prefix="tidegate-freshness-") as name:
        asked = {
            f"stale since {SINCE}": Wanted(
                until="2014-01-02", since=SINCE, windows="all", cadences="quarterly,monthly"
            ),
            "chosen by the span": Wanted(until="2014-01-02"),
        }
        return {about: freshness(model, Path(name), wanted, None) for about, wanted in asked.items()}


def _told(name: str, found: dict[str, Any]) -> list[str]:
    """A line a month with the AUC of each cadence, then what is recommended."""
    columns, wanted, iteration = found["timeline"]["columns"], found["recommendation"], found["iteration"]
    lines = [
        f"{name}, window {found['timeline']['window']}, AUC of {period['name']}: "
        + ", ".join(f"{column} {value:.3f}" for column, value in zip(columns, period["roc_auc"], strict=True))
        for period in found["timeline"]["periods"]
        if period["rows"] > 1000
    ]
    cell = f"{wanted['window']}, {wanted['cadence']}, {wanted['mode']}"
    return [
        *lines,
        f"{name}: recommended {cell}: {wanted['reason']}",
        f"{name}: {iteration['verdict']}: {iteration['reason']}",
    ]
