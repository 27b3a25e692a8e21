"""The loop as a whole: up, run, status, log, replay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.base import DEFAULT_STATE, Json, ModelFile, State, app, say
from tidegate.cli.working import paint, working
from tidegate.errors import UserError


@app.command()
def up(
    model_file: ModelFile,
    state: State = DEFAULT_STATE,
    port: Annotated[int, typer.Option(help="Port of the gateway; 0 chooses a free one.")] = 8080,
    clock: Annotated[str, typer.Option(help="wall, or events: time is announced by POST /clock.")] = "wall",
    nats: Annotated[str | None, typer.Option(help="URL of a NATS server; else an embedded one, for streams.")] = None,
    as_json: Json = False,
) -> None:
    """Run gateway, services, controller and console until Ctrl-C; a second start resumes."""
    if clock not in ("wall", "events"):
        raise UserError("--clock", clock, "wall or events")
    from tidegate.spec import load_model
    from tidegate.up import serve_until_stopped

    model = load_model(model_file)

    def ready(address: str) -> None:
        say(
            {"ready": True, "gateway": address, "state": str(state)}, as_json, f"gateway at {address}, state in {state}"
        )
        sys.stdout.flush()

    serve_until_stopped(model, state, port, "events" if clock == "events" else "wall", ready, nats)


@app.command()
def console(
    state: State = DEFAULT_STATE,
    port: Annotated[int, typer.Option(help="0 chooses a free one.")] = 8081,
    as_json: Json = False,
) -> None:
    """The console alone, over a state folder, until Ctrl-C; `up` has it at /console."""
    from tidegate.console.serve import serve

    def ready(address: str) -> None:
        say({"ready": True, "console": address, "state": str(state)}, as_json, f"console at {address}")
        sys.stdout.flush()

    serve(state, port, ready)


@app.command()
def operator(
    namespace: Annotated[str, typer.Option(help="Namespace of the Models.")] = "tidegate",
    state: Annotated[Path, typer.Option("--state", help="Shared state; a folder a model.")] = Path("/state"),
    clock: Annotated[str, typer.Option(help="wall, or events: time is announced by POST /clock.")] = "wall",
    port: Annotated[int, typer.Option(help="Port of the control server.")] = 8090,
    token_file: Annotated[Path, typer.Option(help="File with the bearer token.")] = Path("/etc/tidegate/token"),
    image: Annotated[str, typer.Option(help="The serving image.")] = "localhost/tidegate/serving:0.1.0",
    gateway: Annotated[str, typer.Option(help="Name of the Gateway.")] = "tidegate",
    domain: Annotated[str, typer.Option(help="A model answers to the host MODEL.DOMAIN; else to any.")] = "",
    selector: Annotated[str, typer.Option(help="key=value,...: only Models with these labels.")] = "",
    identity: Annotated[str, typer.Option(envvar="POD_NAME", help="Holder of the Lease.")] = "",
) -> None:
    """Run every Model of a namespace on Kubernetes, while this replica leads."""
    if clock not in ("wall", "events"):
        raise UserError("--clock", clock, "wall or events")
    if wrong := [pair for pair in selector.split(",") if pair and "=" not in pair]:
        raise UserError("--selector", wrong[0], "key=value,key=value")
    import logging

    from tidegate.controller.operator import Where
    from tidegate.controller.operator import run as lead
    from tidegate.controller.worker import Settings
    from tidegate.serve.process import read_token

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    labels = tuple((key, value) for key, _, value in (pair.partition("=") for pair in selector.split(",") if pair))
    where = Where(namespace, port, selector=labels, identity=identity)
    settings = Settings(state, image, read_token(token_file), gateway, domain)
    lead(where, settings, "events" if clock == "events" else "wall")


@app.command()
def run(
    model_file: ModelFile,
    state: State = DEFAULT_STATE,
    until: Annotated[str | None, typer.Option(help="Use what had arrived by then (ISO 8601); now when absent.")] = None,
    mode: Annotated[str | None, typer.Option(help="auto, stateless or stateful; else the Model file's.")] = None,
    orchestrator: Annotated[str, typer.Option(help="auto, local, job or kubeflow.")] = "auto",
    cause: Annotated[str, typer.Option(help="manual, or code: the pipeline itself has changed.")] = "manual",
    recurring: Annotated[
        bool, typer.Option("--recurring", help="Kubeflow only: a recurring run by the file's schedule.")
    ] = False,
    as_json: Json = False,
) -> None:
    """One continuous-training run: steps with seconds, gate verdict, model version. `-`: a Model from stdin."""
    from tidegate import runs
    from tidegate.spec import load_model, read_model

    model = runs.with_mode(read_model(sys.stdin) if str(model_file) == "-" else load_model(model_file), mode)
    if recurring:
        made = runs.schedule(model, state, orchestrator)
        say({"recurring_run": made, "name": model.name}, as_json, f"recurring run {model.name}: {made}")
        return
    result = runs.run_once(model, state, until, orchestrator, quiet=as_json, cause=cause)
    say(result.to_json(), as_json, result.to_text())
    if result.verdict == "refused":
        raise typer.Exit(1)


@app.command()
def status(
    state: State = DEFAULT_STATE,
    at: Annotated[str | None, typer.Option(help="What served then (ISO 8601).")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again whenever the journal grew, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Champion, release, runs; with --at what served at a past moment."""
    from tidegate.cli import watch as watching
    from tidegate.journal import views

    if watch:
        if at is not None:
            raise UserError("--watch", f"--at {at}", "nothing: a past moment does not change")
        return watching.watch(state, as_json)
    with working("reading the journal", as_json):
        document = views.status(state, at)
    say(document, as_json, watching.status_text(state, document))


@app.command()
def log(
    state: State = DEFAULT_STATE,
    kind: Annotated[str | None, typer.Option(help="Only kinds that start with this.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Looks and ticks that changed nothing, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines, one an event, whole.")] = False,
) -> None:
    """The journal's events, oldest first."""
    from tidegate.journal import views

    for document, line in views.log(state, kind, all_ or as_json):
        say(document, as_json, paint(line, document["kind"].partition(".")[2]))


@app.command()
def replay(
    state: State = DEFAULT_STATE,
    evidence: Annotated[bool, typer.Option("--evidence", help="Recompute the sums from the observations.")] = False,
    as_json: Json = False,
) -> None:
    """Recompute every decision of the journal; fail and say where one differs."""
    from tidegate.journal.replay import replay_state

    with working("replaying the journal", as_json) as show:
        report = replay_state(state, evidence, show)
    say(report.to_json(), as_json, report.to_text())
    if not report.ok:
        raise typer.Exit(1)
