"""The evidence of one release, folded from the observation store: as it comes, again at a restart, again in proof.

A look at a release is recorded with its watermark. Whoever folds the same rows in the same steps, each with the labels
that had come by then, gets the same sums to the last bit.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tidegate.errors import TamperedJournal
from tidegate.journal.events import Event, canonical
from tidegate.observations import Label, Prediction, SegmentReader
from tidegate.release.fold import EvidenceFold
from tidegate.release.policy import policy_of
from tidegate.release.rows import labels_of, rows_from_predictions
from tidegate.spec import ReleaseSpec

Json = Mapping[str, Any]
Look = tuple[float, float]
"""(wall time at which it was written, watermark) of a recorded look."""


class ReleaseEvidence:
    """The evidence of one release, folded from its own rows."""

    def __init__(self, release: Json) -> None:
        self.name = release["name"]
        self._champion, self._challenger = release["champion"]["name"], release["challengers"][0]["name"]
        self._fold = EvidenceFold(policy_of(ReleaseSpec.model_validate(release["spec"])))
        self._requests: set[str] = set()

    def add(self, predictions: Sequence[Prediction], labels: Iterable[Label]) -> None:
        """Take rows in, in any order, and the labels of their requests; labels of others are let go."""
        if predictions:
            self._requests.update(prediction.request_id for prediction in predictions)
            self._fold.add(rows_from_predictions(predictions, self.name, self._champion, self._challenger))
        if own := [label for label in labels if label.request_id in self._requests]:
            self._fold.label(labels_of(own))

    def at(self, watermark: float) -> Json:
        """The evidence up to `watermark`, as JSON."""
        return self._fold.advance(watermark).to_json()

    def again(self, labels: deque[Label], looks: Iterable[Look]) -> Iterator[Json]:
        """The evidence of recorded looks, in the same steps, each with the labels that had come by then.

        `labels`, in the order in which they came, are taken off as they are used.
        """
        for wall, watermark in looks:
            come = []
            while labels and labels[0].wall <= wall:
                come.append(labels.popleft())
            self.add((), come)
            yield self.at(watermark)


def looks_of(events: Iterable[Event], name: str) -> list[Look]:
    """The recorded looks at a release, oldest first."""
    looks = [event for event in events if event.data.get("evidence") and event.data["release"]["name"] == name]
    return [(event.wall, event.data["evidence"]["watermark"]) for event in looks]


def recompute(folder: Path, events: Sequence[Event]) -> dict[str, int]:
    """Fold the observation store again and compare with the recorded looks; TamperedJournal names the first.

    Where rows came behind the watermark nothing tells which look saw them first: of such a place only the numbers of
    requests at the last look are compared.
    """
    store = folder / "observations"
    labels = deque(r for r in SegmentReader(store / "labels").read() if isinstance(r, Label))
    rows: dict[str, list[Prediction]] = defaultdict(list)
    for record in SegmentReader(store / "predictions").read():
        if isinstance(record, Prediction) and record.release:
            rows[record.release].append(record)
    compared = 0
    for opened in (event for event in events if event.kind == "release.opened"):
        release = ReleaseEvidence(opened.data["release"])
        release.add(rows.pop(release.name, []), ())
        looks = [e for e in events if e.data.get("evidence") and e.data["release"]["name"] == release.name]
        late = _late_places(looks)
        for event, found in zip(looks, release.again(labels, looks_of(looks, release.name)), strict=True):
            _compare(event, found, late, last=event is looks[-1])
        compared += len(looks)
    return {"evidence": compared}


def _late_places(looks: Sequence[Event]) -> set[str]:
    places = looks[-1].data["evidence"]["places"] if looks else {}
    return {name for name, place in places.items() if place["counts"]["late"]}


def _compare(event: Event, found: Json, late: set[str], last: bool) -> None:
    recorded = event.data["evidence"]
    same = canonical(_but(recorded["places"], late)) == canonical(_but(found["places"], late))
    if last:
        same &= all(_requests(recorded, name) == _requests(found, name) for name in late)
    if not same or (not late and recorded["late_labels"] != found["late_labels"]):
        raise TamperedJournal(
            f"journal of {event.model}: event {event.seq} ({event.kind}): the observations give other sums"
        )


def _but(places: Json, late: set[str]) -> Json:
    return {name: place for name, place in places.items() if name not in late}


def _requests(evidence: Json, place: str) -> list[int]:
    counts = evidence["places"].get(place, {}).get("counts", {})
    return [counts.get(name, 0) for name in ("requests", "champion", "challenger")]
