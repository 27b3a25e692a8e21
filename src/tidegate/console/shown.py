"""Values made ready for the pages: versions in order, numbers in words, lanes of lineage, columns of profiles. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tidegate.console.draw import Row, day
from tidegate.journal.fold import ModelState
from tidegate.spec import format_share

Json = dict[str, Any]


def versions_of(state: ModelState, changes: Iterable[tuple[float, Mapping[str, float]]]) -> list[str]:
    """Every version, in the order in which they were registered: a version has the same colour on every page."""
    found = dict.fromkeys(data["version"] for data in state.versions.values())
    found |= dict.fromkeys(name for _, split in changes for name in split)
    found |= dict.fromkeys(served.version for served in state.history)
    return list(found)


def in_words(check: Mapping[str, Any]) -> str:
    """A check's newest numbers: ``+0.0412, between +0.0273 and +0.0524, margin 0.01, 2,329 observations``."""
    if check["estimate"] is None:
        return "no evidence yet"
    if check["lower"] is None or check["upper"] is None:
        return f"{check['estimate']:.3g}, at most {check['margin']:g}"
    found = [f"{check['estimate']:+.4f}, between {check['lower']:+.4f} and {check['upper']:+.4f}"]
    if check.get("margin") is not None:
        found.append(f"margin {check['margin']:g}")
    if check.get("n"):
        found.append(f"{check['n']:,} observations")
    if check.get("blocks"):
        found.append(f"{check['blocks']} blocks")
    return ", ".join(found)


def near(state: ModelState, digest: str) -> list[tuple[str, Mapping[str, Any]]]:
    """A version with its parents and children, oldest first."""
    named = {data["version"]: (key, data) for key, data in state.versions.items()}
    wanted, name = {digest}, state.versions[digest].get("parent")
    while name in named and named[name][0] not in wanted:
        wanted.add(named[name][0])
        name = named[name][1].get("parent")
    own = state.versions[digest]["version"]
    wanted |= {key for key, data in state.versions.items() if data.get("parent") == own}
    return [(key, data) for key, data in state.versions.items() if key in wanted]


def lanes(
    model: str,
    state: ModelState,
    some: Sequence[tuple[str, Mapping[str, Any]]],
    releases: Sequence[Mapping[str, Any]],
    chosen: str = "",
) -> list[Row]:
    """The rows of the picture of lineage; `releases` newest first."""
    place = {data["version"]: i for i, (_, data) in enumerate(some)}
    last = {name: one for one in reversed(releases) for name in one["challengers"]}
    ends = [served.since for served in state.history[1:]]
    served: dict[str, str] = {}
    for one, until in zip(state.history, [*ends, None], strict=False):
        served[one.digest] = f"{day(one.since)} to {day(until) if until else 'now'}"
    found = []
    for digest, data in some:
        root = f"/console/models/{model}"
        told, release = data["version"], last.get(data["version"])
        verdict = data["gate"]["verdict"]
        bad = release is not None and release["state"] in ("aborted", "rolled_back")
        first = digest in served and release is None
        data_name = str(data.get("data_version") or "")
        cells = (
            (data_name[:8], f"{root}/data?b={data_name}" if data_name else "", "code"),
            (str(data["run"])[-26:], f"/console/journal?model={model}&kind=trigger", ""),
            (told, f"{root}/versions/{told}", "strong"),
            (verdict, f"{root}/versions/{told}#gate", "good" if verdict == "passed" else "bad"),
            (
                f"{release['name'].rpartition('-')[2]} {release['state'].replace('_', ' ')}" if release
                else "first, no release" if first else "",
                f"{root}/releases/{release['name']}" if release else "",
                "bad" if bad else "good" if release and release["state"] in ("promoted", "watch") else "",
            ),
            (served.get(digest, ""), "", ""),
        )  # fmt: skip
        found.append(Row(told, place.get(data.get("parent") or ""), cells, digest == chosen))
    return found


def columns(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Json]:
    """The columns of a profile beside those of another one, by table; what each says, without judging it."""
    if after is None and before is None:
        return []
    tables: list[Json] = []
    names = {name: None for one in (before, after) if one for name in one["tables"]}
    for name in names:
        old, new = ((one or {}).get("tables", {}).get(name, {}) for one in (before, after))
        fields = dict.fromkeys([*old.get("columns", {}), *new.get("columns", {})])
        rows = [{"name": field, "old": _column(old, field), "new": _column(new, field)} for field in fields]
        tables.append({"name": name, "old": old.get("rows"), "new": new.get("rows"), "columns": rows})
    return tables


def _column(table: Mapping[str, Any], field: str) -> Json | None:
    found = table.get("columns", {}).get(field)
    if found is None:
        return None
    rows = table["rows"] or 1
    values = found.get("values") or {}
    top = [(value, count / rows) for value, count in list(values.items())[:3]]
    return {**found, "missing": found["nulls"] / rows, "top": top, "more": max(0, len(values) - 3)}


def stages(release: Mapping[str, Any]) -> list[dict[str, str]]:
    """The way of a release: each stage's name, what it asks for, and whether it is done, now, stopped or to come."""
    found = [{"name": kind, "text": text} for stage in release["spec"]["stages"] for kind, text in _stage(stage)]
    found.append({"name": "watch", "text": release["spec"]["watch"]})
    state, reached = release["state"], release["stage"]
    if state in ("watch", "promoted", "rolled_back"):
        reached = len(found) - 1
    here = {"promoted": "done", "aborted": "stopped", "expired": "stopped", "rolled_back": "stopped"}.get(state, "now")
    for i, one in enumerate(found):
        one["place"] = "done" if i < reached else "next" if i > reached else here
    if state == "canary":
        found[reached]["text"] = f"at {format_share(release['weight'])} of {found[reached]['text']}"
    return found


def _stage(stage: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for kind, asked in stage.items():
        if asked is None:
            continue
        if kind == "canary":
            yield kind, ", ".join(str(weight) for weight in asked["weights"])
        elif kind == "ab":
            yield kind, ", ".join(f"{arm} {part}" for arm, part in asked["arms"].items())
        else:
            least = asked.get("requests") or asked.get("sessions")
            yield kind, f"{least:,} {'sessions' if 'sessions' in asked else 'requests'}" if least else "a person's word"
