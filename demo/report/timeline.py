"""Triggers on the time line as a figure: what asked for a run, what the gate said, what was released."""

from __future__ import annotations

import html
from collections.abc import Sequence

from demo.report.facts import Release
from demo.report.figures import Figure, Key, Palette, axis, layout, time_axis, when
from demo.report.runs import Held, Run

CAUSES = ("schedule", "volume", "performance", "drift", "manual")
GATE, RELEASE = "gate", "release"
LANE = 42
"""Pixels of one lane."""


def lanes(runs: Sequence[Run], held: Sequence[Held]) -> list[str]:
    """The lanes from top to bottom: the causes, with any that is new, then gate and release."""
    seen = [cause for run in runs for cause in run.causes] + [one.cause for one in held]
    return [*dict.fromkeys([*CAUSES, *seen]), GATE, RELEASE]


def timeline_figure(
    runs: Sequence[Run], held: Sequence[Held], releases: Sequence[Release], end: float, palette: Palette
) -> Figure:
    """Causes, gate verdicts and releases in lanes over event time; a faint line joins a run's cause and verdict."""
    rows = {lane: -float(number) for number, lane in enumerate(lanes(runs, held))}
    rows[RELEASE] -= 0.5  # room for the labels of both lanes
    start = min([run.at.time for run in runs] or [end])
    pad = 0.02 * max(end - start, 1.0)
    traces = [
        *(_waiting(one, rows) for one in held if one.until > one.since),
        _started(runs, rows),
        _refused(runs, rows),
        _passed(runs, rows, palette),
        *(trace for release in releases for trace in _release(release, end, rows, palette)),
    ]
    names = {"tickvals": list(rows.values()), "ticktext": [html.escape(lane) for lane in rows]}
    return {
        "data": traces,
        "layout": layout(
            LANE * len(rows) + 90,
            {"figure": "timeline"},
            xaxis=time_axis(start - pad, end + pad, title={"text": "event time (UTC)"}),
            yaxis=axis(range=[min(rows.values()) - 0.7, 0.6], **names),
            shapes=[_connection(run, rows) for run in runs if run.outcome != "unfinished"],
            hovermode="closest",
        ),
    }


def keys() -> list[Key]:
    """The figure's legend."""
    return [
        Key("a run starts", "var(--text)", "●"),
        Key("the cause has to wait", "var(--muted)", "line", "dot"),
        Key("refused by a gate", "var(--bad)", "✕"),
        Key("candidate", "var(--good)", "◆"),
        Key("release (thin: watch after a promotion)", "var(--muted)", "area"),
        Key("promoted", "var(--good)", "▲"),
        Key("aborted or rolled back", "var(--bad)", "▼"),
    ]


def _connection(run: Run, rows: dict[str, float]) -> Figure:
    top = max(rows[cause] for cause in run.causes)
    ends = {"x0": when(run.at.time), "x1": when(run.at.time), "y0": top, "y1": rows[GATE]}
    return {"type": "line", "layer": "below", **ends, "line": {"color": "var(--axis)", "width": 1}}


def _waiting(one: Held, rows: dict[str, float]) -> Figure:
    text = _lines(f"{one.cause} waits: {one.why.replace('_', ' ')}", one.detail)
    return {
        "x": [when(one.since), when(one.until)],
        "y": [rows[one.cause]] * 2,
        "text": [text, text],
        "mode": "lines+markers",
        "name": "waits",
        "meta": {"cause": one.cause, "kind": "held"},
        "line": {"color": "var(--muted)", "width": 1.5, "dash": "dot"},
        "marker": {"symbol": ["circle-open", "line-ns-open"], "size": 9, "color": "var(--muted)"},
        "hovertemplate": "%{text}<br>%{x}<extra></extra>",
    }


def _started(runs: Sequence[Run], rows: dict[str, float]) -> Figure:
    points = [(run, cause) for run in runs for cause in run.causes]
    texts = [_lines(f"{run.name} starts for {cause}", run.details.get(cause, f"by {run.by}")) for run, cause in points]
    found = _points([run for run, _ in points], [rows[cause] for _, cause in points], texts, "run starts")
    return {**found, "marker": {"symbol": "circle", "size": 11, "color": "var(--text)"}}


