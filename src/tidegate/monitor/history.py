"""The joined history: matured rows in Parquet, brought up to date from the log as often as one likes. Does I/O.

``FOLDER/rows-000001.parquet`` and so on hold each row once, in the step in which it matured; other parts hold what is
carried from step to step (`bulk.Carried`). ``FOLDER/history.json`` names them, says up to which byte every segment was
taken, and is replaced last and as a whole. So a step that is killed at any moment has not happened: what it left is
deleted by the next one. A step adds parts of what is new; more than `FEW` small ones are put together.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tidegate.errors import UserError
from tidegate.ingest.disk import to_disk
from tidegate.monitor import bulk
from tidegate.observations import Label, Prediction, parse_segment, read_segment_from

NAME = "history.json"
NEVER = -1e300
"""Watermark before the first step. (JSON has no infinity.)"""
KINDS = ("rows", "open", "ahead", "settled", "labels")
SMALL = 100_000
"""Rows of a part that is never put together with others."""
FEW = 16
"""Smaller parts that there may be of a kind."""
Say = Callable[[str], None]


class Part(msgspec.Struct):
    """One Parquet file of the folder; `newest` is the greatest time in it, seconds since the epoch."""

    name: str
    rows: int
    newest: float


class Manifest(msgspec.Struct):
    """What `history.json` holds; times are seconds since the epoch."""

    deadline: float
    keep: float
    step: int = 0
    until: float = NEVER
    newest: float = NEVER
    """The newest event time of any prediction taken."""
    taken: dict[str, int] = {}
    """By segment: bytes taken; of a Parquet file, its rows, which are taken as a whole."""
    parts: dict[str, list[Part]] = {}
    """By kind (`KINDS`), oldest first."""
    counts: dict[str, int] = {}


class History:
    """The joined history in one folder; `deadline` and `keep` (None: the deadline) are event seconds, as in the join.

    Raises UserError when the folder holds a history of another deadline.
    """

    def __init__(self, folder: Path, deadline: float, keep: float | None = None) -> None:
        self.folder = folder
        asked = Manifest(deadline, deadline if keep is None else keep)
        self.manifest = read_manifest(folder) or asked
        if (self.manifest.deadline, self.manifest.keep) != (asked.deadline, asked.keep):
            takes = f"{self.manifest.deadline:g} s, with which it was begun; delete it to join again"
            raise UserError(f"deadline of {folder}", f"{deadline:g} s", takes)

    def update(
        self,
        predictions: Path,
        labels: Path,
        until: float | None = None,
        memory: int = bulk.MEMORY,
        say: Say = lambda what: None,
    ) -> dict[str, int]:
        """Take what is new in two folders of segments (JSON lines or Parquet) and join it; returns this step's counts.

        `until` is the watermark, None the newest event time in the log; one that goes back stays where it was.
        Raises UserError when there is no such folder, or another process is joining here.
        """
        for what, folder in (("predictions", predictions), ("labels", labels)):
            if not folder.is_dir():
                raise UserError(f"--{what}", str(folder), "a folder of segments (.jsonl or .parquet)")
        with self._alone():
            self.manifest = read_manifest(self.folder) or self.manifest
            self._clean()
            work = self.folder / ".work"
            work.mkdir()
            fresh = _Fresh(work, dict(self.manifest.taken), self.manifest.newest)
            new = fresh.take(predictions, "predictions", say), fresh.take(labels, "labels", say)
            since = self.manifest.until
            step = bulk.Step(
                max(since, fresh.newest if until is None else until), since, self.manifest.deadline, self.manifest.keep
            )
            carried = bulk.Carried(*(self.files(kind) for kind in KINDS[1:]))
            expired = [self.folder / part.name for part in self._parts("labels") if part.newest < step.horizon]
            inputs = bulk.Inputs(*new, carried, expired)
            say(f"joining {len(inputs.predictions)} files of predictions and {len(inputs.labels)} of labels")
            return self._commit(step, inputs, fresh, memory)

    def files(self, kind: str = "rows") -> list[Path]:
        """The Parquet files of one of `KINDS`, oldest step first."""
        return [self.folder / part.name for part in self._parts(kind)]

    def _parts(self, kind: str) -> list[Part]:
        return self.manifest.parts.get(kind, [])

    def _commit(self, step: bulk.Step, inputs: bulk.Inputs, fresh: _Fresh, memory: int) -> dict[str, int]:
        before, number = self.manifest, self.manifest.step + 1
        paths = [self.folder / f"{kind}-{number:06d}.parquet" for kind in KINDS]
        counts = bulk.join(step, inputs, bulk.Outputs(*paths), fresh.work / "spill", memory)
        counts["late"] += counts.pop("late_now")
        counts["corrected_late"] += counts.pop("corrected_now")
        parts = {kind: self._added(kind, path, _ends(step, kind)) for kind, path in zip(KINDS, paths, strict=True)}
        self._put_together(parts, step)
        for part in (part for kind in KINDS for part in parts[kind] if part not in self._parts(kind)):
            to_disk(self.folder / part.name)
        total = {name: before.counts.get(name, 0) + value for name, value in counts.items()} | {"open": counts["open"]}
        self.manifest = Manifest(
            before.deadline, before.keep, number, step.until, fresh.newest, fresh.taken, parts, total
        )
        _replace(self.folder / NAME, msgspec.json.encode(self.manifest))
        self._clean()
        return counts

    def _added(self, kind: str, path: Path, ends: float) -> list[Part]:
        """The parts of a kind with the new one, without those that have nothing from `ends` on."""
        kept = [part for part in self._parts(kind) if part.newest >= ends]
        return [*kept, *([made] if (made := _part(path)).rows else [])]

    def _put_together(self, parts: dict[str, list[Part]], step: bulk.Step) -> None:
        """Make one part of the small ones of the kind that has most of them; the other kinds wait for later steps."""
        small = {kind: [part for part in parts[kind] if part.rows < SMALL] for kind in KINDS}
        kind = max(KINDS, key=lambda kind: len(small[kind]))
        if len(small[kind]) <= FEW:
            return
        path = self.folder / f"{kind}-{self.manifest.step + 1:06d}-merged.parquet"
        ends = NEVER if kind == "labels" else _ends(step, kind)
        bulk.merge([self.folder / part.name for part in small[kind]], path, ends)
        parts[kind] = [*(part for part in parts[kind] if part not in small[kind]), _part(path)]

    def _clean(self) -> None:
        """Delete what no step has committed, and what the newest one has replaced."""
        shutil.rmtree(self.folder / ".work", ignore_errors=True)
        kept = {part.name for parts in self.manifest.parts.values() for part in parts}
        for path in self.folder.glob("*.parquet"):
            if path.name not in kept:
                path.unlink()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise UserError(str(self.folder), "in use", "a folder that no other `tidegate monitor join` uses") from None
        finally:
            os.close(handle)


def read_manifest(folder: Path) -> Manifest | None:
    """What the folder's history says of itself; None where there is none."""
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None


