"""Looks again and again: each window, the last 4 and the last 16 together, and one open finding a kind.

A cause that is too subtle for one window is found when its rows are pooled. An alarm is given once: a kind stays open
until three windows in a row are quiet about it, and while it is open it alarms no more. What a look may alarm by
chance is shared out among its three questions (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tidegate.monitor.diagnose import ORDER, Diagnosis
from tidegate.monitor.drift import Column, Window

POOLS = (4, 16)
"""Windows that are looked at together."""
QUIET = 3
ALPHA = 0.001
"""False alarms a kind and look."""


@dataclass(frozen=True)
class Open:
    """Open findings: for each kind the number of windows in a row that were quiet about it."""

    quiet: Mapping[str, int] = field(default_factory=dict)

    def told(self, fired: set[str]) -> tuple[Open, bool]:
        """After a window in which `fired` was found: what is open, and whether this is an alarm."""
        quiet = {kind: 0 if kind in fired else count + 1 for kind, count in self.quiet.items()}
        quiet |= dict.fromkeys(fired, 0)
        return Open({kind: count for kind, count in quiet.items() if count < QUIET}), bool(fired - self.quiet.keys())


@dataclass(frozen=True)
class Looked:
    """One window of a stream: what was found in it or in a pool that ends with it."""

    finding: str
    findings: tuple[str, ...]
    alarm: bool


@dataclass(frozen=True)
class Stream:
    """The last windows (newest last) and what is open; `look` gives the next state."""

    last: tuple[Window, ...] = ()
    open: Open = field(default_factory=Open)

    def look(
        self, window: Window, diagnose: Callable[[Window, float], Diagnosis], alpha: float = ALPHA
    ) -> tuple[Stream, Looked]:
        """Diagnose a window, and the pools that end with it; `diagnose` compares with the reference, at its alpha."""
        last, each = (*self.last, window)[-max(POOLS) :], alpha / (1 + len(POOLS))
        single = diagnose(window, each)
        pooled = [diagnose(joined(last[-size:]), each) for size in POOLS if len(last) >= size]
        fired = {kind for found in (single, *pooled) for kind in found.findings}
        findings = tuple(kind for kind in ORDER if kind in fired)
        blind = all(found.finding == "not_assessable" for found in (single, *pooled))
        finding = findings[0] if findings else "not_assessable" if blind else "none"
        after, alarm = self.open.told(fired)
        return replace(self, last=last, open=after), Looked(finding, findings, alarm)


def joined(windows: tuple[Window, ...]) -> Window:
    """The rows of several windows together; recomputed features only where every window has them."""
    first = windows[0]
    known = None if any(one.known is None for one in windows) else _stack([one.known for one in windows])
    day = None if any(one.day is None for one in windows) else _stack([one.day for one in windows])
    again = [name for name in first.recomputed if all(name in one.recomputed for one in windows)]
    return Window(
        {name: _stack([one.features[name] for one in windows]) for name in first.features},
        _stack([one.score for one in windows]),
        _stack([one.label for one in windows]),
        day,
        known,
        {name: _stack([one.recomputed[name] for one in windows]) for name in again},
    )


def _stack(columns: list[Column | None]) -> Column:
    return np.concatenate([column for column in columns if column is not None])
