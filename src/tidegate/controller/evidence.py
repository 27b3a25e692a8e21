"""The evidence of one release, folded from the observation store: as it comes, again at a restart, again in proof.

A look at a release is recorded with its watermark. Whoever folds the same rows in the same steps, each with the labels
that had come by then, gets the same sums to the last bit.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tidegate.controller.slices import SliceValues
from tidegate.errors import TamperedJournal
from tidegate.journal.events import Event, canonical
from tidegate.observations import Label, Prediction, SegmentReader
from tidegate.release.evidence import Evidence
from tidegate.release.fold import EvidenceFold
from tidegate.release.logged import labels_of, rows_from_predictions
from tidegate.release.policy import INTERLEAVE, policy_of
from tidegate.release.sessions import SessionFold
from tidegate.release.stages import Release, Version, place_name, regions_of

Json = Mapping[str, Any]
Look = tuple[float, float]
"""(wall time at which it was written, watermark) of a recorded look."""


class _Against:
    """One challenger's evidence: all its rows, each region's by themselves, the sessions of an interleaving stage."""

    def __init__(self, release: Release, version: Version, values: SliceValues | None) -> None:
        policy = policy_of(release.spec)
        self._slices = values.readers(policy.slices) if values else ()
        self._release, self._version = release, version
        self._metrics = [metric.name for metric in policy.business]
        self._of_region = {region: EvidenceFold(policy) for region in ("", *regions_of(release.spec))}
        names = release.champion.name, version.name
        self._sessions = SessionFold(policy, *names) if INTERLEAVE in policy.places else None
        self._names = release.name, *names

    def add(self, predictions: Sequence[Prediction], labels: Sequence[Label]) -> None:
        if self._sessions is not None:
            self._sessions.add(predictions)
            self._sessions.click(labels)
        # alternatives of /rank are no evidence of their own
        plain = [prediction for prediction in predictions if prediction.endpoint is None]
        told = labels_of(labels, self._metrics)
        for region, fold in self._of_region.items():
            own = plain if region == "" else [prediction for prediction in plain if prediction.region == region]
            if own:
                fold.add(rows_from_predictions(own, *self._names, self._slices))
            for some in told:
                fold.label(some)

    def advance(self, watermark: float) -> Evidence:
        found = {region: fold.advance(watermark) for region, fold in self._of_region.items()}
        places = {
            place_name(self._release, kind, self._version, region): stats
            for region, evidence in found.items()
            for kind, stats in evidence.places.items()
        }
        if self._sessions is not None:
            place = place_name(self._release, INTERLEAVE, self._version)
            places[place] = self._sessions.advance(watermark)
        return Evidence(watermark, places, found[""].late_labels)


class ReleaseEvidence:
    """The evidence of one release, folded from its own rows, for each of its challengers.

    `values` reads its guarded slices; a release without any needs none.
    """

    def __init__(self, release: Json, values: SliceValues | None = None) -> None:
        known = Release.from_json(release)
        self.name = known.name
        self._against = [_Against(known, version, values) for version in known.challengers]
        self._requests: set[str] = set()

    def add(self, predictions: Sequence[Prediction], labels: Iterable[Label]) -> None:
        """Take rows in, in any order, and the labels of their requests; labels of others are let go."""
        predictions = [row for row in predictions if row.endpoint is None or row.shown]
        self._requests.update(prediction.request_id for prediction in predictions)
        own = [label for label in labels if label.request_id in self._requests]
        for against in self._against:
            against.add(predictions, own)

    def at(self, watermark: float) -> Json:
        """The evidence up to `watermark`, as JSON."""
        found = [against.advance(watermark) for against in self._against]
        places = {name: stats for evidence in found for name, stats in evidence.places.items()}
        return Evidence(watermark, places, max(evidence.late_labels for evidence in found)).to_json()

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
        release = ReleaseEvidence(opened.data["release"], SliceValues(folder, _workload(events, opened)))
        release.add(rows.pop(release.name, []), ())
        looks = [e for e in events if e.data.get("evidence") and e.data["release"]["name"] == release.name]
        late = _late_places(looks)
        for event, found in zip(looks, release.again(labels, looks_of(looks, release.name)), strict=True):
            _compare(event, found, late, last=event is looks[-1])
        compared += len(looks)
    return {"evidence": compared}


def _workload(events: Sequence[Event], opened: Event) -> str:
    """The workload that the Model file named when a release was opened."""
    named = [e.data["spec"]["workload"] for e in events if e.kind == "serve.model" and e.seq < opened.seq]
    return str(named[-1]) if named else ""


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