class _Fresh:
    """What the segments have beyond what was taken, as Parquet files."""

    def __init__(self, work: Path, taken: dict[str, int], newest: float) -> None:
        self.work, self.taken, self.newest = work, taken, newest

    def take(self, folder: Path, what: str, say: Say) -> list[Path]:
        """Parquet files with the new records of a folder; JSON lines are turned into columns, segment by segment."""
        found = [self._whole(path, what) for path in sorted(folder.glob("*.parquet"))]
        segments = sorted(path for path in folder.glob("*.jsonl") if parse_segment(path.name))
        for number, path in enumerate(segments, 1):
            made = self._new_of(path, what)
            if made:
                say(f"{what}: read {number} of {len(segments)} segments")
            found.append(made)
        return [path for path in found if path is not None]

    def _whole(self, path: Path, what: str) -> Path | None:
        import pyarrow.parquet as pq

        key = f"{what}/{path.name}"
        if key in self.taken:
            return None
        about = pq.read_metadata(path)
        self.taken[key] = about.num_rows
        if what == "predictions":
            self.newest = max([self.newest, *_newest_of(about)])
        return path

    def _new_of(self, path: Path, what: str) -> Path | None:
        """The records of one segment that were not taken yet; its size tells at once when there is none."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        key = f"{what}/{path.name}"
        if self.taken.get(key, 0) == path.stat().st_size:
            return None
        new, self.taken[key] = read_segment_from(path, self.taken.get(key, 0))
        rows = _predictions(new) if what == "predictions" else _labels(new)
        if what == "predictions":
            self.newest = max([self.newest, *rows["time"]])
        made = self.work / f"{what}-{path.name}.parquet"
        if not rows["time"]:
            return None
        kinds = {"VARCHAR": pa.string(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_()}
        columns = bulk.PREDICTION if what == "predictions" else bulk.LABEL
        schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
        pq.write_table(pa.table(rows, schema=schema), made, compression="snappy")
        return made


def _predictions(records: list[Any]) -> dict[str, list[Any]]:
    """Predictions as columns; rows of other endpoints are no evidence and left out."""
    rows = [one for one in records if isinstance(one, Prediction) and one.endpoint is None]
    plain = [name for name in bulk.PREDICTION if name != "features"]
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in plain}
    return columns | {"features": [msgspec.json.encode(row.features).decode() for row in rows]}


def _labels(records: list[Any]) -> dict[str, list[Any]]:
    rows = [one for one in records if isinstance(one, Label)]
    return {name: [getattr(row, name) for row in rows] for name in bulk.LABEL}


def _ends(step: bulk.Step, kind: str) -> float:
    """The time before which a row of this kind is needed no more after the step."""
    if kind == "ahead":
        return float("inf")
    return {"rows": NEVER, "open": step.until - step.deadline - 1.0}.get(kind, step.horizon)


def _part(path: Path) -> Part:
    import pyarrow.parquet as pq

    about = pq.read_metadata(path)
    return Part(path.name, about.num_rows, max(_newest_of(about), default=NEVER))


def _newest_of(about: Any) -> Iterator[float]:
    """The greatest time of each row group that says it; Parquet files say it when a usual writer made them."""
    at = about.schema.names.index("time") if "time" in about.schema.names else -1
    for group in range(about.num_row_groups if at >= 0 else 0):
        statistics = about.row_group(group).column(at).statistics
        if statistics is not None and statistics.has_min_max:
            yield float(statistics.max)


def _replace(path: Path, content: bytes) -> None:
    made = path.with_name(f".{path.name}")
    made.write_bytes(content)
    to_disk(made)
    made.replace(path)
    to_disk(path.parent)
