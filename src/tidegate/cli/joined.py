"""`tidegate monitor`: the label join of the whole log, kept in the state folder, and what its labels cover."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.base import DEFAULT_STATE, Json, ModelFile, State, app, group, say

monitor = group("Labels of what was served.")
app.add_typer(monitor, name="monitor")
FOLDER = "joined"


@monitor.callback()
def about() -> None:
    """Labels of what was served."""


@monitor.command("join")
def join(
    model_file: ModelFile,
    state: State = DEFAULT_STATE,
    until: Annotated[str | None, typer.Option(help="Watermark (ISO 8601); else the newest time in the log.")] = None,
    predictions: Annotated[Path | None, typer.Option(metavar="DIR", help="Segments; else those of --state.")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="DIR", help="Segments; else those of --state.")] = None,
    as_json: Json = False,
) -> None:
    """Join new predictions and labels of the log into STATE/joined, each row once."""
    from tidegate.monitor.history import History
    from tidegate.monitor.times import seconds
    from tidegate.spec import load_model

    began = time.monotonic()
    history = History(state / FOLDER, load_model(model_file).spec.release.label_deadline.total_seconds())
    log = state / "observations"
    watermark = None if until is None else seconds(until, "--until")
    with _show(as_json) as show:
        counts = history.update(predictions or log / "predictions", labels or log / "labels", watermark, say=show)
    document = {"folder": str(history.folder), **counts, "seconds": round(time.monotonic() - began, 2)}
    say(document, as_json, "\n".join(f"{name}: {value}" for name, value in document.items()))


@monitor.command("labels")
def labels(
    model_file: ModelFile,
    state: State = DEFAULT_STATE,
    window: Annotated[str, typer.Option(help="How far back from the newest matured row.")] = "28d",
    as_json: Json = False,
) -> None:
    """Say how many joined rows have a label and after how long: by version, guarded slice, tenth of the score."""
    from tidegate.controller.slices import SliceValues, check_slices
    from tidegate.monitor import report
    from tidegate.monitor.history import History
    from tidegate.spec import load_model

    model = load_model(model_file)
    check_slices(model)
    loss = model.spec.release.judge.loss
    readers = SliceValues(state, model.spec.workload).readers(names := loss.slices if loss else ())
    history = History(state / FOLDER, model.spec.release.label_deadline.total_seconds())
    span = report.span(window)
    with _show(as_json, "reading the joined rows"):
        document = report.labels(history, span, names, lambda row: tuple(read(row.prediction) for read in readers))
    report.remember(history.folder, document)
    say(document, as_json, report.labels_text(document))


@contextlib.contextmanager
def _show(quiet: bool, what: str = "joining") -> Iterator[Callable[[str], None]]:
    """Show what is at work on stderr, where it is a terminal and not `quiet`."""
    if quiet or not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield status.update
