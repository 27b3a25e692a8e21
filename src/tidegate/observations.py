"""The observation store: predictions and labels, appended by many writers, read by the join.

A writer's rows stand in segments ``WRITER.000001.jsonl``, ``WRITER.000002.jsonl`` ...: files of JSON lines, of which
only the newest grows. A line without its newline is torn and is not read; a writer that starts again cuts it off.
Times are seconds since the epoch.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from tidegate.errors import PlatformError

END = sys.float_info.max
"""Time of the last mark of a writer that was closed: nothing comes after it. (JSON has no infinity.)"""

FLUSH_EVERY = 0.05
"""Seconds between two writes of the background thread; with them at most that much is lost to ``kill -9``. The thread
shares the answering one's processor, so it takes its time in small pieces."""

SYNC_EVERY = 1.0
"""Seconds between two fdatasync of what was written: the machine's death costs at most that much."""

EARLY_BYTES = 4 * 2**20
"""Bytes after which the kernel is told to begin writing them to the disk: fdatasync would do it for all of a second
at once."""

SEGMENT_BYTES = 64 * 2**20
"""A segment that has grown to this is left and the next one begun."""

MOST_BUFFERED = 200_000
"""Rows held while the disk does not take them; more are dropped and counted."""

WRITE_BYTES = 2**18
"""About what is given to the disk in one go."""

_MOST_LINES = 512
"""Lines in one go: the kernel takes 1,024 parts, a line and its end are two."""


class Shown(msgspec.Struct, frozen=True, array_like=True):
    """How one item of a mixed list was shown."""

    item: int
    """Its place in the order asked, from 0."""
    rank: int
    """1 is the top; 0 where no model had a list."""
    credit: str | None
    """The version that the item is credited to; None: one model alone had a list, so nothing was mixed."""
    took: tuple[float | None, float | None]
    """Milliseconds until the champion's and the challenger's list; None: that one failed or came too late."""


class Prediction(msgspec.Struct, frozen=True, tag="p", tag_field="t", omit_defaults=True):
    """One answered row. `request_id` is ``ID/0`` for the first row of request ID."""

    request_id: str
    time: float
    """Event time of the request: its `at` under the event clock, else wall time."""
    wall: float
    version: str
    """The replica's own version, known from its start-up; never from a header."""
    digest: str
    arm: str | None
    """``x-tidegate-arm`` as received: the version behind the route entry. Another than `version`: a mirrored row.
    None: the request went round the gateway and is no evidence."""
    propensity: float | None
    """``x-tidegate-propensity`` as received."""
    release: str | None
    """``x-tidegate-release`` as received."""
    score: float | None
    """Probability of the positive class; None when the request failed."""
    error: bool
    """The service answered 5xx."""
    latency_ms: float
    features: list[float | str | None]
    """As served, in the feature schema's order."""
    keys: dict[str, str | None] | None = None
    """The entity keys that were asked for, by name; None: the request brought the features itself."""
    known: list[float | None] | None = None
    """For each feature view, in the workload's order, until when the online store had been fed (seconds)."""
    fallback: str | None = None
    """The coarsest level that stood in for an unseen key; None: every key had its own value."""
    endpoint: str | None = None
    """None: a prediction. ``rank`` or ``explain``: the row was one of several alternatives, or asked why; such rows
    are kept, but are no evidence: many stand for one request, and which of them ever gets a label is up to the score.
    """
    shown: Shown | None = None
    """Of a row that the merge service mixed: an item of a list that a user saw."""
    weights: str | None = None
    """``x-tidegate-weights`` as received: every arm's share, where there are more than two."""
    region: str | None = None
    """``x-tidegate-region`` as received: whose split drew the arm, where a release goes region by region."""
    returning: bool = False
    """A cookie chose the arm: the client was drawn at an earlier request, so this one is no evidence of its own."""


