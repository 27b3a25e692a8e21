"""Metric over time by version and traffic shares, as figures."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from demo.report.facts import Release, Traffic
from demo.report.figures import Figure, Palette, axis, known, layout, time_axis, upright, when
from demo.report.quality import WINDOW, Point, Quality
from tidegate.journal.views import iso


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
            marks.append((release.decided.time, *_sign(release.challenger, promoted)))
        if release.verdict == "rolled back" and release.ended:
            marks.append((release.ended.time, *_sign(release.challenger, False)))
    return sorted(marks)


def _sign(version: str, good: bool) -> tuple[str, str]:
    return (f"▲ {version}", "var(--good)") if good else (f"▼ {version}", "var(--bad)")


def _uprights(marks: Sequence[tuple[float, str, str]], start: float, end: float) -> dict[str, list[Figure]]:
    """Lines and labels of turning points; a label close behind the one before goes a line higher."""
    shapes, labels, level, before = [], [], 0, -math.inf
    for time, text, colour in marks:
        level = level + 1 if time - before < 0.15 * (end - start) else 0
        before = time
        line, label = upright(time, text, colour, level)
        shapes.append(line)
        labels.append({**label, "xanchor": "right" if time > end - 0.1 * (end - start) else "center"})
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
        "fillcolor": "var(--faint, 0.15)",
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
        "data": [_steps(changes, end, version, palette) for version in answering(changes)]
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


def answering(changes: Sequence[Traffic]) -> list[str]:
    """The versions that ever answered users, in order of their first answer."""
    return list(dict.fromkeys(version for change in changes for version, share in change.split.items() if share))


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
        "fillcolor": palette.colour(version, 0.45),
        "line": {"color": palette.colour(version), "width": 0, "shape": "hv"},
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
