"""What evaluate and register are asked beside their steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.base import DEFAULT_STATE, Json, ModelFile, State, say
from tidegate.cli.words import words
from tidegate.cli.working import working


@words["evaluate"].command("freshness")
def evaluate_freshness(
    model_file: ModelFile,
    state: State = DEFAULT_STATE,
    until: Annotated[str | None, typer.Option(help="Use what had arrived by then (ISO 8601); else midnight.")] = None,
    since: Annotated[str | None, typer.Option(help="Score what came after; the newest half when absent.")] = None,
    windows: Annotated[str | None, typer.Option(help="28d,90d,all; chosen by the data's span when absent.")] = None,
    cadences: Annotated[str | None, typer.Option(help="never,quarterly,monthly,weekly or spans such as 14d.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where the page goes; freshness.html when absent.")] = None,
    as_json: Json = False,
) -> None:
    """Play windows and cadences on the past: what newer data gains and costs, and whether another model gains more."""
    from tidegate.evaluate import freshness_page
    from tidegate.evaluate.freshness_report import Wanted, freshness
    from tidegate.spec import load_model

    page = out or (None if as_json else Path("freshness.html"))
    document = freshness(load_model(model_file), state, Wanted(until, since, windows, cadences), page)
    say(document, as_json, f"{freshness_page.text(document)}\npage: {page}")


@words["register"].command("lineage")
def register_lineage(
    asked: Annotated[str, typer.Argument(metavar="VERSION_OR_REQUEST_ID")],
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Walk from a request or a version to its run, parameters, code, data and parents, and back to what it answered."""
    from tidegate.register import trace

    with working("reading journal and prediction log", as_json):
        document = trace.trace(state, asked)
    say(document, as_json, trace.text(document))
