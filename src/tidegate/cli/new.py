"""``tidegate new`` and ``tidegate doctor``: a second workload, and how far a project is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.base import Json, app, say


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The package's name, for example churn.")],
    file: Annotated[Path, typer.Option("--from", metavar="FILE", help="CSV or Parquet; a row a question.")],
    label: Annotated[str, typer.Option("--label", metavar="COL", help="What is predicted: two values, or empty.")],
    time: Annotated[str, typer.Option("--time", metavar="COL", help="When the question is asked.")],
    key: Annotated[
        str, typer.Option("--key", metavar="COL", help="Names a row; or, where it repeats, whom it is about.")
    ],
    label_after: Annotated[
        str, typer.Option("--label-after", metavar="SPAN", help="How long after the question its label is known.")
    ] = "1d",
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="The project's folder.")] = Path(),
    as_json: Json = False,
) -> None:
    """Write a second workload from a file's own columns: it trains, serves and passes its own tests."""
    from tidegate.errors import UserError
    from tidegate.new.project import create
    from tidegate.new.propose import Roles
    from tidegate.spec import parse_span

    try:
        after = parse_span(label_after)
    except ValueError as error:
        raise UserError("--label-after", label_after, str(error)) from None
    if not isinstance(after, timedelta) or not after:
        raise UserError("--label-after", label_after, "a time span above 0, for example 24h")
    written = create(name, file, Roles(label, time, key, after), into)
    say(written.to_json(), as_json, written.to_text())


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(metavar="PATH", help="The project's folder.")] = Path(),
    level: Annotated[int, typer.Option("--level", min=0, max=2, help="Below it the exit status is 1.")] = 0,
    as_json: Json = False,
) -> None:
    """Score a project against levels 0, 1 and 2, with evidence, and check this machine."""
    from tidegate.doctor.report import examine, text

    document = examine(folder)
    say(document, as_json, text(document))
    reached = -1 if document["level"] is None else document["level"]
    if reached < level or not document["machine_ok"]:
        raise typer.Exit(1)
