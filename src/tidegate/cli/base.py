"""What every command shares: options, how a document or a text is printed, groups of verbs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class Word(TyperGroup):
    """A word's command group: a first argument that is no verb belongs to the step itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Send anything that does not open with a verb to the hidden command `step`."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["step", *args]
        return super().parse_args(ctx, args)


def group(help_: str, cls: type[TyperGroup] | None = None) -> typer.Typer:
    """A command group with its help."""
    return typer.Typer(help=help_, cls=cls, add_completion=False, rich_markup_mode=None)


app = typer.Typer(
    help="Continuous delivery of machine-learning models, proved in production.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
State = Annotated[Path, typer.Option("--state", help="State folder.")]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL.yaml")]
WorkloadName = Annotated[str, typer.Option("--workload", help="package.module:object")]
DEFAULT_STATE = Path(".tidegate")


def say(document: Any, as_json: bool, text: str) -> None:
    """Print `document` as JSON for machines or `text` for people."""
    if as_json:
        from tidegate.journal.events import canonical

        typer.echo(canonical(document))
    else:
        typer.echo(text)


def say_lines(documents: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Print JSON lines as they come; returns the last one."""
    last = None
    for last in documents:
        say(last, True, "")
    return last
