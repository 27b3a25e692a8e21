"""The seven steps, each a command group: ``tidegate <word>`` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.base import Json, Word, app, group, say
from tidegate.cli.working import working

Params = Annotated[Path, typer.Option("--params", help="YAML file of the pipeline's parameters.")]
Root = Annotated[Path, typer.Option("--root", help="Folder of the artifacts.")]
_HELP = {
    "ingest": "Take what had arrived from the sources.",
    "validate": "The data gate: check rows against the contract.",
    "version": "Give the data a version by content.",
    "features": "Join the features as of each question.",
    "train": "Fit a candidate.",
    "evaluate": "The model gate: compare a candidate with the champion.",
    "register": "Make a candidate of what passed.",
}


def run_stage_of(word: str, params: Path, root: Path, as_json: bool) -> None:
    """Run one step on the artifacts under `root`; exit status 1 when it was refused."""
    from tidegate.steps import run_stage

    with working(word, as_json):
        done = run_stage(word, params, root)
    reason = str(done.result.get("reason", "")) if done.verdict == "refused" else ""
    why = f": {reason}" if reason else ""
    say({"step": word, "verdict": done.verdict, "reason": reason}, as_json, f"{word}: {done.verdict}{why}")
    if done.verdict == "refused":
        raise typer.Exit(1)


def _add_word(word: str) -> typer.Typer:
    """A step as a command group of its own; what is no verb runs the step."""
    made = group(_HELP[word], Word)
    app.add_typer(made, name=word)

    @made.callback()
    def about() -> None:
        pass

    about.__doc__ = _HELP[word]
    if word != "validate":

        @made.command("step", hidden=True)
        def step(params: Params = Path("params.yaml"), root: Root = Path("data"), as_json: Json = False) -> None:
            run_stage_of(word, params, root, as_json)

    return made


words = {word: _add_word(word) for word in _HELP}
