"""The views of `windows` kept up as events come: each batch of events gives the rows that it changed. Pure.

What `windows.build` works out from all events at once is worked out here from what is new, and both agree at every
instant up to `now`, whatever the order of the events and the cut of the batches, as long as no event comes later than
`LATENESS` after it happened. A batch costs what it brings and what happened since its oldest event; never what the
windows hold: a sum per key stands for everything before, and a value's leaving waits, sorted, for its time.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl

from tidegate.features.asof import TIME
from tidegate.features.windows import (
    OF_ALL,
    Definition,
    Latest,
    Trailing,
    counting,
    featured,
    shown,
    steps,
)
from tidegate.workload import EVENT_TIME

LATENESS = timedelta(minutes=10)
"""An event that comes within this after its time is put right online too; a later one waits for the next data version.

Memory grows with it (what happened within it is kept in order), and nothing else does.
"""

MERGED = 32
"""So many frames that begin at the same time are joined into one."""

_NEW = "__new"
_FIRST = "__first"
_BASE = "__base_"


class Pending:
    """Rows whose time is still to come, in frames sorted by time."""

    def __init__(self) -> None:
        self._frames: list[tuple[datetime, int, pl.DataFrame]] = []
        self._made = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Rows of any order; cheap where they are sorted already."""
        if rows.is_empty():
            return
        ordered = rows if rows[TIME].is_sorted() else rows.sort(TIME, maintain_order=True)
        self._made += 1
        heapq.heappush(self._frames, (ordered[TIME][0], self._made, ordered))

    def due(self, now: datetime) -> pl.DataFrame | None:
        """The rows whose time has come, no longer pending; None when there are none."""
        begun = []
        while self._frames and self._frames[0][0] <= now:
            begun.append(heapq.heappop(self._frames)[2])
        cuts = [int(frame[TIME].search_sorted(now, "right")) for frame in begun]
        rest = [frame.slice(cut) for frame, cut in zip(begun, cuts, strict=True) if cut < frame.height]
        for frame in rest if len(rest) < MERGED else [_concat(rest)]:
            self.add(frame)
        return _concat([frame.head(cut) for frame, cut in zip(begun, cuts, strict=True)]) if begun else None


class Recent:
    """Rows of the last `LATENESS`, in frames that follow each other in time."""

    def __init__(self) -> None:
        self._frames: deque[pl.DataFrame] = deque()

    def take_since(self, time: datetime) -> list[pl.DataFrame]:
        """The rows from `time` on, in order of time; they are taken out."""
        taken: deque[pl.DataFrame] = deque()
        while self._frames and self._frames[-1][TIME][-1] >= time:
            frame = self._frames.pop()
            cut = int(frame[TIME].search_sorted(time, "left"))
            if cut:
                self._frames.append(frame.head(cut))
            taken.appendleft(frame.slice(cut))
        return list(taken)

    def add(self, rows: pl.DataFrame) -> None:
        """Rows sorted by time, none before the newest that is held."""
        if rows.height:
            self._frames.append(rows)

    def forget(self, before: datetime) -> None:
        """Drop what is older."""
        while self._frames and self._frames[0][TIME][-1] < before:
            self._frames.popleft()
        if self._frames and (cut := int(self._frames[0][TIME].search_sorted(before, "left"))):
            self._frames[0] = self._frames[0].slice(cut)


