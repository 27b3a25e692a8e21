"""Plotly figures as plain JSON, from facts alone: what they share, metric over time, traffic shares.

A colour is written ``var(--name)``: the page looks it up in its style sheet, so that light and dark follow the reader.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demo.facts import Release, Traffic
from demo.quality import WINDOW, Point, Quality
from tidegate.journal.views import iso

Figure = dict[str, Any]
COLOURS = 6
DASHES = ("solid", "9px,2px", "2px,2px", "9px,2px,2px,2px")


@dataclass(frozen=True)
class Key:
    """An entry of a figure's legend: a swatch (`kind`: line, area or a character to show) and what it means."""

    text: str
    colour: str
    kind: str = "line"
    dash: str = "solid"


@dataclass(frozen=True)
class Palette:
    """A colour and a dash for each version, the same in every figure."""

    versions: Sequence[str]

    def colour(self, version: str, kind: str = "") -> str:
        """The version's colour; `kind` is empty for lines, ``-fill`` for areas."""
        number = self.versions.index(version) if version in self.versions else 0
        return f"var(--v{number % COLOURS + 1}{kind})"

    def dash(self, version: str) -> str:
        """The version's dash, for those who do not tell colours apart."""
        number = self.versions.index(version) if version in self.versions else 0
        return DASHES[number % len(DASHES)]

    def keys(self, versions: Iterable[str], dashed: bool = True) -> list[Key]:
        """Legend entries of versions: lines, or areas where nothing is dashed."""
        return [Key(v, self.colour(v), "line" if dashed else "area", self.dash(v)) for v in versions]


def when(seconds: float) -> str:
    """Seconds as Plotly's date axes take them: UTC without a zone."""
    return iso(seconds)[:-1]


def known(value: float) -> float | None:
    """A number to five places of its size; None, which leaves a gap, when it is not known."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def axis(**more: Any) -> dict[str, Any]:
    """An axis in the page's colours."""
    style = {"gridcolor": "var(--grid)", "linecolor": "var(--axis)", "zeroline": False, "automargin": True}
    return {**style, "title": {"standoff": 8}, **more}


def time_axis(start: float, end: float, **more: Any) -> dict[str, Any]:
    """An axis of event time."""
    spanned = {"type": "date", "range": [when(start), when(end)], "hoverformat": "%d %b %Y %H:%M"}
    return axis(**spanned, tickformatstops=_TICKS, tickangle=0, **more)


_TICKS = [
    {"dtickrange": [None, 86_400_000 - 1], "value": "%H:%M\n%d %b"},
    {"dtickrange": [86_400_000, "M1"], "value": "%d %b"},
    {"dtickrange": ["M1", None], "value": "%b\n%Y"},
]


