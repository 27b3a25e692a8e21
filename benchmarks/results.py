"""What a benchmark found, and its three forms: text for the terminal, Markdown for docs/results/, JSON."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"
"""Caches outside the clone: welcome, never needed."""


@dataclass(frozen=True)
class Budget:
    """One promise beside what was measured."""

    what: str
    limit: str
    got: str
    met: bool

    def line(self) -> str:
        """The promise as a sentence."""
        return f"{'met' if self.met else 'NOT MET'}: {self.what}: {self.got} (budget: {self.limit})"


@dataclass(frozen=True)
class Result:
    """A table of figures, the budgets, how to read them; `figures` are the same numbers by name, unrounded."""

    bench: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    budgets: Sequence[Budget] = ()
    notes: Sequence[str] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """The table in columns of equal width, then budgets and notes."""
        lines = [f"{self.bench}: {self.title}", "", *_columns([self.columns, *self.rows])]
        return "\n".join([*lines, "", *(budget.line() for budget in self.budgets), *self.notes])

    def to_markdown(self, machine: Mapping[str, str]) -> str:
        """A page of docs/results/: commit, machine and date in its head."""
        head = [f"# {self.bench}: {self.title}", "", *(f"- {key}: {value}" for key, value in machine.items()), ""]
        table = [_cells(self.columns), _cells(["---"] * len(self.columns)), *(_cells(row) for row in self.rows)]
        budgets = [f"- {budget.line()}" for budget in self.budgets]
        told = [f"- {note}" for note in self.notes]
        return "\n".join([*head, *table, "", *budgets, *([""] if budgets and told else []), *told]) + "\n"


def machine() -> dict[str, str]:
    """Where and when a result was made."""
    return {
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {_memory()}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def write(result: Result, folder: Path = ROOT / "docs/results") -> Path:
    """Write a result's page; returns its path."""
    path = folder / f"{result.bench}.md"
    path.write_text(result.to_markdown(machine()), encoding="utf-8")
    return path


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    first = [row[0].ljust(widths[0]) for row in rows]
    return [
        "  ".join([start, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for start, row in zip(first, rows, strict=True)
    ]


def _cells(row: Sequence[str]) -> str:
    return f"| {' | '.join(cell.strip().replace('|', chr(92) + '|') for cell in row)} |"


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(("git", *words), cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = " with changes that are not committed" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory"
