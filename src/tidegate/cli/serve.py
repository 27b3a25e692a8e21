"""``tidegate serve``: models that answer outside the loop."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.base import DEFAULT_STATE, Json, ModelFile, State, app, group, say
from tidegate.cli.working import working
from tidegate.errors import UserError

serve = group("Serving: answers outside the loop.")
app.add_typer(serve, name="serve")


@serve.callback()
def _serve() -> None:
    """Serving: answers outside the loop."""


@serve.command("batch")
def serve_batch(
    model_file: ModelFile,
    input_: Annotated[str, typer.Option("--input", metavar="P", help="Parquet: a file, a folder, a glob, any URL.")],
    output: Annotated[
        str, typer.Option("--output", metavar="TABLE_OR_P", help="A folder, a file NAME.csv, or a database URL#TABLE.")
    ],
    state: State = DEFAULT_STATE,
    version: Annotated[str | None, typer.Option(help="v1, v1.1 ...; the champion when absent.")] = None,
    at: Annotated[str | None, typer.Option(help="Time of the predictions (ISO 8601); now when absent.")] = None,
    as_json: Json = False,
) -> None:
    """Score every row of Parquet partitions; killed and started again, it goes on by partition."""
    from tidegate.journal.views import seconds
    from tidegate.serve.batch_jobs import job_of, progress, run_by_hand
    from tidegate.spec import load_model

    moment = seconds(at, "--at") if at else None
    job = job_of(load_model(model_file), state, input_, output, version, moment)
    with progress(quiet=as_json) as show:
        done = run_by_hand(job, again=at is None, progress=show)
    say(done.to_json(), as_json, done.to_text())


@serve.command("traffic")
def serve_traffic(
    model_file: ModelFile,
    since: Annotated[str, typer.Option(help="First time that is asked about (ISO 8601).")],
    until: Annotated[str, typer.Option(help="The time after the last one.")],
    state: State = DEFAULT_STATE,
    share: Annotated[float, typer.Option(help="Share of the rows, above 0, at most 1.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of that share.")] = 1,
    rate: Annotated[float, typer.Option(help="Requests a second, open loop.")] = 200.0,
    as_json: Json = False,
) -> None:
    """Play the workload's own rows as live traffic on a running `up --clock events`, labels when they were known."""
    for name, value, takes in (("--share", share, "above 0, at most 1"), ("--rate", rate, "above 0")):
        if not 0 < value <= (1.0 if name == "--share" else 1e6):
            raise UserError(name, value, f"a number {takes}")
    from tidegate.journal.views import seconds
    from tidegate.spec import load_model
    from tidegate.traffic.play import Part, bar, play, report, text

    part = Part(seconds(since, "--since"), seconds(until, "--until"), share, seed, rate)
    tally = play(load_model(model_file), state, part, lambda: bar(as_json))
    say(report(tally), as_json, text(report(tally)))
    if tally.failed:
        raise typer.Exit(1)


@serve.command("parity")
def serve_parity(
    model_file: ModelFile,
    state: State = DEFAULT_STATE,
    version: Annotated[str | None, typer.Option(help="v1, v1.1 ...; the champion when absent.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many predictions.")] = 10_000,
    as_json: Json = False,
) -> None:
    """Score logged predictions again by the batch path; exit status 1 when one is off by more than 1e-6."""
    from tidegate.serve.batch_jobs import model_of
    from tidegate.serve.batch_parity import rescore
    from tidegate.spec import load_model

    with working("scoring the log again", as_json):
        found = rescore(model_of(load_model(model_file), state, version), state, limit)
    say(found.to_json(), as_json, found.to_text())
    if not found.ok:
        raise typer.Exit(1)


edge = group("Edges: answers without network.")
serve.add_typer(edge, name="edge")


@edge.callback()
def _edge() -> None:
    """Edges: answers without network."""


Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Of `tidegate serve edge build`.")]


@edge.command("build")
def edge_build(
    model_file: ModelFile,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="A new folder, or an edge to give an update to.")
    ],
    state: State = DEFAULT_STATE,
    trees: Annotated[
        int | None, typer.Option(min=1, help="Keep the model's first trees only; the cost is said.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the champion with the head of its traffic into a self-contained, signed folder."""
    from tidegate.serve.edge_build import build
    from tidegate.spec import load_model

    with working("building the folder", as_json):
        built = build(load_model(model_file), state, out, trees)
    say(built.to_json(), as_json, built.to_text())


@edge.command("run")
def edge_run(
    folder: Folder,
    port: Annotated[int, typer.Option(help="0 chooses a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    updates: Annotated[str | None, typer.Option(metavar="URL_OR_DIR", help="Where signed bundles are.")] = None,
    every: Annotated[float, typer.Option(help="Seconds between two looks for an update.")] = 60.0,
) -> None:
    """Answer from the folder until SIGTERM, with network or without; the same as `python FOLDER/edge.py`."""
    launcher = folder / "edge.py"
    if not launcher.is_file():
        raise UserError(str(folder), "no edge.py in it", "a folder of `tidegate serve edge build`")
    words = ["--port", str(port), "--host", host, "--every", str(every), *(["--updates", updates] if updates else [])]
    os.execv(sys.executable, [sys.executable, str(launcher), *words])  # noqa: S606


@edge.command("upload")
def edge_upload(folder: Folder, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Hand an edge's observations on to the prediction log of the state folder, each row once."""
    from tidegate.serve.edge_upload import upload

    with working("handing observations on", as_json):
        done = upload(folder, state)
    say(vars(done), as_json, f"{done.rows} observations in {done.segments} segments")
