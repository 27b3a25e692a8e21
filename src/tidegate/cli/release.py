"""``tidegate release``: what a person may ask and order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate.cli.base import DEFAULT_STATE, Json, ModelFile, State, app, group, say
from tidegate.cli.working import paint

release = group("Releases: how a challenger gets to production.")
app.add_typer(release, name="release")
ReleaseName = Annotated[str, typer.Argument(metavar="RELEASE")]
By = Annotated[str, typer.Option("--by", envvar="USER", help="Who decides.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the journal.")]


@release.command("list")
def release_list(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Every release, oldest first."""
    from tidegate.controller import orders

    found = orders.releases(state)
    lines = [
        paint(f"{r['name']}  {r['challengers'][0]} against {r['champion']}  {r['state']}  {r['reason']}", r["state"])
        for r in found
    ]
    say(found, as_json, "\n".join(lines) or "no releases yet")


@release.command("show")
def release_show(name: ReleaseName, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """One release with every check of its last look."""
    from tidegate.cli import watch
    from tidegate.controller import orders

    found = orders.show(state, name)
    checks = found.get("judgement", {}).get("checks", {})
    release = found["release"]
    lines = [paint(f"{name}: {release['state']}: {release['sentence']}", release["state"])]
    lines += [_check_line(check, c) for check, c in checks.items()]
    if not as_json and checks:
        lines += ["upper bounds, look by look:", *watch.checks(state, release["model"], name)]
    say(found, as_json, "\n".join(lines))


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


Named = Annotated[
    list[str] | None, typer.Option("--effect", metavar="METRIC=VALUE", help="True difference; lower is better.")
]
Base = Annotated[
    list[str] | None,
    typer.Option("--base", metavar="NAME=VALUE", help="Spread of loss, pairs, credit; rate of errors, latency."),
]


@release.command("simulate")
def release_simulate(
    model: ModelFile,
    per_day: Annotated[float, typer.Option("--per-day", help="Requests a day; with sticky arms, clients.")],
    effect: Named = None,
    base: Base = None,
    as_json: Json = False,
) -> None:
    """Before a release starts: how many requests and days it takes, and what it can tell."""
    from tidegate.release import simulate as simulation
    from tidegate.release.simulate_text import lines, named
    from tidegate.spec import load_model

    assumed = simulation.Assumed(per_day, named("--effect", effect or ()))
    assumed = simulation.with_spread(assumed, named("--base", base or ()))
    found = simulation.simulate(load_model(model).spec.release, assumed)
    say(found.to_json(), as_json, "\n".join(lines(found)))
    for warning in () if as_json else found.warnings:
        typer.echo(f"warning: {warning}", err=True)
