"""The diagnosis on planted causes: which name each window gets, false alarms, streams (`make diagnosis-report`).

Windows that were looked at are kept in ~/.cache/tidegate/diagnosis, by the digest of the code that looked: a report
that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import resource
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import diagnosis_worlds as worlds
from benchmarks.diagnosis_cells import ALPHA, Cell, look_at
from benchmarks.diagnosis_streams import ROWS, WINDOWS, OneStream, follow
from benchmarks.results import ROOT, Budget, Result, say
from tidegate.monitor.diagnose import ORDER, diagnose

DAYS, DAYS_ROWS = 21, 5_000
NULLS = {500: 150, 2_000: 150, 10_000: 60}
REPEATS = {500: 6, 2_000: 14, 10_000: 6}
DAYS_NULLS, DAYS_REPEATS, HARMLESS, SEEDS = 200, 10, 40, 10
STREAMS = 10
"""Of each of two worlds."""
NAMES = ("none", *ORDER, "not_assessable")
Found = dict[Cell, dict[str, Any]]


def cells() -> Iterator[Cell]:
    """Every window of the report; seeds of worlds are 0 to 9, of draws the number of the repeat."""
    for world in ("synth", "flights"):
        for rows, count in NULLS.items():
            yield from (Cell(world, rows, "none", False, n % SEEDS, n) for n in range(count))
        yield from (Cell(world, 10_000, "mcar", False, n % SEEDS, n) for n in range(HARMLESS))
        for rows, count in REPEATS.items():
            for cause, clear in _planted():
                yield from (Cell(world, rows, cause, clear, n % SEEDS, 1000 + n) for n in range(count))
    yield from (Cell("flights_days", DAYS_ROWS, "none", False, n % SEEDS, n, DAYS) for n in range(DAYS_NULLS))
    for cause, clear in _planted():
        for n in range(DAYS_REPEATS):
            yield Cell("flights_days", DAYS_ROWS, cause, clear, n % SEEDS, 1000 + n, DAYS)


def run() -> Result:
    """The matrix, the share named right by cause and size, streams, speed."""
    found = look_at(cells(), kept())
    rows = [*_matrix(found), *_shares(found)]
    budgets = [*_false_alarms(found), *_wrong_names(found), *_right_names(found), _streams(), *_speed()]
    return Result("diagnosis", "names given to planted causes", ("what", *NAMES), rows, budgets, NOTES)


NOTES = (
    f"Each window is a single report (alpha {ALPHA} a kind); a model and a reference of 6,000 held-out rows for each "
    "of ten seeds of a world. Rows: what was planted; columns: the primary finding.",
    f"flights_days: {DAYS_ROWS:,} rows of {DAYS} whole days, drawn without order: days differ and nothing drifts.",
)


def kept() -> Path:
    """Where windows that were looked at are kept: one file for each state of the code."""
    sources = [*(ROOT / "src/tidegate/monitor").glob("*.py"), *(ROOT / "benchmarks").glob("diagnosis_[cw]*.py")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()[:12]
    folder = Path.home() / ".cache/tidegate/diagnosis"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{digest}.jsonl"


def _planted() -> Iterator[tuple[str, bool]]:
    for cause in (*worlds.CAUSES, worlds.UNDERSAMPLED):
        yield cause, False
        yield cause, True


def _kind(cause: str) -> str:
    if cause in ("none", "mcar"):
        return "none"
    return "domain_shift" if cause == worlds.UNDERSAMPLED else worlds.CAUSES[cause][0]


def _strength(cell: Cell) -> str:
    return "" if _kind(cell.cause) == "none" else " clear" if cell.clear else " subtle"


def _matrix(found: Found) -> Iterator[tuple[str, ...]]:
    return _table(found, lambda cell: f"all: {_kind(cell.cause)}{_strength(cell)}")


def _shares(found: Found) -> Iterator[tuple[str, ...]]:
    return _table(found, lambda cell: f"{cell.world} {cell.rows:,}: {cell.cause}{_strength(cell)}")


def _table(found: Found, row_of: Any) -> Iterator[tuple[str, ...]]:
    counts: dict[str, Counter[str]] = {}
    for cell, one in found.items():
        counts.setdefault(row_of(cell), Counter())[one["finding"]] += 1
    for name in sorted(counts):
        yield name, *(str(counts[name][kind]) for kind in NAMES)


def _budget(what: str, yes: int, of: int, limit: float, at_most: bool = False) -> Budget:
    share = yes / of if of else float("nan")
    met = share <= limit if at_most else share >= limit
    return Budget(what, f"{'at most' if at_most else 'at least'} {limit:.0%}", f"{yes} of {of}, {share:.1%}", met)


def _false_alarms(found: Found) -> Iterator[Budget]:
    for days, which in ((False, "all windows without drift"), (True, "of them windows of whole days")):
        calm = [one for cell, one in found.items() if _kind(cell.cause) == "none" and (cell.days or not days)]
        yield _budget(f"false alarms, {which}", sum(bool(one["findings"]) for one in calm), len(calm), 0.01, True)


def _wrong_names(found: Found) -> Iterator[Budget]:
    planted = {cell: one["finding"] for cell, one in found.items() if _kind(cell.cause) != "none"}
    wrong = sum(name not in ("none", "not_assessable", _kind(cell.cause)) for cell, name in planted.items())
    yield _budget("wrong names", wrong, len(planted), 0.03, True)


def _right_names(found: Found) -> Iterator[Budget]:
    """The bars by size and cause; the under-sampled group is excepted at 10,000 rows and in windows of days."""
    hard = {"level", "local", "mix"}
    clear = [cause for cause in worlds.CAUSES if _kind(cause) not in ("skew", "selective_labels")]
    certain = [cause for cause in worlds.CAUSES if cause not in clear]
    for strength in (False, True):
        yield _named(found, 2_000, certain, strength, 0.98)
    yield _named(found, 2_000, [*clear, worlds.UNDERSAMPLED], True, 0.97)
    yield _named(found, 2_000, ["tilt"], False, 0.97)
    for cause in sorted(hard):
        yield _named(found, 2_000, [cause], False, 0.45)
    for cause in worlds.CAUSES:
        yield _named(found, 10_000, [cause], False, 0.95)
    yield _named(found, DAYS_ROWS, [*clear, *certain], True, 0.97)


def _named(found: Found, rows: int, causes: list[str], clear: bool, limit: float) -> Budget:
    names = [
        one["finding"] == _kind(c.cause)
        for c, one in found.items()
        if c.rows == rows and c.cause in causes and c.clear == clear
    ]
    which = f"{'clear' if clear else 'subtle'} {', '.join(causes)}"
    return _budget(f"{rows:,} rows, named: {which}", sum(names), len(names), limit)


def _streams() -> Budget:
    """At most one alarm in each of 20 streams."""
    streams = [OneStream(world, seed) for world in ("synth", "flights") for seed in range(STREAMS)]
    alarms = []
    for number, one in enumerate(streams, 1):
        alarms.append(len(follow(one)["alarms"]))
        say(f"diagnosis_report: stream {number} of {len(streams)}: {alarms[-1]} alarms")
    what = f"most alarms in one of {len(streams)} streams of {WINDOWS} windows of {ROWS} rows, pools included"
    return Budget(what, "at most 1", f"{max(alarms)} ({sum(alarms)} in all)", max(alarms) <= 1)


def _speed() -> Iterator[Budget]:
    world = worlds.synth(0)
    for rows, limit in ((10_000, 2.0), (100_000, 6.0)):
        current = worlds.tilt(world, rows, True, np.random.default_rng(1))
        began = time.process_time()
        diagnose(world.reference, current)
        spent = time.process_time() - began
        yield Budget(f"{rows:,} rows, one core", f"under {limit:.0f} s", f"{spent:.2f} s", spent < limit)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield Budget("peak memory of this process", "under 1,024 MB", f"{peak:.0f} MB", peak < 1024)
