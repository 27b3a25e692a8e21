"""What validate, version and features are asked beside their steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.base import DEFAULT_STATE, Json, ModelFile, State, WorkloadName, say
from tidegate.cli.words import Params, Root, run_stage_of, words
from tidegate.cli.working import working
from tidegate.errors import UserError


@words["validate"].command("step", hidden=True)
def validate(
    file: Annotated[Path | None, typer.Argument(metavar="FILE")] = None,
    workload: Annotated[str | None, typer.Option("--workload", help="package.module:object")] = None,
    params: Params = Path("params.yaml"),
    root: Root = Path("data"),
    as_json: Json = False,
) -> None:
    """Check a file against a workload's contract; without a file, run the step."""
    if file is None:
        return run_stage_of("validate", params, root, as_json)
    if workload is None:
        raise UserError("--workload", None, "the workload whose contract the file must keep")
    from tidegate.validate.file import validate_file

    with working("checking the rows", as_json):
        report = validate_file(file, workload)
    found = [f"  {v['check']} {v['column']}: {v['rows']} rows, e.g. {v['examples'][:3]}" for v in report["violations"]]
    head = f"{file}: {report['rows']} rows, {'ok' if report['ok'] else 'not ok'}"
    say(report, as_json, "\n".join([head, *found]))
    if not report["ok"]:
        raise typer.Exit(1)


@words["validate"].command("profile")
def validate_profile(
    source: Annotated[str, typer.Argument(metavar="FILE_OR_DIR", help="Or a data version of --state.")],
    workload: WorkloadName,
    against: Annotated[str | None, typer.Option("--against", help="Another file, folder or data version.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where the page goes; profile.html when absent.")] = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Draw the rows: distributions, missing values, correlations, faults, the change against another version."""
    from tidegate.validate import render

    with working("drawing the rows", as_json):
        page = render.profile(source, workload, against, state, out or (None if as_json else Path("profile.html")))
    say(render.as_json(page) if as_json else None, as_json, render.as_text(page))


@words["version"].command("list")
def version_list(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Every data version that this state folder knows, oldest first."""
    from tidegate.version.history import versions

    found = [known.summary() for known in versions(state)]
    lines = [f"{one['version']}  {one['time']}  {one['rows']} rows  {one['files']} files" for one in found]
    say(found, as_json, "\n".join(lines) or "no data versions yet")


@words["version"].command("checkout")
def version_checkout(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Its first characters are enough.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder that is new, or an earlier checkout.")],
    commit: Annotated[bool, typer.Option("--commit", help="Write DIR.dvc and commit that file to git.")] = False,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Restore the rows of a data version from its remote."""
    from dataclasses import asdict

    from tidegate.version.checkout import checkout
    from tidegate.version.history import find

    with working("restoring the rows", as_json):
        done = checkout(find(state, version), out, commit)
    committed = f", {done.committed} committed" if done.committed else ""
    say(asdict(done), as_json, f"{done.version}: {done.files} files, {done.rows} rows in {done.out}{committed}")


@words["version"].command("diff")
def version_diff(
    before: Annotated[str, typer.Argument(metavar="A")],
    after: Annotated[str, typer.Argument(metavar="B")],
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Partitions added, changed and removed from A to B, and rows by table."""
    from tidegate.version import diff
    from tidegate.version.history import find

    first, second = find(state, before), find(state, after)
    tables = diff.diff(first.contents(), second.contents())
    names = first.version, second.version
    say(diff.document(*names, tables), as_json, diff.text(*names, tables))


@words["features"].command("materialize")
def features_materialize(model_file: ModelFile, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Bring the live feature repo up to the newest data version; while no stream feeds it."""
    from dataclasses import asdict

    from tidegate.features.materialize import materialize
    from tidegate.spec import load_model

    with working("materializing features", as_json):
        done = materialize(load_model(model_file).spec.workload, state)
    lines = [f"  {name:20s} {rows} new rows, {done.online[name]} keys online" for name, rows in done.offline.items()]
    say(asdict(done), as_json, "\n".join([f"{done.version} up to {done.until}", *lines]))


@words["features"].command("parity")
def features_parity(
    model_file: ModelFile,
    state: State = DEFAULT_STATE,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many predictions.")] = 10_000,
    as_json: Json = False,
) -> None:
    """Work out the features of logged predictions again, offline; print those that differ."""
    from tidegate.features.logged import check_parity
    from tidegate.spec import load_model

    with working("working features out again", as_json):
        report = check_parity(load_model(model_file), state, limit)
    say(report.to_json(), as_json, report.to_text())
    if not report.ok:
        raise typer.Exit(1)
