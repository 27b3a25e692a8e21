"""`tidegate deploy`: pipelines, definitions and an overlay to a cluster, from any CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.base import Json, app, say


@app.command()
def deploy(
    overlay: Annotated[Path, typer.Argument(metavar="OVERLAY", help="Folder with a kustomization.yaml.")],
    models: Annotated[list[Path] | None, typer.Option("--model", help="Model file; may be given again.")] = None,
    image: Annotated[str | None, typer.Option(help="Component image by digest: operator, runs, Models.")] = None,
    serving: Annotated[str | None, typer.Option(help="Serving image by digest.")] = None,
    orchestrator: Annotated[str, typer.Option(help="job or kubeflow; auto: what each Model file says.")] = "auto",
    namespace: Annotated[str, typer.Option(help="Namespace of the Models.")] = "tidegate",
    timeout: Annotated[str, typer.Option(help="Within which all has to be healthy.")] = "10m",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Server dry run and diff, no more.")] = False,
    as_json: Json = False,
) -> None:
    """Dry run and diff, apply, wait for health; go back to what was there where it does not come (exit status 1)."""
    from tidegate.deploy.command import Wanted, deploy_all

    wanted = Wanted(overlay, tuple(models or ()), image, serving, orchestrator, namespace, timeout, dry_run)
    document = deploy_all(wanted, lambda line: typer.echo(line, err=as_json))
    say(document, as_json, document["sentence"])
    if not document["ok"]:
        raise typer.Exit(1)
