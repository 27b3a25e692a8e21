"""The judge and the trigger policy over files: exactly what production runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.base import Json, app, group, say_lines
from tidegate.errors import UserError


@app.command()
def judge(
    evidence: Annotated[Path, typer.Argument(metavar="EVIDENCE.parquet")],
    policy: Annotated[Path, typer.Option("--policy", metavar="P.yaml", help="The judge block, flat.")],
    every: Annotated[int | None, typer.Option("--every", help="Rows between two looks.")] = None,
    _json: Json = True,
) -> None:
    """Judge a file of evidence as production does; JSON lines, one a look."""
    from tidegate.release.judge_file import judge_file

    last = say_lines(judge_file(evidence, policy, every))
    if last and last["verdict"] == "abort":
        raise typer.Exit(1)


trigger = group("Triggers: when a model is trained again.")
app.add_typer(trigger, name="trigger")


@trigger.callback()
def _trigger() -> None:
    """Triggers: when a model is trained again."""


@trigger.command("replay")
def trigger_replay(
    events: Annotated[Path, typer.Argument(metavar="EVENTS.jsonl")],
    model: Annotated[Path, typer.Option("--model", metavar="MODEL.yaml")],
    _json: Json = True,
) -> None:
    """Run the trigger policy over a file of events; JSON lines, one an event."""
    from tidegate.spec import load_model
    from tidegate.trigger.events import read_events
    from tidegate.trigger.replay import replay as policy_replay

    spec = load_model(model).spec.triggers
    try:
        lines = events.read_bytes().splitlines()
    except OSError as error:
        raise UserError(str(events), error.strerror, "a file of JSON lines") from None
    say_lines(policy_replay(read_events(lines, str(events)), spec, str(events)))
