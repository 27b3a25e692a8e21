"""Which models a backtest trains, and which rows each of them scores. Pure.

```
 oldest row ... first cut ............. cut ............. cut ....... newest row
     |--- window ---|gap|--- scored ---->|--- scored ---->|-- scored -->|
```
A model of a cut is trained on its window, which ends one label deadline before the cut, and on rows whose label was
there at the cut; it scores the rows from its cut to the next one. Everything is scored from the first cut on, so that
all cells answer the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from tidegate.errors import UserError
from tidegate.spec import parse_span
from tidegate.train.splits import Splits, Window, split

DAY, WEEK = 86_400.0, 7 * 86_400.0
EVER = math.inf
WINDOWS = (28, 90, 180)
"""Days of the windows that are tried where the history before the first cut is `LONGER` times as long; all of it is."""
LONGER = 1.25
CADENCES = {"quarterly": 84, "monthly": 28, "weekly": 7}
"""Days between two trainings, whole weeks, so that a rarer cadence's models are among those of a denser one."""
MOST_WEEKS = 24
"""Scored at most, where no time is given: two quarters."""
LEAST = 14 * DAY
"""Scored at least: fewer days tell no interval worth its name."""

Mode = Literal["stateless", "stateful"]


@dataclass(frozen=True)
class Length:
    """A time span with the name that it is asked and shown by; `EVER` is the window all and the cadence never."""

    name: str
    seconds: float


ALL, NEVER = Length("all", EVER), Length("never", EVER)


@dataclass(frozen=True)
class Cell:
    """One way to keep a model fresh."""

    window: Length
    cadence: Length
    mode: Mode

    @property
    def name(self) -> str:
        """``90d, monthly, stateless``."""
        return f"{self.window.name}, {self.cadence.name}, {self.mode}"


@dataclass(frozen=True)
class Grid:
    """Windows from the shortest, cadences from the rarest; scored are prediction times in (first, until], seconds."""

    first: float
    until: float
    deadline: float
    windows: tuple[Length, ...]
    cadences: tuple[Length, ...]

    @property
    def stale(self) -> Cell:
        """What everything is compared with: trained once, on the longest window, at the first cut."""
        return Cell(self.windows[-1], NEVER, "stateless")

    def cells(self, modes: Iterable[Mode]) -> tuple[Cell, ...]:
        """Every cell, the stale one first; never is stateless only."""
        every = [
            Cell(window, cadence, mode)
            for mode in modes
            for window in self.windows
            for cadence in self.cadences
            if mode == "stateless" or cadence != NEVER
        ]
        return (self.stale, *(cell for cell in every if cell != self.stale))

    def cuts(self, cadence: Length) -> tuple[tuple[float, float], ...]:
        """(cut, next cut) of a cadence, in order."""
        count = 1 if cadence == NEVER else math.ceil((self.until - self.first) / cadence.seconds)
        starts = [self.first + number * cadence.seconds if number else self.first for number in range(count)]
        return tuple(zip(starts, [*starts[1:], self.until], strict=True))

    def scored_until(self, cut: float) -> float:
        """How far a stateless model of `cut` is asked by any cadence."""
        return max(after for cadence in self.cadences for start, after in self.cuts(cadence) if start == cut)

    def parts(self, window: Length, cut: float, after: float, validation: float) -> Splits:
        """The parts of a training: its gate window is what it scores, (cut, after]."""
        found = split(after + self.deadline, self.deadline, after - cut, cut - self.deadline - window.seconds)
        newest = Window(found.train.until - validation, found.train.until)
        return replace(found, validation=newest, fit=Window(found.train.after, newest.after - self.deadline))


def chosen(
    start: float,
    until: float,
    deadline: float,
    windows: tuple[Length, ...] | None = None,
    cadences: tuple[Length, ...] | None = None,
    since: float | None = None,
) -> Grid:
    """The grid for rows with prediction times from `start` to `until`; all in seconds.

    Scored is what was asked after `since`; where that is None the newest half, in whole weeks (of four, where there are
    four) and at most `MOST_WEEKS`. Windows and cadences that are None are chosen by the span. Raises UserError where
    too little is there to learn from or to score.
    """
    first = _newest_half(start, until) if since is None else since
    if not start < first <= until - LEAST:
        raise UserError("--since", _day(first), f"a time from {_day(start)} to {_day(until - LEAST)}")
    history, scored = first - deadline - start, until - first
    tried = [Length(f"{days}d", days * DAY) for days in WINDOWS if LONGER * days * DAY <= history]
    paces = [Length(name, days * DAY) for name, days in CADENCES.items() if 2 * days * DAY <= scored]
    wide, often = windows or (*tried, ALL), (NEVER, *(paces if cadences is None else cadences))
    if long := [found.name for found in often if found != NEVER and found.seconds >= scored]:
        raise UserError("--cadences", long[0], f"less than the {scored / DAY:.0f} days that are scored")
    kept = sorted(set(often), key=lambda length: -length.seconds)
    return Grid(first, until, deadline, tuple(sorted(set(wide), key=lambda length: length.seconds)), tuple(kept))


def windows_of(text: str) -> tuple[Length, ...]:
    """What a person asked for: ``28d,90d,all``."""
    return tuple(
        ALL if word == ALL.name else _span(word, "--windows", "all or days such as 28d")
        for word in _words(text, "--windows")
    )


def cadences_of(text: str) -> tuple[Length, ...]:
    """What a person asked for: ``never,monthly,3d``."""
    known = {NEVER.name: NEVER, **{name: Length(name, days * DAY) for name, days in CADENCES.items()}}
    takes = f"{', '.join(known)} or days such as 14d"
    return tuple(known.get(word) or _span(word, "--cadences", takes) for word in _words(text, "--cadences"))


def _newest_half(start: float, until: float) -> float:
    weeks = min(MOST_WEEKS, int((until - start) / 2 // WEEK))
    weeks -= weeks % 4 if weeks > 4 else 0
    if weeks * WEEK < LEAST:
        raise UserError(
            "rows", f"{(until - start) / DAY:.0f} days with labels", "at least 28 days to test freshness on"
        )
    return until - weeks * WEEK


def _day(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).date().isoformat()


def _words(text: str, option: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UserError(option, text, "names with commas between them")
    return words


def _span(word: str, option: str, takes: str) -> Length:
    try:
        seconds: float = parse_span(word).total_seconds()  # type: ignore[attr-defined]
    except ValueError:
        raise UserError(option, word, takes) from None
    if seconds < DAY:
        raise UserError(option, word, f"{takes}; at least one day")
    return Length(word, seconds)