class Sums:
    """Trailing sums by `keys`; with none, over all rows."""

    def __init__(self, keys: Sequence[str], values: Sequence[str]) -> None:
        self._keys, self._values = list(keys), list(values)
        self._recent = Recent()
        self._now: dict[tuple[object, ...], tuple[int, ...]] = {}

    def absorb(self, due: pl.DataFrame, whole: bool) -> pl.DataFrame:
        """Steps that came due -> the sums at every instant that they changed: keys, ``event_timestamp``, sums.

        `whole`: at every instant of every key since the oldest of the steps, changed or not.
        """
        keys, values = self._keys, self._values
        taken = self._recent.take_since(due[TIME].min())  # type: ignore[arg-type]
        before = self._before(taken, due)
        merged = _concat([*taken, due]).group_by(*keys, TIME).agg(pl.col(values).sum()).sort(TIME, *keys)
        self._recent.add(merged)
        running = pl.col(values).cum_sum()
        run = merged.with_columns(running.over(keys) if keys else running)
        based = _join(run, before, keys).select(
            *keys, TIME, *(pl.col(value) + pl.col(_BASE + value) for value in values)
        )
        self._keep(based)
        if whole or not keys:
            return based
        first = due.group_by(keys).agg(pl.col(TIME).min().alias(_FIRST))
        return based.join(first, on=keys, maintain_order="left").filter(pl.col(TIME) >= pl.col(_FIRST)).drop(_FIRST)

    def forget(self, before: datetime) -> None:
        """Events from before that time come no more."""
        self._recent.forget(before)

    def _before(self, taken: Sequence[pl.DataFrame], due: pl.DataFrame) -> pl.DataFrame:
        """The sums of the keys as they were before the instants that were taken."""
        keys, values = self._keys, self._values
        undone = _concat([*taken, due.clear()]).group_by(keys).agg(pl.col(values).sum()) if keys else None
        if undone is None:
            undone = _concat([*taken, due.clear()]).select(pl.col(values).sum())
        touched = pl.concat([undone.select(keys), due.select(keys)]).unique() if keys else pl.DataFrame({"": [0]})
        zero = (0,) * len(values)
        now = [self._now.get(key, zero) for key in (touched.rows() if keys else [()])]
        sums = pl.DataFrame(now, schema={_BASE + value: pl.Int64 for value in values}, orient="row")
        held = pl.concat([touched.select(keys), sums], how="horizontal") if keys else sums
        left = held.join(undone, on=keys, how="left") if keys else pl.concat([held, undone], how="horizontal")
        return left.select(*keys, *(pl.col(_BASE + value) - pl.col(value).fill_null(0) for value in values))

    def _keep(self, based: pl.DataFrame) -> None:
        """Remember each key's newest sums."""
        keys, values = self._keys, self._values
        last = based.unique(keys, keep="last", maintain_order=True) if keys else based.tail(1)
        self._now.update(zip(last.select(keys).rows() if keys else [()], last.select(values).rows(), strict=True))


class TrailingView:
    """One `Trailing` view kept up."""

    def __init__(self, definition: Trailing) -> None:
        self._definition, self._pending = definition, Pending()
        values = tuple(definition.events.values)
        self._own = Sums(definition.view.keys, values)
        self._all = Sums((), values) if definition.of_all else None

    def absorb(self, tables: Mapping[str, pl.DataFrame], now: datetime) -> pl.DataFrame | None:
        """The changed rows, up to `now`; None when nothing changed."""
        one, keys = self._definition, self._definition.view.keys
        taken = one.events.take(keys, tables[one.events.table])
        if taken.height:
            both = steps(taken, keys, tuple(one.events.values), one.window)
            for half in (both.head(taken.height), both.tail(taken.height)):
                self._pending.add(half)
        due = self._pending.due(now)
        return None if due is None else featured(one, self._summed(due))

    def forget(self, before: datetime) -> None:
        """Events from before that time come no more."""
        self._own.forget(before)
        if self._all:
            self._all.forget(before)

    def _summed(self, due: pl.DataFrame) -> pl.DataFrame:
        own = self._own.absorb(due, whole=self._all is not None)
        if self._all is None:
            return own
        values = self._definition.events.values
        every = self._all.absorb(due.select(TIME, *values), whole=True)
        return own.join(every.rename({value: OF_ALL + value for value in values}), on=TIME, maintain_order="left")


