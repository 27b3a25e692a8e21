"""What the controller sees: the observation store, read as it grows, turned into evidence and trigger events.

Everything here can be built again from the store, so a restarted controller reads it from the start and goes on.
"""

from __future__ import annotations

import json
import math
import threading
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tidegate.controller.evidence import Look, ReleaseEvidence
from tidegate.controller.slices import SliceValues
from tidegate.journal.fold import Served
from tidegate.monitor.join import LabelJoin
from tidegate.monitor.labels import BRIER, LabelIntake
from tidegate.monitor.performance import Performance
from tidegate.monitor.rows import OBSERVED, Row, row_id
from tidegate.observations import Label, Prediction, SegmentReader
from tidegate.release.sessions import CLICK
from tidegate.spec import Model, ReleaseSpec
from tidegate.train.model_file import folder_name

DAY = 86400.0
REFERENCE = 35 * DAY
"""How long a version's own rows, from its first one on, are what later ones are compared with: it never saw them."""
Json = Mapping[str, Any]


def bounds_of(spec: ReleaseSpec) -> dict[str | None, tuple[float, float]]:
    """The range of a label's value by metric; None is the label of the loss itself."""
    bounds = dict(BRIER)
    bounds.update({metric.name: (0.0, metric.bound) for metric in spec.judge.metrics})
    if any(stage.interleave for stage in spec.stages):
        bounds[CLICK] = (0.0, 1.0)
    return bounds


class VersionRows:
    """Matured rows of one version: its first ones as the reference, the newest for the window that is looked at."""

    def __init__(self) -> None:
        self.reference: list[Row] = []
        self._recent: deque[Row] = deque()

    @property
    def reference_end(self) -> float:
        """Time up to which rows belong to the reference; infinity before there are any."""
        return self.reference[0].prediction.time + REFERENCE if self.reference else math.inf

    def add(self, row: Row) -> None:
        """Take a row, in order of time."""
        if not self.reference or row.prediction.time < self.reference_end:
            self.reference.append(row)
        else:
            self._recent.append(row)

    def between(self, start: float, end: float) -> list[Row]:
        """The recent rows in [start, end); older ones are let go."""
        while self._recent and self._recent[0].prediction.time < start:
            self._recent.popleft()
        return [row for row in self._recent if row.prediction.time < end and not row.mirrored]