def _refused(runs: Sequence[Run], rows: dict[str, float]) -> Figure:
    refused = [run for run in runs if run.outcome.endswith("refused") or run.outcome == "failed"]
    texts = [_lines(f"{run.name} {run.outcome.replace('.', ': ')}", run.sentence) for run in refused]
    found = _points(refused, [rows[GATE]] * len(refused), texts, "refused")
    return {**found, "marker": {"symbol": "x", "size": 11, "color": "var(--bad)"}}


def _passed(runs: Sequence[Run], rows: dict[str, float], palette: Palette) -> Figure:
    passed = [run for run in runs if run.version and not run.outcome.endswith("refused")]
    texts = [_lines(f"{run.version}, candidate of {run.name}", run.sentence, run.mode_reason) for run in passed]
    found = _points(passed, [rows[GATE]] * len(passed), texts, "candidates")
    labels = {
        "mode": "markers+text",
        "text": [html.escape(run.version) for run in passed],
        "textposition": "bottom center",
    }
    return {**found, **labels, "marker": {"symbol": "diamond", "size": 12, "color": "var(--good)"}}


def _points(runs: Sequence[Run], y: Sequence[float], texts: Sequence[str], name: str) -> Figure:
    return {
        "x": [when(run.at.time) for run in runs],
        "y": list(y),
        "customdata": list(texts),
        "mode": "markers",
        "name": name,
        "meta": {"kind": name, "runs": [run.name for run in runs]},
        "cliponaxis": False,
        "hovertemplate": "%{customdata}<br>%{x}<extra></extra>",
    }


def _release(release: Release, end: float, rows: dict[str, float], palette: Palette) -> list[Figure]:
    """The way to the decision as a thick line, the watch as a thin one, and the decision itself."""
    decided = release.decided.time if release.decided else end
    over = release.ended.time if release.ended else end
    parts = [_bar(release, release.opened.time, decided, 9, rows, palette)]
    if over > decided:
        parts.append(_bar(release, decided, over, 3, rows, palette))
    if release.decided:
        parts.append(_verdict(release, rows))
    return parts


def _bar(release: Release, since: float, until: float, width: int, rows: dict[str, float], palette: Palette) -> Figure:
    text = _lines(
        f"{release.name}: {release.challenger} against {release.champion}, {release.verdict}", release.sentence
    )
    return {
        "x": [when(since), when(until)],
        "y": [rows[RELEASE]] * 2,
        "customdata": [text, text],
        "mode": "lines",
        "name": html.escape(release.name),
        "meta": {"kind": "release", "release": release.name, "verdict": release.verdict},
        "line": {"color": palette.colour(release.challenger), "width": width},
        "hovertemplate": "%{customdata}<br>%{x}<extra></extra>",
    }


def _verdict(release: Release, rows: dict[str, float]) -> Figure:
    assert release.decided is not None
    promoted = release.verdict == "promoted"
    stop = release.ended if release.verdict == "rolled back" and release.ended else release.decided
    colour = "var(--good)" if promoted else "var(--bad)"
    return {
        "x": [when(stop.time)],
        "y": [rows[RELEASE]],
        "text": [html.escape(release.challenger)],
        "customdata": [_lines(f"{release.challenger} {release.verdict}", release.sentence)],
        "mode": "markers+text",
        "textposition": "top center" if promoted else "bottom center",
        "name": release.verdict,
        "meta": {"kind": "verdict", "release": release.name, "verdict": release.verdict},
        "cliponaxis": False,
        "marker": {"symbol": "triangle-up" if promoted else "triangle-down", "size": 14, "color": colour},
        "hovertemplate": "%{customdata}<br>%{x}<extra></extra>",
    }


def _lines(*parts: str) -> str:
    """Parts as lines of a tooltip, long ones broken."""
    import textwrap

    return "<br>".join(html.escape(line) for part in parts if part for line in textwrap.wrap(part, 60))
