"""What the pages of lineage show: of a model's versions, of one version, of an answered request."""

from __future__ import annotations

import math
from typing import Any

from tidegate.console import draw, shown
from tidegate.console.pages import version_line
from tidegate.console.performance_page import gate_bar, slices_of
from tidegate.console.reader import Reader
from tidegate.console.release_page import scale
from tidegate.console.story import releases_of
from tidegate.console.summary import summarize
from tidegate.errors import UserError
from tidegate.journal import views
from tidegate.journal.fold import ModelState, fold
from tidegate.reasons import GATE_REASONS, REASONS
from tidegate.register import cost as costs
from tidegate.register.lineage import find_version, lineage
from tidegate.train.model_file import folder_name

Json = dict[str, Any]
LANES = 40
"""Versions in one picture of lineage."""


def versions(reader: Reader, name: str, page: int) -> Json:
    """The picture of a model's lineage."""
    events = reader.turning(name)
    state = fold(events, ModelState(model=name))
    every = list(state.versions.items())
    pages = max(1, math.ceil(len(every) / LANES))
    some = every[max(0, len(every) - page * LANES) : len(every) - (page - 1) * LANES]
    rows = shown.lanes(name, state, some, releases_of(events))
    label = f"Lineage of {name}: data, run, version, gate, release and time as champion of {len(rows)} versions"
    return {
        "model": name,
        "one": summarize(state),
        "picture": draw.lineage(rows, label) if rows else "",
        "versions": [version_line(state, digest, data) for digest, data in reversed(some)],
        "page": page,
        "pages": pages,
    }


def version(reader: Reader, name: str, asked: str) -> Json:
    """One version: where it comes from and what came of it."""
    events = reader.turning(name)
    found = find_version({name: events}, asked)
    if found is None:
        raise UserError("version", asked, f"one of {name}")
    digest, state = found[1], fold(events)
    document = lineage(events, digest)
    folder = reader.folder_of(name)
    near = shown.near(state, digest)
    checks = state.versions[digest]["gate"].get("checks", {})
    most = scale(slices_of(state.versions[digest]["gate"]).values())
    spent = costs.by_run(events, views.recorded(folder, events)).get(document["run"]["run"], {})
    return {
        "model": name,
        "document": document,
        "picture": draw.lineage(
            shown.lanes(name, state, near, releases_of(events), digest), f"Lineage of {name} {document['version']}"
        ),
        "checks": [(key, check, gate_bar(check, most if "=" in key else 0.0)) for key, check in checks.items()],
        "gate_words": GATE_REASONS,
        "reasons": REASONS,
        "card": (folder / "cards" / folder_name(digest) / "card.html").is_file(),
        "files": (folder / "models" / folder_name(digest)).is_dir(),
        "cost": spent,
        "total": costs.total(spent.values()),
    }


def request(reader: Reader, model: str, asked: str) -> Json:
    """From an answered request to everything behind it."""
    from tidegate.register.trace import trace

    names = [model] if model else _models_with_files(reader)
    for name in names:
        try:
            document = trace(reader.folder_of(name), asked, name)
        except UserError:
            continue
        events = reader.turning(name)
        state = fold(events, ModelState(model=name))
        near = shown.near(state, document["digest"])
        picture = draw.lineage(
            shown.lanes(name, state, near, releases_of(events), document["digest"]),
            f"Lineage of the version that answered {asked}",
        )
        return {"model": name, "asked": asked, "document": document, "picture": picture, "reasons": REASONS,
                "gate_words": GATE_REASONS}  # fmt: skip
    raise UserError("request", asked, "the id of a request that the prediction log has")


def _models_with_files(reader: Reader) -> list[str]:
    return [name for name in sorted(reader.heads()) if (reader.folder_of(name) / "observations").is_dir()]
