"""Which version answered what: the prediction log read for names and times only, features left undecoded. Does I/O."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tidegate.observations import each_score, parse_segment


class Answer(msgspec.Struct, frozen=True, tag="p", tag_field="t", gc=False):
    """One answered row of the prediction log."""

    request_id: str
    time: float
    version: str
    digest: str
    arm: str | None
    score: float | None

    @property
    def copied(self) -> bool:
        """Whether the version answered a copy of the request, which nobody was sent."""
        return self.arm is not None and self.arm != self.version


class _Answers(msgspec.Struct, frozen=True, tag="a", tag_field="t", gc=False):
    """The rows of a request that had several."""

    request_id: str
    time: float
    version: str
    digest: str
    arm: str | None
    scores: bytes | list[float | None]


class _Label(msgspec.Struct, tag="l", tag_field="t"):
    pass


class _Mark(msgspec.Struct, tag="m", tag_field="t"):
    pass


_DECODER = msgspec.json.Decoder(Answer | _Answers | _Label | _Mark)


@dataclass
class Tally:
    """What one version answered: rows, those of them that were copies, and the newest row that was sent out."""

    rows: int = 0
    copies: int = 0
    newest: Answer | None = None

    def add(self, answer: Answer) -> None:
        """Count one row."""
        self.rows += 1
        self.copies += answer.copied
        if not answer.copied and (self.newest is None or answer.time >= self.newest.time):
            self.newest = answer


@dataclass
class Answered:
    """A prediction log: a tally a digest, and the rows of the request that was asked for."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    rows: list[Answer] = field(default_factory=list)


def answered(folder: Path, request: str | None = None) -> Answered:
    """Count the rows of a prediction log by digest, and find those of `request` (``ID``, or ``ID/1`` for one row)."""
    found = Answered()
    for answer in _answers(folder):
        found.tallies.setdefault(answer.digest, Tally()).add(answer)
        if request is not None and request in (answer.request_id, answer.request_id.rpartition("/")[0]):
            found.rows.append(answer)
    return found


def _answers(folder: Path) -> Iterator[Answer]:
    """Every whole line that is a prediction, segment by segment."""
    for path in sorted(folder.glob("*.jsonl")):
        if parse_segment(path.name) is None:
            continue
        content = path.read_bytes()
        for line in content[: content.rfind(b"\n") + 1].splitlines():
            with contextlib.suppress(msgspec.DecodeError, ValueError):
                record = _DECODER.decode(line)
                if isinstance(record, Answer):
                    yield record
                elif isinstance(record, _Answers):
                    yield from _each(record)


def _each(told: _Answers) -> Iterator[Answer]:
    for index, score in enumerate(each_score(told.scores)):
        yield Answer(f"{told.request_id}/{index}", told.time, told.version, told.digest, told.arm, score)