class LatestView:
    """One `Latest` view kept up."""

    def __init__(self, definition: Latest) -> None:
        self._definition, self._pending, self._recent = definition, Pending(), Recent()

    def absorb(self, tables: Mapping[str, pl.DataFrame], now: datetime) -> pl.DataFrame | None:
        """The changed rows, up to `now`; None when nothing changed."""
        one = self._definition
        self._pending.add(_concat([events.take(one.view.keys, tables[events.table]) for events in one.events]))
        due = self._pending.due(now)
        if due is None:
            return None
        before = [frame.with_columns(pl.lit(False).alias(_NEW)) for frame in self._recent.take_since(due[TIME].min())]  # type: ignore[arg-type]
        counted = counting(one, _concat([*before, due.with_columns(pl.lit(True).alias(_NEW))]))
        self._recent.add(counted.drop(_NEW))
        return shown(one, counted.filter(_NEW))

    def forget(self, before: datetime) -> None:
        """Events from before that time come no more."""
        self._recent.forget(before)


class Views:
    """Every view of a workload kept up; `now` is the time up to which their rows are given, `late` counts events."""

    def __init__(self, definitions: Iterable[Definition], lateness: timedelta = LATENESS) -> None:
        self._views = {
            one.view.name: LatestView(one) if isinstance(one, Latest) else TrailingView(one) for one in definitions
        }
        self._lateness = lateness
        self.late = 0

    def absorb(self, tables: Mapping[str, pl.DataFrame], now: datetime) -> dict[str, pl.DataFrame]:
        """Take new events (each once, of every table a frame) and the time; the changed rows by view.

        A row holds the key's value from its ``event_timestamp`` on and replaces what was given before for that instant.
        An event later than `now` is taken now and shown when its time comes; one older than `now` - lateness is not
        taken, and counted.
        """
        oldest = now - self._lateness
        in_time = {name: rows.filter(pl.col(EVENT_TIME) >= oldest) for name, rows in tables.items()}
        self.late += sum(tables[name].height - rows.height for name, rows in in_time.items())
        return self.take(in_time, now)

    def take(self, tables: Mapping[str, pl.DataFrame], now: datetime) -> dict[str, pl.DataFrame]:
        """As `absorb`, of events that were found in time before: the history, or a log read again."""
        changed = {name: view.absorb(tables, now) for name, view in self._views.items()}
        for view in self._views.values():
            view.forget(now - self._lateness)
        return {name: rows for name, rows in changed.items() if rows is not None and rows.height}


class Newest:
    """Of each key the instant of the newest row that was shown: an older one never takes its place."""

    def __init__(self) -> None:
        self._shown: dict[tuple[object, ...], datetime] = {}

    def of(self, keys: Sequence[str], rows: pl.DataFrame) -> pl.DataFrame:
        """Each key's newest row, where it is not older than one that was shown before."""
        ordered = rows.sort(TIME, maintain_order=True)
        last = ordered.unique(list(keys), keep="last", maintain_order=True) if keys else ordered.tail(1)
        fresh = []
        for key, time in zip(last.select(keys).rows() if keys else [()], last[TIME], strict=True):
            fresh.append((known := self._shown.get(key)) is None or time >= known)
            if fresh[-1]:
                self._shown[key] = time
        return last.filter(pl.Series(fresh, dtype=pl.Boolean))


def horizon(definitions: Iterable[Definition]) -> timedelta | None:
    """How far back events still matter to a view's present rows; None: all of them do."""
    spans = []
    for one in definitions:
        if one.view.ttl is None:
            return None
        spans.append(one.view.ttl + (one.window if isinstance(one, Trailing) else timedelta(0)))
    return max(spans, default=timedelta(0))


def _join(rows: pl.DataFrame, before: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    return rows.join(before, on=keys, maintain_order="left") if keys else rows.join(before, how="cross")


def _concat(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames, how="vertical_relaxed")
