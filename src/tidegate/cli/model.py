"""What evaluate and register are asked beside their steps."""

from __future__ import annotations

from typing import Annotated

import typer

from tidegate.cli.base import DEFAULT_STATE, Json, State, say
from tidegate.cli.words import words


@words["register"].command("lineage")
def register_lineage(
    asked: Annotated[str, typer.Argument(metavar="VERSION_OR_REQUEST_ID")],
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Walk from a request or a version to its run, parameters, code, data and parents, and back to what it answered."""
    from tidegate.register import trace

    document = trace.trace(state, asked)
    say(document, as_json, trace.text(document))
