"""Figures that somebody wants to read when all is green: pytest prints them before its closing line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

LINES: list[str] = []


def tell(line: str) -> None:
    """Now where output is not captured, and at the end."""
    print(line, flush=True)
    LINES.append(line)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Tell the seconds of what happens within, when it has happened."""
    started = time.monotonic()
    yield
    tell(f"{time.monotonic() - started:7.1f} s  {name}")
