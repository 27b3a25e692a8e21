"""The demo's report: one HTML file that needs nothing else. Reads the state folder's observations, writes the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from demo.check import Claim
from demo.report import confidence, facts, over_time, tables, timeline, words
from demo.report.figures import Figure, Key, Palette
from demo.report.quality import quality, read
from demo.report.runs import held as held_of
from demo.report.runs import runs as runs_of
from demo.report.tables import Table
from demo.story import Played
from tidegate.spec import ReleaseSpec

MARKS = (Key("promoted", "var(--good)", "▲"), Key("aborted, expired or rolled back", "var(--bad)", "▼"))
TEMPLATE = Path(__file__).with_name("page.html.j2")


@dataclass(frozen=True)
class Shown:
    """A figure on the page: `name` is its anchor, `caption` says its main number, `tables` hold its numbers."""

    name: str
    title: str
    caption: str
    figure: Figure | None
    keys: Sequence[Key] = ()
    tables: Sequence[Table] = field(default=())


def write_report(played: Played, claims: list[Claim], path: Path) -> None:
    """Write the report of what was played to `path`; plotly.js and all data are in the file."""
    path.write_text(render(context(played, claims)), encoding="utf-8")


def render(page: Mapping[str, Any]) -> str:
    """The page from its template; everything but the figures' JSON and plotly.js is escaped."""
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["as_script"] = as_script
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(page, plotly=Markup(get_plotlyjs()))  # noqa: S704 - the library's own file


def as_script(value: object) -> Markup:
    """JSON that can stand in a script element, whatever strings it holds."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704


def context(played: Played, claims: list[Claim]) -> dict[str, Any]:
    """What the template shows."""
    state, events = played.state, played.events
    releases, runs = facts.releases(events), runs_of(events)
    return {
        "title": f"{state.model}: the demo's report",
        "story": words.story(played, state, releases, runs),
        "claims": tables.claims_table(claims),
        "sections": [
            ("Metric over time by version", [_quality(played)]),
            ("Traffic shares", [_traffic(played)]),
            ("Confidence sequence of each release", [_confidence(release, _palette(played)) for release in releases]),
            ("Triggers on the time line", [_timeline(played)]),
        ],
        "tables": [
            tables.releases_table(releases),
            tables.versions_table(state),
            tables.runs_table(runs),
            tables.steps_table(runs),
            tables.timing_table(played),
        ],
    }


def _palette(played: Played) -> Palette:
    return Palette(facts.versions_in_traffic(facts.traffic(played.events)))


def _quality(played: Played) -> Shown:
    """Metric over time, from the observation store."""
    state, palette = played.state, _palette(played)
    deadline = ReleaseSpec.model_validate((state.spec or {})["release"]).label_deadline.total_seconds()
    found = quality(read(played.setting.state), deadline, state.time)
    marks = over_time.turning_points(facts.releases(played.events))
    keys = [*palette.keys(found.brier), Key("share of late flights (right)", "var(--faint)"), *MARKS]
    return Shown(
        "quality",
        "Brier loss and ROC AUC over 7 days",
        words.quality_words(found),
        over_time.quality_figure(found, marks, palette),
        keys,
        [tables.quality_table(found)],
    )


def _traffic(played: Played) -> Shown:
    changes, palette = facts.traffic(played.events), _palette(played)
    versions = facts.versions_in_traffic(changes)
    figure = over_time.traffic_figure(changes, played.state.time, versions, palette)
    keys = [
        *palette.keys(over_time.answering(changes), dashed=False),
        Key("copies (shadow)", "var(--muted)", dash="dash"),
    ]
    return Shown("traffic", "Who answers", words.traffic_words(changes), figure, keys, [tables.traffic_table(changes)])


def _confidence(release: facts.Release, palette: Palette) -> Shown:
    return Shown(
        f"confidence-{release.name}",
        f"{release.name}: {release.challenger} against {release.champion}",
        words.confidence_words(release),
        confidence.confidence_figure(release, palette) if confidence.panels(release) else None,
        confidence.keys(release, palette),
        [tables.checks_table(release)],
    )


def _timeline(played: Played) -> Shown:
    events = played.events
    runs, held = runs_of(events), held_of(events)
    figure = timeline.timeline_figure(runs, held, facts.releases(events), played.state.time, _palette(played))
    return Shown(
        "timeline",
        "What asked for a run, and what came of it",
        words.timeline_words(runs),
        figure,
        timeline.keys(),
        [tables.held_table(held)],
    )
