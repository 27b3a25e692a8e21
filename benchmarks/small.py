"""The smaller budgets: a run with nothing changed, the command line, replay, the label join, the judge."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import core
from benchmarks.results import Budget, Result, say
from demo.story import ROOT, TIDEGATE, command

UNTIL = "2013-07-01T04:00Z"
Line = tuple[str, str, Budget | None]


def run() -> Result:
    """Measure one after the other."""
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="tidegate-small-") as made:
        lines = [*_runs(Path(made), figures), _help(figures), _replay(Path(made), figures)]
    lines += [_join(figures), *_judge(figures)]
    rows = [(what, got) for what, got, _ in lines]
    budgets = [budget for _, _, budget in lines if budget]
    return Result("small", "the smaller budgets", ("what", "measured"), rows, budgets, (), figures)


def _runs(state: Path, figures: dict[str, object]) -> list[Line]:
    say("small: a run, the same run again, and the same in a new folder")
    told = [_run(folder) for folder in (state, state, state / "elsewhere")]
    (first, one), (second, again), (_, anew) = told
    figures["run_seconds"], figures["digests"] = [first, second], [one, again, anew]
    budget = Budget("a second run with nothing changed", "under 5 s", f"{second:.2f} s", second < 5)
    same = "equal" if one == again == anew else "not equal"
    equal = Budget("digests of the same inputs, again and without the cache", "equal", same, same == "equal")
    return [
        ("first run", f"{first:.1f} s", None),
        ("the same run again", f"{second:.2f} s", budget),
        ("their digests, and that of a new folder", f"{same}: {one[:19]}…", equal),
    ]


def _run(state: Path) -> tuple[float, str]:
    """Seconds of a run and the digest that it came to."""
    began = time.perf_counter()
    found = json.loads(command("run", str(core.MODEL), "--until", UNTIL, "--state", str(state), "--json"))
    return time.perf_counter() - began, found["digest"]


def _help(figures: dict[str, object]) -> Line:
    say("small: --help")
    spent = statistics.median(_timed(("--help",)) for _ in range(7))
    figures["help_seconds"] = spent
    budget = Budget("tidegate --help", "under 0.5 s", f"{spent:.2f} s", spent < 0.5)
    return "tidegate --help, median of 7", f"{spent:.2f} s", budget


def _replay(state: Path, figures: dict[str, object]) -> Line:
    say("small: replay of a long journal")
    events = core.fill_journal(state, 3000)
    began = time.perf_counter()
    text = command("replay", "--state", str(state))
    spent = time.perf_counter() - began
    assert text.startswith("reproduced"), text
    figures["replay"] = {"events": events, "seconds": spent}
    return f"tidegate replay, {events:,} events", f"{spent:.2f} s, {1000 * spent / events:.2f} s per 1,000", None


def _join(figures: dict[str, object]) -> Line:
    say("small: label join")
    rows, spent = 200_000, core.label_join(200_000, 5)
    rate = rows * len(spent) / sum(spent)
    figures["label_join"] = {"rows": rows * len(spent), "seconds": spent}
    whole = 1e7 / rate
    budget = Budget("label join, 10 M by 10 M at this rate", "under 60 s", f"{whole:.0f} s (extrapolated)", whole < 60)
    return f"label join, {rows * len(spent):,} rows in 5 parts", f"{rate:,.0f} rows/s", budget


def _judge(figures: dict[str, object]) -> list[Line]:
    say("small: looks of the judge")
    few, many = core.looks(100_000, 12), core.looks(1_000_000, 3)
    figures["look_seconds"] = {"100000": few, "1000000": many}
    early, late = (statistics.median(cpu for _, cpu in part) for part in (few[1:5], few[-4:]))
    large = min(wall for wall, _ in many[1:])
    flat = Budget("a look does not grow with history", "within 1.5x", f"{late / early:.2f}x", late < 1.5 * early)
    most = Budget("a look over 1 M new observations", "under 1 s", f"{large:.2f} s", large < 1)
    return [
        ("judge, a look over 100,000 new rows, CPU, looks 2 to 5", f"{early:.3f} s", None),
        ("the same after 0.8 M rows, CPU, looks 9 to 12", f"{late:.3f} s", flat),
        ("judge, a look over 1,000,000 new rows, wall, best of 2", f"{large:.2f} s", most),
    ]


def _timed(words: tuple[str, ...]) -> float:
    began = time.perf_counter()
    subprocess.run((*TIDEGATE, *words), cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began
