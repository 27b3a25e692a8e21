"""The label join: predictions and labels by request id, exactly once, whatever the order they come in.

Rules
-----
1. A row is one (request id, version). Of several such rows (a retry) the earliest counts; the others are `repeated`.
2. A row is *seen* when the watermark has reached its time: errors, latency and the split can be judged.
3. A row *matures* when the watermark has reached its time + deadline. Its label is then taken as it stands: of the
   labels with a time not after that moment the newest (ties: the one received last).
4. What comes later is counted (`late`, `corrected_late`, `behind`) and never unfolded.
5. Rows of one call are in order of (time, request id, version). The cost of a call follows the rows that move, not
   history: a matured row is remembered for `keep` seconds, so that its repeats are known, and then forgotten.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from tidegate.monitor.rows import CANCELLED as CANCELLED
from tidegate.monitor.rows import MISSING, PENDING, Joined, number
from tidegate.monitor.rows import OBSERVED as OBSERVED
from tidegate.monitor.rows import Row as Row
from tidegate.monitor.rows import row_id as row_id
from tidegate.observations import Label, Prediction


@dataclass
class JoinCounts:
    """What the join has met since it was made."""

    predictions: int = 0
    repeated: int = 0
    """Second rows of one (request id, version)."""
    labels: int = 0
    seen: int = 0
    observed: int = 0
    cancelled: int = 0
    missing: int = 0
    """Matured without a label."""
    late: int = 0
    """Labels whose time is after their row's maturity, where the row had none."""
    corrected_late: int = 0
    """Other values for a label that had counted already."""
    behind: int = 0
    """Rows and labels that came behind the watermark: the row is folded next, the label is too late."""


@dataclass(slots=True)
class _Slot:
    """One row's place: its prediction, whether it was emitted as seen, and as what it matured."""

    prediction: Prediction
    seen: bool = False
    outcome: str = PENDING
    label: float = math.nan


_Entry = tuple[float, str, str, int, _Slot]
"""(time, request id, version, a running number, slot): what the heaps order rows by."""


