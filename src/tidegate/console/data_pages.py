"""What the pages of data versions and of cost show, from the state folder and the journal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tidegate.console import shown
from tidegate.console.reader import Reader
from tidegate.console.summary import summarize
from tidegate.journal import views
from tidegate.journal.fold import fold
from tidegate.register import cost as costs
from tidegate.train.model_file import folder_name

Json = dict[str, Any]


def data(reader: Reader, name: str, first: str, second: str) -> Json:
    """Data versions with their profiles; of two the differences."""
    from tidegate.version import diff
    from tidegate.version.history import find
    from tidegate.version.history import versions as known

    folder, state = reader.folder_of(name), reader.state(name)
    found = known(folder)
    used: dict[str, list[tuple[str, str]]] = {one.version: [] for one in found}
    for digest, told in state.versions.items():
        used.setdefault(str(told.get("data_version")), []).append((told["version"], digest))
    tables = None
    if first and second:
        before, after = find(folder, first), find(folder, second)
        tables = diff.document(before.version, after.version, diff.diff(before.contents(), after.contents()))
    profiles = [_profile(folder, used.get(one, [])) for one in (first, second)] if tables else [None, None]
    return {
        "model": name,
        "one": summarize(state),
        "versions": [{**one.summary(), "used": used[one.version]} for one in reversed(found)],
        "first": first,
        "second": second,
        "difference": tables,
        "columns": shown.columns(*profiles),
        "most": max([one.rows for one in found] or [1]),
    }


def _profile(folder: Path, used: Sequence[tuple[str, str]]) -> Json | None:
    """The profile of the data that one of these versions was trained on; None where none was kept."""
    for _, digest in used:
        path = folder / "profiles" / f"{folder_name(digest)}.json"
        if path.is_file():
            return dict(json.loads(path.read_text(encoding="utf-8")))
    return None


def cost(reader: Reader, name: str) -> Json:
    """What runs cost, by step, run and version."""
    events = reader.turning(name)
    table = costs.table(events, views.recorded(reader.folder_of(name), events))
    most = max([one["cpu_seconds"] for one in table["runs"].values()] or [1.0]) or 1.0
    return {"model": name, "one": summarize(fold(events)), "table": table, "most": most}
