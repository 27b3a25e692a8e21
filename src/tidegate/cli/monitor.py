"""Diagnosis over files: exactly what production runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.base import Json, app, say, say_lines
from tidegate.cli.working import working
from tidegate.errors import UserError


@app.command()
def diagnose(
    reference: Annotated[Path, typer.Option("--reference", metavar="R.parquet", help="Rows the model never saw.")],
    current: Annotated[Path | None, typer.Option("--current", metavar="C.parquet", help="The rows to look at.")] = None,
    stream: Annotated[
        Path | None, typer.Option("--stream", metavar="DIR", help="Instead: window_000.parquet, ... in order.")
    ] = None,
    label: Annotated[str, typer.Option("--label", metavar="COL", help="0, 1, or null.")] = "label",
    score: Annotated[str, typer.Option("--score", metavar="COL", help="The probability that was served.")] = "score",
    time: Annotated[
        str | None, typer.Option("--time", metavar="COL", help="Rows of a UTC day repeat together.")
    ] = None,
    group: Annotated[str | None, typer.Option("--group", metavar="COL", help="The same by a column's values.")] = None,
    categorical: Annotated[str, typer.Option("--categorical", metavar="A,B", help="Beside columns of text.")] = "",
    model: Annotated[
        Path | None, typer.Option("--model", metavar="FILE", help="model.onnx of a version: scores again after skew.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option("--alpha", help="False alarms a kind; 0.005, in a stream 0.001.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say why a model degrades: skew, selective labels, domain shift, concept drift, data drift, or none."""
    from tidegate.monitor import diagnose_file
    from tidegate.monitor.files import Roles

    if (current is None) == (stream is None):
        raise UserError("tidegate diagnose", "both or neither of --current and --stream", "one of them")
    if alpha is not None and not 0 < alpha < 1:
        raise UserError("--alpha", alpha, "a number between 0 and 1")
    named = frozenset(name.strip() for name in categorical.split(",") if name.strip())
    asked = diagnose_file.Asked(reference, Roles(label, score, time, group, named), model, alpha)
    if stream is not None:
        say_lines(diagnose_file.diagnose_stream(asked, stream))
    elif current is not None:
        with working("comparing the rows", as_json):
            document = diagnose_file.diagnose_file(asked, current)
        say(document, as_json, diagnose_file.text(document))