@dataclass
class LabelJoin:
    """Incremental join of predictions and labels; `deadline` and `keep` are event seconds.

    `keep` is how long a matured row is remembered; None takes the deadline. A repeat or a label that comes later than
    that is taken for one of an unknown request.
    """

    deadline: float
    keep: float | None = None
    counts: JoinCounts = field(default_factory=JoinCounts)
    watermark: float = -math.inf
    _slots: dict[str, list[_Slot]] = field(default_factory=dict)
    _labels: dict[str, list[Label]] = field(default_factory=dict)
    _unseen: list[_Entry] = field(default_factory=list)
    _unripe: deque[_Slot] = field(default_factory=deque)
    _behind: list[_Entry] = field(default_factory=list)
    _ripe: deque[_Slot] = field(default_factory=deque)
    _orphans: list[tuple[float, str]] = field(default_factory=list)
    _pushed: int = 0

    def known(self, request_id: str) -> bool:
        """Whether a prediction with this id was added and is not yet forgotten."""
        return row_id(request_id) in self._slots

    def add_predictions(self, predictions: Iterable[Prediction]) -> None:
        """Take rows, in any order; nothing is emitted before `rows` is called."""
        for prediction in predictions:
            self._add(prediction)

    def add_labels(self, labels: Iterable[Label]) -> None:
        """Take labels, in any order, before or after their predictions."""
        for label in labels:
            self.counts.labels += 1
            key = row_id(label.request_id)
            slots = self._slots.get(key)
            if slots is None:
                heappush(self._orphans, (label.time, key))
            self._labels.setdefault(key, []).append(label)
            for slot in slots or ():
                if slot.outcome is not PENDING:
                    self._count_late(slot, label)

    def rows(self, watermark: float) -> Joined:
        """The rows that became seen and that matured up to `watermark`; a watermark that goes back moves nothing."""
        self.watermark = max(self.watermark, watermark)
        seen = list(self._see())
        matured = list(self._mature())
        self._forget()
        return Joined(seen, matured)

    def _add(self, prediction: Prediction) -> None:
        self.counts.predictions += 1
        slots = self._slots.setdefault(prediction.request_id, [])
        for slot in slots:
            if slot.prediction.version == prediction.version:
                self.counts.repeated += 1
                if not slot.seen and _age(prediction) < _age(slot.prediction):
                    slot.prediction = prediction
                    self._push(slot)
                return
        self.counts.behind += prediction.time <= self.watermark
        slots.append(_Slot(prediction))
        self._push(slots[-1])

    def _push(self, slot: _Slot) -> None:
        self._pushed += 1
        heappush(self._unseen, (*_order(slot.prediction), self._pushed, slot))

    def _see(self) -> Iterable[Row]:
        newest = _order(self._unripe[-1].prediction) if self._unripe else (-math.inf, "", "")
        while self._unseen and self._unseen[0][0] <= self.watermark:
            entry = heappop(self._unseen)
            slot = entry[-1]
            if slot.seen:
                continue
            slot.seen = True
            self.counts.seen += 1
            if entry[:3] < newest:
                heappush(self._behind, entry)
            else:
                self._unripe.append(slot)
            yield Row(slot.prediction)

    def _mature(self) -> Iterable[Row]:
        ripe: list[_Slot] = []
        while self._behind and self._behind[0][0] + self.deadline <= self.watermark:
            ripe.append(heappop(self._behind)[-1])
        behind = len(ripe)
        while self._unripe and self._unripe[0].prediction.time + self.deadline <= self.watermark:
            ripe.append(self._unripe.popleft())
        if behind:
            ripe.sort(key=lambda slot: _order(slot.prediction))
        for slot in ripe:
            self._ripe.append(slot)
            yield self._settle(slot)

    def _settle(self, slot: _Slot) -> Row:
        """The row as it stands at maturity."""
        prediction = slot.prediction
        labels = self._labels.get(prediction.request_id, ())
        ours = standing(labels, prediction.time + self.deadline)
        loss = ours.pop(None, None)
        slot.outcome, slot.label = _outcome(loss), number(loss.value) if loss else math.nan
        self._tally(slot.outcome)
        for label in labels:
            if label.time > prediction.time + self.deadline:
                self._count_late(slot, label)
        metrics = tuple(sorted((str(name), number(label.value)) for name, label in ours.items())) if ours else ()
        return Row(prediction, slot.outcome, slot.label, loss.time if loss else None, metrics)

    def _tally(self, outcome: str) -> None:
        self.counts.observed += outcome is OBSERVED
        self.counts.cancelled += outcome is CANCELLED
        self.counts.missing += outcome is MISSING

    def _count_late(self, slot: _Slot, label: Label) -> None:
        if label.metric is not None or _same(slot, label):
            return
        if label.time <= slot.prediction.time + self.deadline:
            self.counts.behind += 1
        elif slot.outcome == MISSING:
            self.counts.late += 1
        else:
            self.counts.corrected_late += 1

    def _forget(self) -> None:
        horizon = self.watermark - self.deadline - (self.deadline if self.keep is None else self.keep)
        while self._ripe and self._ripe[0].prediction.time < horizon:
            slot = self._ripe.popleft()
            key = slot.prediction.request_id
            others = [one for one in self._slots[key] if one is not slot]
            if others:
                self._slots[key] = others
            else:
                del self._slots[key]
                self._labels.pop(key, None)
        while self._orphans and self._orphans[0][0] < horizon:
            key = heappop(self._orphans)[1]
            if key not in self._slots and key in self._labels:
                self._labels[key] = [label for label in self._labels[key] if label.time >= horizon]
                if not self._labels[key]:
                    del self._labels[key]


def standing(labels: Sequence[Label], cutoff: float) -> dict[str | None, Label]:
    """By metric (None: the loss), the newest label with a time not after `cutoff`; ties go to the one received last."""
    best: dict[str | None, Label] = {}
    for label in labels:
        if label.time <= cutoff:
            other = best.get(label.metric)
            if other is None or _rank(label) > _rank(other):
                best[label.metric] = label
    return best


def _order(prediction: Prediction) -> tuple[float, str, str]:
    return prediction.time, prediction.request_id, prediction.version


def _age(prediction: Prediction) -> tuple[float, float, bool, float, float]:
    """Which of two rows of one (request id, version) is the earlier; total, so that arrival order does not matter."""
    score = -1.0 if prediction.score is None else prediction.score
    return prediction.time, prediction.wall, prediction.error, prediction.latency_ms, score


def _rank(label: Label) -> tuple[float, float, str, float]:
    return label.time, label.wall, label.outcome, -1.0 if label.value is None else label.value


def _outcome(label: Label | None) -> str:
    if label is None:
        return MISSING
    return OBSERVED if label.outcome == OBSERVED and label.value is not None else CANCELLED


def _same(slot: _Slot, label: Label) -> bool:
    return slot.outcome == label.outcome and (label.value is None or slot.label == label.value)