class Feed:
    """The observation store of one model, read incrementally; `writer` names the segments of labels that it takes."""

    def __init__(self, folder: Path, model: Model, writer: str = "labels") -> None:
        self.folder, self._spec = folder, model.spec
        store = folder / "observations"
        self._predictions, self._labels = SegmentReader(store / "predictions"), SegmentReader(store / "labels")
        self._seen_of: dict[str, VersionRows] = defaultdict(VersionRows)
        self._join = LabelJoin(model.spec.release.label_deadline.total_seconds())
        self._intake = LabelIntake(store / "labels", self._known, bounds_of(model.spec.release), writer=writer)
        self._performance = Performance()
        self._values = SliceValues(folder, model.spec.workload)
        self._release: ReleaseEvidence | None = None
        self._rows_of: dict[str, list[Prediction]] = defaultdict(list)
        self._shown: set[str] = set()
        self._new_labels: list[Label] = []
        self._lock = threading.Lock()

    def take_labels(self, body: bytes) -> Mapping[str, int]:
        """The body of ``POST /labels``; called from the control server's thread."""
        return self._intake.take(body)

    def close(self) -> None:
        """Take no more labels: what was taken is written."""
        self._intake.close()

    def _known(self, request_id: str) -> bool:
        # a label may come before the log was read the next time
        if not self._is_known(request_id):
            self.read()
        return self._is_known(request_id)

    def _is_known(self, request_id: str) -> bool:
        """Whether the log has this row, or an item of a mixed list by this id."""
        return self._join.known(request_id) or row_id(request_id) in self._shown

    def read(self) -> None:
        """Take in what was appended since the last time."""
        with self._lock:
            rows = [r for r in self._predictions.read() if isinstance(r, Prediction)]
            predictions, shown = [r for r in rows if r.endpoint is None], [r for r in rows if r.shown]
            self._shown.update(row.request_id for row in shown)
            labels = [r for r in self._labels.read() if isinstance(r, Label)]
            self._join.add_predictions(predictions)
            self._join.add_labels(labels)
            self._new_labels += labels
            for prediction in (*predictions, *shown):
                if prediction.release:
                    self._rows_of[prediction.release].append(prediction)

    def rebuild(self, now: float, release: Json | None, looks: Sequence[Look]) -> None:
        """Read everything and let it pass up to `now` without telling anybody: that was journaled.

        `looks` are those at `release`: its evidence goes on from the last one as if nothing had happened, to the bit.
        """
        self.read()
        self._take(self._join.rows(now).matured)
        if release is None or not looks:
            return
        self._release, labels = ReleaseEvidence(release, self._values), deque(self._new_labels)
        self._release.add(self._rows_of.pop(release["name"], []), ())
        for _ in self._release.again(labels, looks):
            pass
        self._new_labels = list(labels)

    def look(self, now: float, release: Json | None, champion: Served | None) -> tuple[Json | None, list[Json]]:
        """What is to be seen at event time `now`: the open release's evidence, events for the trigger policy."""
        with self._lock:
            matured = self._join.rows(now).matured
            self._take(matured)
            rows = sum(row.outcome == OBSERVED and not row.mirrored for row in matured)
            events: list[Json] = [{"kind": "rows", "time": now, "count": rows}] if rows else []
            if champion and now % DAY == 0:
                events += [*self._metric(now, champion), *self._drift(now, champion)]
            return self._evidence(now, release), [*events, {"kind": "tick", "time": now}]

    def _take(self, matured: list[Row]) -> None:
        self._performance.add(matured)
        for row in matured:
            self._seen_of[row.prediction.version].add(row)

    def _evidence(self, now: float, release: Json | None) -> Json | None:
        if release is None:
            self._release, self._new_labels = None, []
            self._shown.clear()
            return None
        if self._release is None or self._release.name != release["name"]:
            self._release = ReleaseEvidence(release, self._values)
        self._release.add(self._rows_of.pop(release["name"], []), self._new_labels)
        # a label may come before its row is on disk
        recent = now - self._spec.release.label_deadline.total_seconds()
        self._new_labels = [x for x in self._new_labels if x.time > recent and not self._is_known(x.request_id)]
        return self._release.at(now)

    def _metric(self, now: float, champion: Served) -> list[Json]:
        """The performance trigger's metric of the champion, over its window of matured days."""
        trigger = self._spec.triggers.performance
        if trigger is None:
            return []
        end = now - self._spec.release.label_deadline.total_seconds()
        start = end - trigger.window.total_seconds()
        self._performance.forget(start - trigger.window.total_seconds())
        (metric,) = self._performance.metrics(champion.version, start, end, [trigger.metric])
        if metric.labels < trigger.min_labels or not math.isfinite(metric.lower):
            return []
        return [{"kind": "metric", "time": now, **metric.__dict__}]

    def _drift(self, now: float, champion: Served) -> list[Json]:
        """A diagnosis of each whole window against the champion's first weeks, which it was not trained on."""
        trigger, rows = self._spec.triggers.drift, self._seen_of[champion.version]
        if trigger is None or now % trigger.window.total_seconds() != 0:
            return []
        end = now - self._spec.release.label_deadline.total_seconds()
        start = end - trigger.window.total_seconds()
        current = rows.between(start, end)
        if not current or rows.reference_end > start:
            return []
        from tidegate.monitor.diagnose import diagnose, window_of

        kinds = self._feature_kinds(champion.digest)
        found = diagnose(window_of(rows.reference, kinds), window_of(current, kinds))
        return [{"kind": "drift", "time": now, "finding": found.asks, "labels": found.region}]

    def _feature_kinds(self, digest: str) -> dict[str, str]:
        schema = json.loads((self.folder / "models" / folder_name(digest) / "feature_schema.json").read_text())
        return {feature["name"]: feature["kind"] for feature in schema["features"]}
