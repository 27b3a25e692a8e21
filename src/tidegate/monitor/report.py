"""What `tidegate monitor labels` says, from the joined history. Does I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tidegate.errors import UserError
from tidegate.ingest.disk import atomic_file
from tidegate.monitor.coverage import TENTHS, Labelled, labelled
from tidegate.monitor.history import History
from tidegate.monitor.history_rows import read_rows, score_quantiles
from tidegate.monitor.rows import Row
from tidegate.monitor.times import iso
from tidegate.spec import parse_span


def labels(
    history: History, window: float, slices: Sequence[str], slice_of: Callable[[Row], Sequence[str]]
) -> dict[str, Any]:
    """Label coverage and delay of the matured rows of the last `window` seconds; slices as in `labelled`.

    Raises UserError where nothing was joined yet, or a row's model is not there to name its slices.
    """
    told = history.manifest
    if not told.step:
        raise UserError(str(history.folder), "no joined history", "one; `tidegate monitor join` makes it")
    end = max(min(told.until, told.newest) - told.deadline, 0.0)
    start = max(end - window, 0.0)
    # the newest matured row is part of the window
    upto = math.nextafter(end, math.inf)
    edges = score_quantiles(history, start, upto, TENTHS)
    try:
        groups = labelled(read_rows(history, start, upto), edges, slices, slice_of)
    except FileNotFoundError as error:
        raise UserError(str(error.filename), "no such file", "the folder of the model that answered") from None
    return {"from": iso(start), "to": iso(end), "counts": told.counts, "groups": [_group(one) for one in groups]}


def span(text: str) -> float:
    """``28d`` in seconds; UserError on anything else."""
    try:
        found: Any = parse_span(text)
    except ValueError:
        raise UserError("--window", text, "a span such as 28d") from None
    return float(found.total_seconds())


def _group(one: Labelled) -> dict[str, Any]:
    """One group without nan, which JSON does not have."""
    found = asdict(one)
    found |= found.pop("coverage") | {"share": one.coverage.share}
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in found.items()}


def remember(folder: Path, document: Mapping[str, Any]) -> None:
    """Keep what was said beside the history, for the console: ``FOLDER/labels.json``."""
    with atomic_file(folder / "labels.json") as made:
        made.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")


def labels_text(document: Mapping[str, Any]) -> str:
    """The groups as lines."""
    lines = [f"matured rows from {document['from']} to {document['to']}"]
    for one in document["groups"]:
        where = f"{one['version']} {one['by']} {one['value']}" if one["by"] != "version" else one["version"]
        line = f"  {where}: {one['matured']} rows, {one['share']:.1%} with a label"
        if one["delay_median"] is not None:
            line += f", after {one['delay_median']:.0f} s (95 %: {one['delay_p95']:.0f} s)"
        lines.append(line)
    return "\n".join(lines)
