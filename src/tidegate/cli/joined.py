"""`tidegate monitor join`: the label join of the whole log, kept in the state folder."""

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


@contextlib.contextmanager
def _show(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show what is at work on stderr, where it is a terminal and not `quiet`."""
    if quiet or not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console

    with Console(stderr=True).status("joining") as status:
        yield status.update
