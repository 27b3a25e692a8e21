"""How much memory a join may take, and how much a table will. Does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import psutil

_CGROUP = Path("/sys/fs/cgroup")
_WIDTH_OF_TEXT = 32


def available_bytes() -> int:
    """Free memory of the machine, or of the container's limit where that is less."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else max(min(free, int(limit) - used), 1)


def decoded_bytes(rows: int, schema: Mapping[str, pl.DataType]) -> int:
    """About what a table takes once read: numbers by their type, text and the rest 32 bytes a value."""
    return rows * sum(_width(kind) for kind in schema.values())


def _width(kind: pl.DataType) -> int:
    if kind.is_numeric() or kind.is_temporal():
        return 8
    return 1 if kind == pl.Boolean else _WIDTH_OF_TEXT
