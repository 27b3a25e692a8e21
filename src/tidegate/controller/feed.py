"""What the controller sees: the observation store, read as it grows, turned into evidence and trigger events.

Everything here can be built again from the store, so a restarted controller reads it from the start and goes on.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.journal.events import canonical
from tidegate.monitor.join import OBSERVED, Row
from tidegate.monitor.labels import LabelIntake, LabelJoin
from tidegate.monitor.performance import Performance
from tidegate.observations import Label, Prediction, SegmentReader
from tidegate.release.fold import EvidenceFold
from tidegate.release.policy import policy_of
from tidegate.release.rows import labels_of, rows_from_predictions
from tidegate.spec import Model, ReleaseSpec

DAY = 86400.0
Json = Mapping[str, Any]


class ReleaseEvidence:
    """The evidence of one release, folded from its own rows."""

    def __init__(self, release: Json) -> None:
        self.name = release["name"]
        self._champion, self._challenger = release["champion"]["name"], release["challengers"][0]["name"]
        self._fold = EvidenceFold(policy_of(ReleaseSpec.model_validate(release["spec"])))

    def add(self, predictions: list[Prediction], labels: list[Label]) -> None:
        """Take rows and labels in, in any order."""
        if predictions:
            self._fold.add(rows_from_predictions(predictions, self.name, self._champion, self._challenger))
        if labels:
            self._fold.label(labels_of(labels))

    def at(self, watermark: float) -> Json:
        """The evidence up to `watermark`, as JSON."""
        return self._fold.advance(watermark).to_json()


class Feed:
    """The observation store of one model, read incrementally."""

    def __init__(self, folder: Path, model: Model) -> None:
        self.folder, self._spec = folder, model.spec
        store = folder / "observations"
        self._predictions, self._labels = SegmentReader(store / "predictions"), SegmentReader(store / "labels")
        self._join = LabelJoin(model.spec.release.label_deadline.total_seconds())
        self._intake = LabelIntake(store / "labels", self._known)
        self._performance = Performance()
        self._release: ReleaseEvidence | None = None
        self._rows_of: dict[str, list[Prediction]] = defaultdict(list)
        self._new_labels: list[Label] = []
        self._lock = threading.Lock()

    def take_labels(self, body: bytes) -> Mapping[str, int]:
        """The body of ``POST /labels``; called from the control server's thread."""
        return self._intake.take(body)

    def _known(self, request_id: str) -> bool:
        # a label may come before the log was read the next time
        if not self._join.known(request_id):
            self.read()
        return self._join.known(request_id)

    def read(self) -> None:
        """Take in what was appended since the last time."""
        with self._lock:
            predictions = [r for r in self._predictions.read() if isinstance(r, Prediction)]
            labels = [r for r in self._labels.read() if isinstance(r, Label)]
            self._join.add_predictions(predictions)
            self._join.add_labels(labels)
            self._new_labels += labels
            for prediction in predictions:
                if prediction.release:
                    self._rows_of[prediction.release].append(prediction)

    def rebuild(self, now: float) -> None:
        """Read everything and let it pass up to `now` without telling anybody: those looks were journaled."""
        self.read()
        self._performance.add(self._join.rows(now).matured)

    def look(self, now: float, release: Json | None) -> tuple[Json | None, list[Json]]:
        """What is to be seen at event time `now`: the open release's evidence, and the events for the trigger policy."""
        with self._lock:
            matured = [row for row in self._join.rows(now).matured if not row.mirrored]
            self._performance.add(matured)
            return self._evidence(now, release), [*self._events(now, matured), {"kind": "tick", "time": now}]

    def _evidence(self, now: float, release: Json | None) -> Json | None:
        if release is None:
            self._release, self._new_labels = None, []
            return None
        if self._release is None or self._release.name != release["name"]:
            self._release = ReleaseEvidence(release)
        self._release.add(self._rows_of.pop(release["name"], []), self._new_labels)
        self._new_labels = []
        return self._release.at(now)

    def _events(self, now: float, matured: list[Row]) -> list[Json]:
        found: list[Json] = []
        if rows := sum(row.outcome == OBSERVED for row in matured):
            found.append({"kind": "rows", "time": now, "count": rows})
        if now % DAY == 0 and self._spec.triggers.performance:
            found += self._metric(now)
        return found

    def _metric(self, now: float) -> list[Json]:
        """The performance trigger's metric of whoever answered, over its window of matured days."""
        trigger = self._spec.triggers.performance
        assert trigger is not None  # noqa: S101 - the caller looked
        end = now - self._spec.release.label_deadline.total_seconds()
        found = []
        for version in self._performance.versions():
            (metric,) = self._performance.metrics(version, end - trigger.window.total_seconds(), end, [trigger.metric])
            if metric.labels >= trigger.min_labels and metric.lower == metric.lower:
                found.append({"kind": "metric", "time": now, **metric.__dict__})
        return found


def recompute(folder: Path, events: list[Any]) -> dict[str, int]:
    """Fold the observation store again and compare with every recorded look; TamperedJournal names the first."""
    from tidegate.errors import TamperedJournal

    reader, labels = SegmentReader(folder / "observations" / "predictions"), SegmentReader(folder / "observations" / "labels")
    told = [r for r in labels.read() if isinstance(r, Label)]
    rows: dict[str, list[Prediction]] = defaultdict(list)
    for record in reader.read():
        if isinstance(record, Prediction) and record.release:
            rows[record.release].append(record)
    release, looks = None, 0
    for event in events:
        if event.kind == "release.opened":
            release = ReleaseEvidence(event.data["release"])
            release.add(rows.pop(release.name, []), told)
        elif "evidence" in event.data and release is not None:
            looks += 1
            if canonical(release.at(event.data["now"])) != canonical(event.data["evidence"]):
                raise TamperedJournal(f"journal of {event.model}: event {event.seq} ({event.kind}): the observations give other sums")
    return {"evidence": looks}
