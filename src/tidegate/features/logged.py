"""What parity compares: the newest logged predictions asked by key, and the live repo's offline rows. Does I/O."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import UserError
from tidegate.features.live import live_repo, offline_rows
from tidegate.features.parity import ParityReport, compare
from tidegate.observations import Prediction, SegmentReader
from tidegate.train.model_file import FeatureSchema, folder_name
from tidegate.workload import load_workload

if TYPE_CHECKING:
    from tidegate.spec import Model


def check_parity(model: Model, state: Path, limit: int) -> ParityReport:
    """Recompute the newest `limit` predictions of `state` that were asked by key, and compare each value."""
    if not model.spec.training.retain:
        raise UserError("spec.training.retain", False, "true: features of predictions are not retained")
    known = load_workload(model.spec.workload)
    live = live_repo(state, known, model.spec.workload)
    asked = newest_by_key(state / "observations" / "predictions", limit, offline_until(state))
    tables = {view.name: offline_rows(live, view) for view in known.view_definitions()}
    by_digest: dict[str, list[Prediction]] = defaultdict(list)
    for one in asked:
        by_digest[one.digest].append(one)
    reports = [
        compare(rows, known, FeatureSchema.load(state / "models" / folder_name(digest)).names, tables)
        for digest, rows in by_digest.items()
    ]
    differences = tuple(difference for report in reports for difference in report.differences)
    return ParityReport(len(asked), sum(report.differing for report in reports), differences)


def newest_by_key(folder: Path, limit: int, until: float) -> list[Prediction]:
    """The newest `limit` predictions of a log that were asked by key, oldest first; only what was known by `until`."""
    asked = [one for one in SegmentReader(folder).read() if isinstance(one, Prediction) and one.keys is not None]
    settled = [one for one in asked if max((known or 0.0 for known in one.known or ()), default=0.0) <= until]
    return sorted(settled, key=lambda one: one.wall)[-limit:]


def offline_until(state: Path) -> float:
    """Until when everything that a stream put online is offline too (seconds); it follows within seconds."""
    try:
        told = json.loads((state / "stream" / "flushed.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return math.inf
    return datetime.fromisoformat(told["until"]).timestamp()
