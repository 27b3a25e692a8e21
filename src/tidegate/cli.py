"""The command line. ``tidegate <word>`` runs a step, ``tidegate <word> <verb>`` asks it something.

Exit status: 0 done, 1 the answer is no, 2 wrong use or bad input, with one line on stderr. With ``--json`` stdout is
one JSON document (or JSON lines where said) and nothing else. Whatever is heavy is imported inside a command.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tidegate.errors import TidegateError, UserError


class Word(TyperGroup):
    """A word's command group: a first argument that is no verb belongs to the step itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Send anything that does not open with a verb to the hidden command `step`."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["step", *args]
        return super().parse_args(ctx, args)


def _group(help_: str, cls: type[TyperGroup] | None = None) -> typer.Typer:
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


# --- the loop ---------------------------------------------------------------------------------------------------------


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
def run(
    model_file: ModelFile,
    state: State = DEFAULT_STATE,
    until: Annotated[str | None, typer.Option(help="Use what had arrived by then (ISO 8601); now when absent.")] = None,
    mode: Annotated[str | None, typer.Option(help="auto, stateless or stateful; else the Model file's.")] = None,
    orchestrator: Annotated[str, typer.Option(help="auto, local, job or kubeflow.")] = "auto",
    as_json: Json = False,
) -> None:
    """One continuous-training run: steps with seconds, gate verdict, model version."""
    from tidegate import runs
    from tidegate.spec import load_model

    model = runs.with_mode(load_model(model_file), mode)
    result = runs.run_once(model, state, until, orchestrator, quiet=as_json)
    say(result.to_json(), as_json, result.to_text())
    if result.verdict == "refused":
        raise typer.Exit(1)


@app.command()
def status(
    state: State = DEFAULT_STATE,
    at: Annotated[str | None, typer.Option(help="What served then (ISO 8601).")] = None,
    as_json: Json = False,
) -> None:
    """Champion, release, runs; with --at what served at a past moment."""
    from tidegate.journal import views

    document = views.status(state, at)
    say(document, as_json, views.status_text(document))


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
        say(document, as_json, line)


@app.command()
def replay(
    state: State = DEFAULT_STATE,
    evidence: Annotated[bool, typer.Option("--evidence", help="Recompute the sums from the observations.")] = False,
    as_json: Json = False,
) -> None:
    """Recompute every decision of the journal; fail and say where one differs."""
    from tidegate.journal.replay import replay_state

    report = replay_state(state, evidence)
    say(report.to_json(), as_json, report.to_text())
    if not report.ok:
        raise typer.Exit(1)


# --- the release ------------------------------------------------------------------------------------------------------

release = _group("Releases: how a challenger gets to production.")
app.add_typer(release, name="release")
ReleaseName = Annotated[str, typer.Argument(metavar="RELEASE")]
By = Annotated[str, typer.Option("--by", envvar="USER", help="Who decides.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the journal.")]


