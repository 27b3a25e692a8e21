"""What a person sees at the terminal while a command is at work, and how what was found is drawn there."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer

PATIENCE = 2.0
"""Seconds after which a command says what it is at."""
Show = Callable[[int, int], None]
BARS = "▁▂▃▄▅▆▇█"
COLOURS = {
    "promoted": "green", "watch": "green", "aborted": "red", "rolled_back": "red", "degraded": "red",
    "canary": "yellow", "ab": "yellow", "shadow": "yellow", "interleave": "yellow", "approval": "yellow",
}  # fmt: skip


@contextlib.contextmanager
def working(what: str, quiet: bool = False) -> Iterator[Show]:
    """Say on stderr what is at work and since when, once it took `PATIENCE`; where that is a terminal and not `quiet`.

    Gives a function that takes how much is done of how much.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    display = _Display(what)
    timer = threading.Timer(PATIENCE, display.start)
    timer.daemon = True
    timer.start()
    try:
        yield display.update
    finally:
        timer.cancel()
        display.stop()


class _Display:
    """A bar that is there only after it was started; stopped, it leaves nothing."""

    def __init__(self, what: str) -> None:
        self._what, self._lock, self._over = what, threading.Lock(), False
        self._bar: Any = None
        self._task: Any = None
        self._done: tuple[int, int] | None = None

    def start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        with self._lock:
            if self._over:
                return
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._what, total=None)
            self._bar.start()
        if self._done:
            self.update(*self._done)

    def update(self, done: int, total: int) -> None:
        self._done = done, total
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)

    def stop(self) -> None:
        with self._lock:
            self._over = True
            if self._bar is not None:
                self._bar.stop()


def paint(text: str, word: str) -> str:
    """`text` in the colour of what `word` says, on a terminal that wants colours (see https://no-color.org)."""
    colour = COLOURS.get(word)
    if colour is None or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return typer.style(text, fg=colour)


def spark(values: Sequence[float | None], most: int = 32) -> str:
    """The newest values as bars; a gap where one is not known, nothing for fewer than two."""
    shown = list(values)[-most:]
    known = [value for value in shown if value is not None]
    if len(known) < 2:
        return ""
    low, span = min(known), (max(known) - min(known)) or 1.0
    return "".join(" " if v is None else BARS[min(7, int(8 * (v - low) / span))] for v in shown)