class Answered(msgspec.Struct, frozen=True, tag="a", tag_field="t", omit_defaults=True):
    """All rows of one request that had several, in one line; a reader gives them as `Prediction`s.

    The fields are those of `Prediction`, what differs from row to row as a list of N.
    """

    request_id: str
    """Without the row's number."""
    time: float
    wall: float
    version: str
    digest: str
    arm: str | None
    propensity: float | None
    release: str | None
    scores: Annotated[bytes, msgspec.Meta(min_length=4)] | Annotated[list[float | None], msgspec.Meta(min_length=1)]
    """Packed: N float32, little-endian. A list where the model failed, and in logs from before they were packed."""
    error: bool
    latency_ms: float
    numbers: bytes = b""
    """Features as served, flat row by row: [N * F] doubles or, with `single`, float32, little-endian, NaN for null.
    Empty when not retained."""
    categories: dict[int, list[str | None]] = {}
    """Of each column of `numbers` that is a category the N texts that were served."""
    keys: list[dict[str, str | None]] | None = None
    known: list[float | None] | None = None
    fallbacks: list[str | None] | None = None
    endpoint: str | None = None
    weights: str | None = None
    region: str | None = None
    returning: bool = False
    single: bool = False
    names: msgspec.Raw | UnsetType = UNSET
    """In place of `categories` where that is shorter: of each such column the texts of codes 1, 2 ..., as JSON."""

    def rows(self) -> list[Prediction]:
        """The rows in the order asked; ValueError when lists do not fit each other."""
        scores = each_score(self.scores)
        nothing = [None] * len(scores)
        features = as_served(self.numbers, self.categories, len(scores), self.single, self.names)
        told = zip(scores, self.keys or nothing, self.fallbacks or nothing, strict=True)
        return [
            Prediction(
                f"{self.request_id}/{index}", self.time, self.wall, self.version, self.digest, self.arm,
                self.propensity, self.release, score, self.error, self.latency_ms,
                features[index], keys, self.known, fallback, self.endpoint,
                weights=self.weights, region=self.region, returning=self.returning,
            )
            for index, (score, keys, fallback) in enumerate(told)
        ]  # fmt: skip


def each_score(scores: bytes | Sequence[float | None]) -> Sequence[float | None]:
    """What `Answered.scores` holds, one a row; ValueError when bytes are no float32 numbers."""
    return _unpacked("f", scores) if isinstance(scores, bytes) else scores


def as_served(
    numbers: bytes, texts: Mapping[int, Sequence[str | None]], count: int, single: bool = False,
    names: msgspec.Raw | UnsetType = UNSET,
) -> list[list[float | str | None]]:  # fmt: skip
    """`count` rows of what `Answered` keeps flat, numbers and texts of columns; ValueError where they do not fit."""
    found = _unpacked("f" if single else "d", numbers)
    width, uneven = divmod(len(found), count)
    if uneven:
        raise ValueError(f"{len(found)} numbers of {count} rows")
    values: list[float | str | None] = [value if math.isfinite(value) else None for value in found]
    for column, told in texts.items():
        if len(told) != count or not 0 <= column < width:
            raise ValueError(f"{len(told)} texts of {count} rows in column {column} of {width}")
        values[column::width] = told
    for column, by_code in _by_code(bytes(names)).items() if names is not UNSET and found else ():
        if not 0 <= column < width:
            raise ValueError(f"names of column {column} of {width}")
        try:
            values[column::width] = list(map(by_code.__getitem__, values[column::width]))
        except KeyError as error:
            raise ValueError(f"{error} is no code of column {column}") from None
    return [values[start : start + width] for start in range(0, count * width, width)] if width else [[]] * count


@lru_cache(64)
def _by_code(names: bytes) -> dict[int, dict[float | str | None, str | None]]:
    """For each column the text of each code, as `Answered.names` tells it; ValueError where it is no such JSON."""
    try:
        told = msgspec.json.decode(names, type=dict[int, list[str | None]])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"names: {error}") from None
    return {column: {None: None, 0.0: None, **dict(enumerate(texts, 1))} for column, texts in told.items()}


def _unpacked(kind: Literal["f", "d"], numbers: bytes) -> array[float]:
    found = array(kind, numbers)
    if sys.byteorder == "big":
        found.byteswap()
    return found


class Label(msgspec.Struct, frozen=True, tag="l", tag_field="t"):
    """What became of a request, told later. `value` None with outcome ``cancelled``: leaves the loss, stays counted."""

    request_id: str
    time: float
    wall: float
    value: float | None
    outcome: str
    metric: str | None = None


class Mark(msgspec.Struct, frozen=True, tag="m", tag_field="t"):
    """A writer's promise: every row it had accepted with a time up to `time` stands before this line."""

    time: float


Record = Prediction | Label
_Line = Prediction | Answered | Label | Mark