@release.command("list")
def release_list(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Every release, oldest first."""
    from tidegate.controller import orders

    found = orders.releases(state)
    lines = [f"{r['name']}  {r['challengers'][0]} against {r['champion']}  {r['state']}  {r['reason']}" for r in found]
    say(found, as_json, "\n".join(lines) or "no releases yet")


@release.command("show")
def release_show(name: ReleaseName, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """One release with every check of its last look."""
    from tidegate.controller import orders

    found = orders.show(state, name)
    checks = found.get("judgement", {}).get("checks", {})
    lines = [f"{name}: {found['release']['state']}: {found['release']['sentence']}"]
    say(found, as_json, "\n".join([*lines, *(_check_line(check, c) for check, c in checks.items())]))


def _check_line(name: str, check: Mapping[str, Any]) -> str:
    if check["estimate"] is None:
        return f"  {name:20s} no evidence yet"
    margin = "" if check["margin"] is None else f", margin {check['margin']}"
    return f"  {name:20s} {check['estimate']:+.5f} in [{check['lower']:+.5f}, {check['upper']:+.5f}]{margin}"


def _order(name: str, state: Path, as_json: bool, **words: str) -> None:
    from tidegate.controller import orders

    say(orders.order(state, name, words), as_json, f"{name}: {words['command']} is in the journal")


@release.command("start")
def release_start(version: str, reason: Reason, by: By, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Let a registered version wait for its release, again where it had one."""
    from tidegate.controller import orders

    say(orders.start(state, version, by, reason), as_json, f"{version} waits for its release")


@release.command("pause")
def release_pause(name: ReleaseName, by: By, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Stop a release from going on; it can still abort."""
    _order(name, state, as_json, command="pause", by=by)


@release.command("resume")
def release_resume(name: ReleaseName, by: By, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Let a paused release go on."""
    _order(name, state, as_json, command="resume", by=by)


@release.command("approve")
def release_approve(
    name: ReleaseName, reason: Reason, by: By, state: State = DEFAULT_STATE, as_json: Json = False
) -> None:
    """A named person lets the release pass its approval."""
    _order(name, state, as_json, command="approve", by=by, reason=reason)


@release.command("abort")
def release_abort(
    name: ReleaseName, reason: Reason, by: By, state: State = DEFAULT_STATE, as_json: Json = False
) -> None:
    """Give the champion all traffic back and quarantine the challenger."""
    _order(name, state, as_json, command="abort", by=by, reason=reason)


@release.command("rollback")
def release_rollback(
    name: ReleaseName, reason: Reason, by: By, state: State = DEFAULT_STATE, as_json: Json = False
) -> None:
    """After a promotion: the old champion serves again, the new one is quarantined."""
    _order(name, state, as_json, command="rollback", by=by, reason=reason)


@release.command("unquarantine")
def release_unquarantine(
    digest: str, reason: Reason, by: By, state: State = DEFAULT_STATE, as_json: Json = False
) -> None:
    """Let an aborted digest be released again."""
    from tidegate.controller import orders

    say(orders.unquarantine(state, digest, by, reason), as_json, f"{digest} may be released again")


# --- the judge and the trigger policy over files ----------------------------------------------------------------------


def _lines(documents: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Print JSON lines as they come; returns the last one."""
    last = None
    for last in documents:
        say(last, True, "")
    return last


@app.command()
def judge(
    evidence: Annotated[Path, typer.Argument(metavar="EVIDENCE.parquet")],
    policy: Annotated[Path, typer.Option("--policy", metavar="P.yaml", help="The judge block, flat.")],
    every: Annotated[int | None, typer.Option("--every", help="Rows between two looks.")] = None,
    _json: Json = True,
) -> None:
    """Judge a file of evidence as production does; JSON lines, one a look."""
    from tidegate.release.judge_file import judge_file

    last = _lines(judge_file(evidence, policy, every))
    if last and last["verdict"] == "abort":
        raise typer.Exit(1)


trigger = _group("Triggers: when a model is trained again.")
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
    _lines(policy_replay(read_events(lines, str(events)), spec, str(events)))


# --- the steps --------------------------------------------------------------------------------------------------------

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


def _run_stage(word: str, params: Path, root: Path, as_json: bool) -> None:
    from tidegate.steps import run_stage

    verdict = run_stage(word, params, root)
    say({"step": word, "verdict": verdict}, as_json, f"{word}: {verdict}")
    if verdict == "refused":
        raise typer.Exit(1)


def _add_word(word: str) -> typer.Typer:
    """A step as a command group of its own; what is no verb runs the step."""
    group = _group(_HELP[word], Word)
    app.add_typer(group, name=word)

    @group.callback()
    def about() -> None:
        pass

    about.__doc__ = _HELP[word]
    if word != "validate":

        @group.command("step", hidden=True)
        def step(params: Params = Path("params.yaml"), root: Root = Path("data"), as_json: Json = False) -> None:
            _run_stage(word, params, root, as_json)

    return group


words = {word: _add_word(word) for word in _HELP}


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
        return _run_stage("validate", params, root, as_json)
    if workload is None:
        raise UserError("--workload", None, "the workload whose contract the file must keep")
    from tidegate.validate.file import validate_file

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


@words["features"].command("materialize")
def features_materialize(model_file: ModelFile, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Bring the live feature repo up to the newest data version; while no stream feeds it."""
    from dataclasses import asdict

    from tidegate.features.materialize import materialize
    from tidegate.spec import load_model

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

    report = check_parity(load_model(model_file), state, limit)
    say(report.to_json(), as_json, report.to_text())
    if not report.ok:
        raise typer.Exit(1)


def main() -> None:
    """Entry point: our errors become one line and an exit status, wrong use too."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except TidegateError as error:
        typer.echo(f"tidegate: {error}", err=True)
        sys.exit(error.exit_status)
    except typer.TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        typer.echo(f"tidegate: {' '.join(message.split())}", err=True)
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)


if __name__ == "__main__":
    main()
