"""``tidegate evaluate freshness``: features joined once, the grid played on them, a page written. Does I/O.

Features come from the pipeline's own steps and their cache; models that were fitted are kept under
``STATE/cache/freshness``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.errors import Refused, UserError
from tidegate.evaluate.backtest import Bench, named, play, rows_digest
from tidegate.evaluate.card import to_html
from tidegate.evaluate.freshness import answer
from tidegate.evaluate.freshness_grid import DAY, Grid, Length, Mode, cadences_of, chosen, windows_of
from tidegate.evaluate.freshness_page import Asked, document, sections
from tidegate.ingest.disk import atomic_file
from tidegate.journal.views import iso, seconds
from tidegate.spec import Model
from tidegate.state import prepare
from tidegate.steps import FILES, run_step
from tidegate.train.settings import RunSettings
from tidegate.train.step import options_of, read_rows, schema_of
from tidegate.workload import Workload, load_workload

Show = Callable[[str, int, int], None]
"""(what is at work, how many are done, of how many)"""

_STEPS = {
    "ingest": (("workload", "until"), (), "arrivals"),
    "validate": (("workload", "champion"), ("arrivals",), "valid"),
    "version": ((), ("valid",), "data_version"),
    "features": (("workload",), ("valid", "data_version"), "features"),
}
"""Parameters, inputs and output of the steps that lead to features."""


@dataclass(frozen=True)
class Wanted:
    """What a person asked for, as it was typed; None leaves the choice to the data's span.

    `until` is the last midnight (UTC) when None: the same day asked twice finds its models in the cache. For the others
    see `tidegate.evaluate.freshness_grid.chosen`.
    """

    until: str | None = None
    since: str | None = None
    windows: str | None = None
    cadences: str | None = None

    def parsed(self) -> _Parsed:
        """As values; UserError names the option that is wrong."""
        return _Parsed(
            seconds(self.until, "--until") if self.until else time.time() // DAY * DAY,
            seconds(self.since, "--since") if self.since else None,
            windows_of(self.windows) if self.windows is not None else None,
            cadences_of(self.cadences) if self.cadences is not None else None,
        )


@dataclass(frozen=True)
class _Parsed:
    until: float
    since: float | None
    windows: tuple[Length, ...] | None
    cadences: tuple[Length, ...] | None


def freshness(model: Model, state: Path, wanted: Wanted, out: Path | None) -> dict[str, Any]:
    """Backtest the Model file's first family on what had arrived; writes the page `out`, returns the document.

    Raises UserError where rows are not retained or too few, Refused where the data gate refuses them.
    """
    spec = model.spec
    if not spec.training.retain:
        raise UserError("spec.training.retain", False, "true to test freshness: no earlier rows are kept to play again")
    known, parsed = load_workload(spec.workload), wanted.parsed()
    settings = RunSettings(training=spec.training, gate=spec.gate, label_deadline=spec.release.label_deadline)
    folder = prepare(state)
    with tempfile.TemporaryDirectory(prefix=".freshness-", dir=folder) as made, _progress() as show:
        features = _features(spec.workload, iso(parsed.until), folder, Path(made), show)
        bench = _bench(features, spec.workload, known, settings, folder)
        grid = _grid(bench, parsed)
        modes: tuple[Mode, ...] = ("stateless",) if spec.training.mode == "stateless" else ("stateless", "stateful")
        played = play(bench, grid, modes, lambda done, total: show("models", done, total))
    found = answer(played, spec.gate.metric, spec.gate.margin)
    family = bench.option[0].name
    asked = Asked(model.name, spec.workload, iso(parsed.until), family, spec.gate.metric, spec.gate.margin)
    told = document(asked, grid, played, found)
    if out is not None:
        with atomic_file(out) as page:
            page.write_text(to_html(sections(told)), encoding="utf-8")
    return told


def _features(workload: str, until: str, state: Path, root: Path, show: Show) -> Path:
    """The features file, by the pipeline's steps; rows that were joined before come from their cache."""
    given = {"workload": workload, "until": until, "champion": ""}
    for number, (name, (parameters, inputs, output)) in enumerate(_STEPS.items()):
        show(name, number, len(_STEPS))
        ins = {one: str(root / FILES[one]) for one in inputs}
        passed = {one: given[one] for one in parameters}
        if run_step(name, passed, ins, {output: str(root / FILES[output])}, str(state)) == "refused":
            raise Refused(f"the data gate refuses what had arrived by {until}: there are no rows to test freshness on")
    return root / FILES["features"]


def _bench(features: Path, workload: str, known: Workload, settings: RunSettings, state: Path) -> Bench:
    schema, option = schema_of(known), options_of(known, settings)[0]
    rows, cache = read_rows(features, schema), state / "cache" / "freshness"
    cache.mkdir(parents=True, exist_ok=True)
    digest = rows_digest(features, workload)
    return Bench(rows, schema, known.key, option, named(option, known.params), settings, cache, digest)


def _grid(bench: Bench, wanted: _Parsed) -> Grid:
    """Over the rows whose labels had matured."""
    deadline, times = bench.settings.label_deadline.total_seconds(), bench.rows.times
    if not len(times):
        raise UserError("rows", "none with a label", "at least 28 days to test freshness on")
    newest = min(float(times[-1]), wanted.until - deadline)
    return chosen(float(times[0]), newest, deadline, wanted.windows, wanted.cadences, wanted.since)


@contextmanager
def _progress() -> Iterator[Show]:
    """What is at work, as a bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