class SegmentWriter:
    """Appends records to the segments of one writer; thread-safe, and never raises on a full disk.

    `append` puts the record's line on a list: encoded at once, while it is in the processor's cache; a daemon thread
    writes the list every `FLUSH_EVERY` seconds. What the disk does not take is dropped and counted in `dropped`, and
    its half-written line is cut off again.
    Raises PlatformError when the folder cannot be made or written at all.
    """

    def __init__(self, folder: Path, name: str, segment_bytes: int = SEGMENT_BYTES, background: bool = True) -> None:
        self.name, self.rows, self.dropped = name, 0, 0
        self._accepted, self._taken = 0, 0
        self._folder, self._segment_bytes = folder, segment_bytes
        self._waiting: deque[tuple[bytes, int]] = deque()
        """Lines without their end, and the rows of each."""
        self._encode = msgspec.json.Encoder().encode
        self._writing = threading.Lock()
        self._stopped = threading.Event()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._number = newest_number(folder, name) or 1
            self._open()
        except OSError as error:
            raise PlatformError(f"{folder}: {error.strerror}") from None
        self._thread = threading.Thread(target=self._run, name=f"flush {name}", daemon=True)
        if background:
            self._thread.start()

    def append(self, record: Record | Answered, numbers: bytes = b"") -> None:
        """Take a record; it is on disk after the next flush.

        `numbers`: those of an `Answered` that was made without them, in base64 already, which msgspec makes slowly.
        """
        count = _count(record)
        if self._accepted - self._taken + count > MOST_BUFFERED:
            self.dropped += count
            return
        self.rows += count
        self._accepted += count
        line = self._encode(record)
        if numbers:
            line = b"".join((line[:-1], b',"numbers":"', numbers, b'"}'))
        self._waiting.append((line, count))

    def promise(self, time: float) -> None:
        """Put a mark behind the records taken so far, without waiting for the disk."""
        self._waiting.append((self._encode(Mark(time)), 0))

    def mark(self, time: float) -> None:
        """Put a mark behind the records taken so far and write everything."""
        self.promise(time)
        self.flush()

    def flush(self) -> None:
        """Write whatever was taken before this call; returns when the operating system has it."""
        with self._writing:
            count = len(self._waiting)
            while count > 0:
                count -= self._write_some(count)

    def close(self) -> None:
        """Write the rest and the last mark; the segment is finished."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self.mark(END)
        with self._writing, contextlib.suppress(OSError):
            os.fdatasync(self._file)
            os.close(self._file)

    def _run(self) -> None:
        synced, written = -math.inf, False
        while not self._stopped.wait(FLUSH_EVERY):
            if self._waiting:
                self.flush()
                written = True
            if written and monotonic() - synced >= SYNC_EVERY:
                with contextlib.suppress(OSError):
                    os.fdatasync(self._file)
                synced, written = monotonic(), False

    def _open(self) -> None:
        """Open the segment that `_number` names, with a torn last line cut off."""
        path = self._folder / f"{self.name}.{self._number:06d}.jsonl"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = self._begun = _whole(self._file)
        os.ftruncate(self._file, self._size)

    def _write_some(self, count: int) -> int:
        """Write of the first `count` waiting lines as many as `WRITE_BYTES` hold; returns how many were taken."""
        lines, rows, size = list[bytes](), 0, 0
        while len(lines) < min(count, _MOST_LINES) and size < WRITE_BYTES:
            line, own = self._waiting.popleft()
            lines.append(line)
            rows, size = rows + own, size + len(line)
        self._taken += rows
        try:
            self._write(lines, size + len(lines))
        except OSError:
            self.dropped += rows
            self.rows -= rows
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
        return len(lines)

    def _write(self, lines: Sequence[bytes], size: int) -> None:
        """Write lines, `size` bytes with their ends, from where they are: a copy costs more than the write."""
        parts: list[bytes | memoryview] = [part for line in lines for part in (line, b"\n")]
        left = size
        while left := left - os.writev(self._file, parts):
            parts = [memoryview(b"".join(parts))[-left:]]
        self._size += size
        if self._size - self._begun >= EARLY_BYTES:
            self._begin_writeback()
        if self._size >= self._segment_bytes:
            os.fdatasync(self._file)
            os.close(self._file)
            self._number += 1
            self._open()

    def _begin_writeback(self) -> None:
        """Let the kernel begin with what was not begun yet; it waits for nothing."""
        if hasattr(os, "posix_fadvise"):
            # of pages that are not on the disk yet this advice begins the writing and drops none
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._file, self._begun, self._size - self._begun, os.POSIX_FADV_DONTNEED)
        self._begun = self._size


@dataclass
class _Tail:
    """How far one segment was read."""

    path: Path
    writer: str
    number: int
    offset: int = 0


@dataclass
class _Progress:
    """A writer's newest mark, and whether it said that it has ended."""

    mark: float = -math.inf
    ended: bool = False


