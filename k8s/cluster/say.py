"""What the person who waits sees: a line for each phase with its seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

_CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
SECONDS: dict[str, float] = {}
"""Seconds of each phase of this process, by its name, in order."""


def say(line: str) -> None:
    """One line, at once."""
    _CONSOLE.print(line, markup=False)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Time what happens within; a failure is told with its time too and goes on up."""
    began = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"{time.monotonic() - began:7.1f} s  FAILED {name}")
        raise
    SECONDS[name] = time.monotonic() - began
    say(f"{SECONDS[name]:7.1f} s  {name}")
