"""What the person who waits sees: a line for each phase with its seconds."""

from __future__ import annotations

import resource
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
    """Time what happens within; a failure is told with its time too and goes on up.

    The second number is processor seconds of the programs that were run and ended meanwhile.
    """
    began, before = time.monotonic(), _processor()
    try:
        yield
    except BaseException:
        say(f"{time.monotonic() - began:7.1f} s {_processor() - before:7.1f} cpu  FAILED {name}")
        raise
    SECONDS[name] = time.monotonic() - began
    say(f"{SECONDS[name]:7.1f} s {_processor() - before:7.1f} cpu  {name}")


def _processor() -> float:
    ours, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return ours.ru_utime + ours.ru_stime + ended.ru_utime + ended.ru_stime