def layout(height: int, meta: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What all figures share."""
    clear = "rgba(0,0,0,0)"
    hover = {"bgcolor": "var(--panel)", "bordercolor": "var(--axis)", "font": {"color": "var(--text)"}, "align": "left"}
    return {
        "height": height,
        "meta": dict(meta),
        "margin": {"l": 12, "r": 12, "t": 28, "b": 12},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "var(--text)"},
        "hoverlabel": hover,
        "showlegend": False,
        **more,
    }


def upright(time: float, text: str, colour: str, level: int = 0, dash: str = "dot") -> tuple[Figure, Figure]:
    """A vertical line at an event time and its label above the plot; `level` lifts the label by lines."""
    line = {"type": "line", "x0": when(time), "x1": when(time), "yref": "paper", "y0": 0, "y1": 1}
    label = {"x": when(time), "yref": "paper", "y": 1, "yanchor": "bottom", "yshift": 14 * level, "showarrow": False}
    words = {"text": html.escape(text), "font": {"size": 11, "color": colour}}
    return {**line, "line": {"color": colour, "width": 1, "dash": dash}}, {**label, **words}


def span(changes: Sequence[Traffic], end: float) -> tuple[float, float]:
    """Start and end of the live traffic in event time."""
    start = changes[0].at.time if changes else end
    return start, max(end, start + 1)


def turning_points(found: Iterable[Release]) -> list[tuple[float, str, str]]:
    """(event time, label, colour) of every promotion, abort and other end."""
    marks = []
    for release in found:
        if release.decided:
            promoted = release.verdict in ("promoted", "rolled back")
            word = "promoted" if promoted else release.verdict
            marks.append((release.decided.time, f"{release.challenger} {word}", _good(promoted)))
        if release.verdict == "rolled back" and release.ended:
            marks.append((release.ended.time, f"{release.challenger} rolled back", _good(False)))
    return sorted(marks)


def _good(yes: bool) -> str:
    return "var(--good)" if yes else "var(--bad)"


def _uprights(marks: Sequence[tuple[float, str, str]], start: float, end: float) -> dict[str, list[Figure]]:
    """Lines and labels of turning points; a label close behind the one before goes a line higher."""
    shapes, labels, level, before = [], [], 0, -math.inf
    for time, text, colour in marks:
        level = level + 1 if time - before < 0.25 * (end - start) else 0
        before = time
        line, label = upright(time, text, colour, level)
        shapes.append(line)
        labels.append({**label, "xanchor": "right" if time > (start + end) / 2 else "left"})
    return {"shapes": shapes, "annotations": labels}


def quality_figure(found: Quality, marks: Sequence[tuple[float, str, str]], palette: Palette) -> Figure:
    """Brier loss above ROC AUC by version, with the late share behind the loss."""
    ends = [point.time for points in found.brier.values() for point in points] or [0.0, 1.0]
    start, end = min(ends), max(ends)
    late = {
        "x": [when(time) for time, _ in found.late],
        "y": [known(share) for _, share in found.late],
        "name": "share of late flights",
        "yaxis": "y3",
        "mode": "lines",
        "fill": "tozeroy",
        "fillcolor": "var(--shade)",
        "line": {"color": "var(--faint)", "width": 1},
        "hovertemplate": "%{y:.1%} of the flights late<extra></extra>",
    }
    lines = [_line(v, p, "Brier loss", "y", palette) for v, p in found.brier.items()]
    lines += [_line(v, p, "ROC AUC", "y2", palette) for v, p in found.roc_auc.items()]
    above = _uprights(marks, start, end)
    top = 20 + 14 * max([1, *(round(label["yshift"] / 14) + 1 for label in above["annotations"])])
    return {
        "data": [late, *lines],
        "layout": layout(
            460,
            {"figure": "quality"},
            xaxis=time_axis(start, end, anchor="y2", title={"text": "event time (UTC)", "standoff": 8}),
            yaxis=axis(domain=[0.55, 1], title={"text": "Brier loss"}, tickformat=".2f", nticks=6),
            yaxis2=axis(domain=[0, 0.45], title={"text": "ROC AUC"}, tickformat=".2f", nticks=6),
            yaxis3=_behind("late"),
            hovermode="x unified",
            margin={"l": 12, "r": 12, "t": top, "b": 12},
            **above,
        ),
    }


def _behind(title: str) -> dict[str, Any]:
    """A second axis at the right of the upper plot, without a grid."""
    words = {"text": title, "font": {"color": "var(--muted)"}}
    return axis(
        overlaying="y", side="right", showgrid=False, tickformat=".0%", rangemode="tozero", tickmode="auto", title=words
    )


def _line(version: str, points: Sequence[Point], metric: str, yaxis: str, palette: Palette) -> Figure:
    texts = [
        f"{known(p.lower)} to {known(p.upper)}, {p.labels} labels" if math.isfinite(p.value) else "" for p in points
    ]
    return {
        "x": [when(point.time) for point in points],
        "y": [known(point.value) for point in points],
        "text": texts,
        "mode": "lines",
        "name": html.escape(version),
        "meta": {"version": version, "metric": metric, "days": WINDOW},
        "yaxis": yaxis,
        "connectgaps": False,
        "line": {"color": palette.colour(version), "width": 2.2, "dash": palette.dash(version)},
        "hovertemplate": f"{html.escape(version)} {metric} %{{y:.4f}} (%{{text}})<extra></extra>",
    }


def traffic_figure(changes: Sequence[Traffic], end: float, versions: Sequence[str], palette: Palette) -> Figure:
    """Stacked steps of every version's share; below, who gets copies."""
    start, end = span(changes, end)
    copied = [version for version in versions if any(version in change.mirrors for change in changes)]
    floor = 0.13 + 0.07 * len(copied) if copied else 0.0
    height = 300 + 30 * len(copied)
    rows = {"range": [-0.6, len(copied) - 0.4], "tickvals": list(range(len(copied))), "ticktext": copied}
    return {
        "data": [_steps(changes, end, version, palette) for version in versions]
        + [_copies(changes, end, version, row, palette) for row, version in enumerate(copied)],
        "layout": layout(
            height,
            {"figure": "traffic"},
            xaxis=time_axis(start, end, anchor="y2" if copied else "y", title={"text": "event time (UTC)"}),
            yaxis=axis(domain=[floor, 1], range=[0, 1], tickformat=".0%", title={"text": "share of requests"}),
            yaxis2=axis(domain=[0, max(floor - 0.09, 0.01)], title={"text": "copies"}, showgrid=False, **rows)
            | {"visible": bool(copied)},
            hovermode="x unified",
        ),
    }


def _walls(changes: Sequence[Traffic]) -> list[str]:
    """Wall time of each change, once more for the end of the last."""
    walls = [iso(change.at.wall)[11:-1] for change in changes]
    return [*walls, *walls[-1:]]


def _steps(changes: Sequence[Traffic], end: float, version: str, palette: Palette) -> Figure:
    shares = [change.split.get(version, 0.0) for change in changes]
    return {
        "x": [*(when(change.at.time) for change in changes), when(end)],
        "y": [*shares, *shares[-1:]],
        "customdata": _walls(changes),
        "mode": "lines",
        "name": html.escape(version),
        "meta": {"version": version},
        "stackgroup": "shares",
        "fillcolor": palette.colour(version, "-fill"),
        "line": {"color": palette.colour(version), "width": 1.5, "shape": "hv"},
        "hovertemplate": f"{html.escape(version)} %{{y:.0%}} (since %{{customdata}} wall time)<extra></extra>",
    }


def _copies(changes: Sequence[Traffic], end: float, version: str, row: int, palette: Palette) -> Figure:
    """A dashed line while a version gets a copy of every request."""
    until = [*(change.at.time for change in changes[1:]), end]
    spans = [(change.at, last) for change, last in zip(changes, until, strict=True) if version in change.mirrors]
    return {
        "x": [time for at, last in spans for time in (when(at.time), when(last), None)],
        "y": [value for _ in spans for value in (row, row, None)],
        "customdata": [iso(at.wall)[11:-1] for at, _ in spans for _ in range(3)],
        "mode": "lines",
        "name": f"copies to {html.escape(version)}",
        "meta": {"mirror": version},
        "yaxis": "y2",
        "connectgaps": False,
        "line": {"color": palette.colour(version), "width": 3, "dash": "6px,3px"},
        "hovertemplate": f"copies to {html.escape(version)} (since %{{customdata}} wall time)<extra></extra>",
    }
