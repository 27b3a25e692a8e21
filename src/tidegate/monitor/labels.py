"""The intake of labels: what `POST /labels` and label files go through before they are in the observation store.

A body is taken whole or not at all: it is decoded, every label is checked, and only then the first one is appended.
The store keeps every label that says something new; a label sent again is answered ``duplicate`` and not stored.
"""

from __future__ import annotations

import re
import time as machine
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from tidegate.errors import PlatformError, UserError
from tidegate.monitor.join import LabelJoin as LabelJoin
from tidegate.monitor.rows import row_id
from tidegate.monitor.times import seconds
from tidegate.observations import Label, SegmentReader, SegmentWriter

MOST_BYTES = 1 << 20
"""Longest body of one `POST /labels`."""
MOST_LABELS = 10_000
LONGEST_ID = 256
KEEP = 30 * 86400.0
"""Event seconds for which the intake remembers a label, to know a duplicate; later ones are stored again."""
BRIER: Mapping[str | None, tuple[float, float]] = {None: (0.0, 1.0)}
"""Ranges of values by metric; None is the label of the model's own loss."""


class BodyTooLargeError(UserError):
    """A body over the limit: HTTP status 413."""


class _Sent(msgspec.Struct):
    request_id: str
    outcome: Literal["observed", "cancelled"]
    time: str | float
    value: float | None = None
    metric: str | None = None


class _Body(msgspec.Struct):
    labels: list[_Sent]


class LabelIntake:
    """Takes labels, says what each one is, and appends them to a segment of its own.

    Parameters
    ----------
    folder: where label segments lie, ``observations/labels``; what stands there already is remembered.
    known: whether a request id was ever predicted (`LabelJoin.known`).
    bounds: the range of values by metric; a metric that is not there is refused by name.
    wall: the machine's clock, in seconds since the epoch.
    writer: name of its segments, which no other process may write at the same time.
    """

    def __init__(
        self,
        folder: Path,
        known: Callable[[str], bool],
        bounds: Mapping[str | None, tuple[float, float]] = BRIER,
        wall: Callable[[], float] = machine.time,
        writer: str = "labels",
    ) -> None:
        self._known, self._bounds, self._wall = known, dict(bounds), wall
        self._held: dict[tuple[str, str | None], list[Label]] = {}
        for record in SegmentReader(folder).read():
            if isinstance(record, Label):
                self._remember(record)
        self._writer = SegmentWriter(folder, writer)

    def take(self, body: bytes) -> dict[str, int]:
        """Store one body of labels and count what they are.

        Returns ``{"accepted", "duplicate", "corrected", "unknown"}``; the four add up to the labels sent. Raises
        UserError naming the field (BodyTooLargeError for a body over the limit), or PlatformError when the disk does
        not take them; the sender then sends all of it again.
        """
        counts = {"accepted": 0, "duplicate": 0, "corrected": 0, "unknown": 0}
        stored: list[Label] = []
        for label in decode(body, self._bounds, self._wall()):
            kind = self._kind(label)
            counts[kind] += 1
            if kind != "duplicate":
                stored.append(label)
                self._remember(label)
        self._store(stored)
        return counts

    def mark(self, time: float) -> None:
        """Promise that labels with a time up to `time` were taken; forgets labels older than `KEEP` before it."""
        self._writer.mark(time)
        while self._held:
            key = next(iter(self._held))
            if max((label.time for label in self._held[key]), default=0.0) >= time - KEEP:
                return
            del self._held[key]

    def close(self) -> None:
        """Write the rest and the last mark."""
        self._writer.close()

    def _store(self, labels: list[Label]) -> None:
        dropped = self._writer.dropped
        for label in labels:
            self._writer.append(label)
        self._writer.flush()
        if self._writer.dropped > dropped:
            for label in labels:
                self._held[label.request_id, label.metric].remove(label)
            raise PlatformError("labels: the disk does not take them; none of this request is acknowledged")

    def _kind(self, label: Label) -> str:
        held = self._held.get((label.request_id, label.metric))
        if not held:
            return "accepted" if self._known(label.request_id) else "unknown"
        newest = max(held, key=lambda other: (other.time, other.wall))
        again = _says(newest) == _says(label) or any(
            _says(other) == _says(label) and other.time == label.time for other in held
        )
        return "duplicate" if again else "corrected"

    def _remember(self, label: Label) -> None:
        self._held.setdefault((label.request_id, label.metric), []).append(label)


def decode(body: bytes, bounds: Mapping[str | None, tuple[float, float]], wall: float) -> list[Label]:
    """A body as labels with row ids and times in seconds; UserError names the field that is wrong."""
    if len(body) > MOST_BYTES:
        raise BodyTooLargeError("labels", f"{len(body)} bytes", f"a body of at most {MOST_BYTES} bytes")
    try:
        sent = msgspec.json.decode(body, type=_Body).labels
    except msgspec.DecodeError as error:
        _refuse(error)
    if len(sent) > MOST_LABELS:
        raise BodyTooLargeError("labels", f"{len(sent)} labels", f"at most {MOST_LABELS} labels a request")
    return list(_checked(sent, bounds, wall))


def _checked(sent: list[_Sent], bounds: Mapping[str | None, tuple[float, float]], wall: float) -> Iterator[Label]:
    for at, one in enumerate(sent):
        where = f"labels[{at}]"
        if not 0 < len(one.request_id) <= LONGEST_ID:
            raise UserError(f"{where}.request_id", one.request_id[:40], f"an id of 1 to {LONGEST_ID} characters")
        if one.metric not in bounds:
            takes = ", ".join(str(name) for name in bounds if name is not None) or "no metric"
            raise UserError(f"{where}.metric", one.metric, f"a metric of the Model file: {takes}")
        _check_value(one, *bounds[one.metric], where)
        yield Label(
            row_id(one.request_id), seconds(one.time, f"{where}.time"), wall, one.value, one.outcome, one.metric
        )


def _check_value(one: _Sent, least: float, most: float, where: str) -> None:
    if one.outcome == "cancelled":
        if one.value is not None:
            raise UserError(f"{where}.value", one.value, "null, where the outcome is cancelled")
    elif one.value is None or not least <= one.value <= most:
        raise UserError(f"{where}.value", one.value, f"a number from {least:g} to {most:g}")


def _refuse(error: msgspec.DecodeError) -> NoReturn:
    """A decoder's message (``Expected `str`, got `int` - at `$.labels[0].time` ``) as our one line."""
    text, _, path = str(error).partition(" - at `$")
    where = path.strip("`.")
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", text):
        raise UserError(f"{where}.{missing[1]}".lstrip("."), None, "a value; the field is required")
    where = where or "labels"
    if wrong := re.fullmatch(r"Expected `(.+)`, got `(.+)`", text):
        raise UserError(where, wrong[2], wrong[1])
    takes = "observed or cancelled" if where.endswith("outcome") else 'JSON {"labels": [{"request_id", "value", …}]}'
    raise UserError(where, text, takes)


def _says(label: Label) -> tuple[float | None, str]:
    return label.value, label.outcome