@dataclass
class SegmentReader:
    """Reads what all writers of a folder have appended, each line once; cheap when there is nothing new."""

    folder: Path
    corrupt: int = 0
    """Whole lines that are not a record; they are passed over."""
    _tails: dict[str, _Tail] = field(default_factory=dict)
    _writers: dict[str, _Progress] = field(default_factory=dict)
    _alive: frozenset[str] | None = None
    _watermark: float = -math.inf
    _decoder: msgspec.json.Decoder[_Line] = field(default_factory=lambda: msgspec.json.Decoder(_Line))

    def expect(self, writers: Iterable[str] | None) -> None:
        """Say which writers are alive: only they hold the watermark back. None: every writer that has not ended."""
        self._alive = None if writers is None else frozenset(writers)

    def read(self) -> list[Record]:
        """New whole lines since the last call, in each writer's order; marks move the watermark."""
        found: list[Record] = []
        for tail in self._list():
            for record in self._lines(tail):
                if type(record) is Mark:
                    self._advance(tail.writer, record.time)
                elif type(record) is Answered:
                    found += self._rows(record)
                else:
                    found.append(record)  # type: ignore[arg-type]
        return found

    @property
    def watermark(self) -> float:
        """The newest time up to which every live writer's rows were read; -inf when unknown, and never goes back.

        A writer that is expected and has not yet marked holds it where it is; where nobody is alive, it is the newest
        mark of all.
        """
        names = self._writers.keys() if self._alive is None else self._alive
        live = [self._writers.get(name, _Progress()) for name in names]
        marks = [progress.mark for progress in live if not progress.ended]
        if not marks:
            marks = [max((progress.mark for progress in self._writers.values()), default=-math.inf)]
        self._watermark = max(self._watermark, min(marks))
        return self._watermark

    def _list(self) -> list[_Tail]:
        """The segments that have grown, in each writer's order."""
        grown = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                tail = self._tails.get(entry.name) or self._meet(entry)
                if tail is not None and entry.stat().st_size > tail.offset:
                    grown.append(tail)
        return sorted(grown, key=lambda tail: (tail.writer, tail.number))

    def _meet(self, entry: os.DirEntry[str]) -> _Tail | None:
        name = parse_segment(entry.name)
        if name is None:
            return None
        tail = self._tails[entry.name] = _Tail(Path(entry.path), *name)
        progress = self._writers.setdefault(tail.writer, _Progress())
        progress.ended = False
        return tail

    def _lines(self, tail: _Tail) -> list[_Line]:
        with tail.path.open("rb") as file:
            file.seek(tail.offset)
            chunk = file.read()
        chunk = chunk[: chunk.rfind(b"\n") + 1]
        tail.offset += len(chunk)
        try:
            return self._decoder.decode_lines(chunk)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._one_by_one(chunk)

    def _one_by_one(self, chunk: bytes) -> list[_Line]:
        """The same, passing over lines that are not a record."""
        lines: list[_Line] = []
        for line in chunk.split(b"\n")[:-1]:
            try:
                lines.append(self._decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.corrupt += 1
        return lines

    def _rows(self, answered: Answered) -> list[Prediction]:
        try:
            return answered.rows()
        except ValueError:
            self.corrupt += 1
            return []

    def _advance(self, writer: str, time: float) -> None:
        progress = self._writers[writer]
        progress.ended = time >= END
        if not progress.ended:
            progress.mark = max(progress.mark, time)


def read_segment(path: Path) -> list[Record]:
    """The records of one segment, in order; a torn last line and lines that are no record are passed over."""
    return read_segment_from(path, 0)[0]


def read_segment_from(path: Path, offset: int) -> tuple[list[Record], int]:
    """The records of one segment from a byte on, as `read_segment`, and the byte behind the last whole line."""
    name, reader = parse_segment(path.name), SegmentReader(path.parent)
    if name is None:
        return [], offset
    tail, found = _Tail(path, *name, offset), list[Record]()
    for line in reader._lines(tail):
        if isinstance(line, Answered):
            found += reader._rows(line)
        elif not isinstance(line, Mark):
            found.append(line)
    return found, tail.offset


def parse_segment(name: str) -> tuple[str, int] | None:
    """``v1.1-8.000002.jsonl`` -> (``v1.1-8``, 2); None when it is not a segment's name."""
    stem, _, suffix = name.rpartition(".")
    writer, _, number = stem.rpartition(".")
    return (writer, int(number)) if suffix == "jsonl" and writer and number.isdecimal() else None


def _count(record: Record | Answered) -> int:
    """Rows of a record."""
    if type(record) is not Answered:
        return 1
    return len(record.scores) // (4 if type(record.scores) is bytes else 1)


def newest_number(folder: Path, writer: str) -> int:
    """Number of the writer's newest segment in `folder`, 0 when it has none."""
    names = (parse_segment(path.name) for path in folder.iterdir())
    return max((name[1] for name in names if name is not None and name[0] == writer), default=0)


def _whole(file: int) -> int:
    """Size of an open segment without its torn last line."""
    size = os.fstat(file).st_size
    while size > 0:
        start = max(0, size - 65536)
        newline = os.pread(file, size - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        size = start
    return 0
