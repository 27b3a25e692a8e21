"""Plots of the model card as SVG text, drawn by hand: no plotting library, no script, no network. Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

SIDE, EDGE, ROW, LABEL, WIDTH = 320, 40, 18, 230, 640
COLOURS = {"candidate": "#0b6e8f", "champion": "#c2630a"}
SERIES = ("#c2630a", "#0b6e8f", "#4b8b3b", "#7a4fa3", "#b3261e", "#5f6b73", "#a08000")
"""Colours of the series of a chart, in order."""


def calibration(found: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Mean score against the share that came true, by bin; empty without points."""
    return _square({name: [(s, rate) for s, rate, _ in bins] for name, bins in found.items()}, "mean score", "share")


def roc(found: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """The ROC curves; empty without points."""
    curves = {name: [(x, y) for x, y in points] for name, points in found.items()}
    return _square(curves, "false-positive rate", "true-positive rate", dots=False)


def intervals(checks: Mapping[str, Mapping[str, Any]]) -> str:
    """Estimates with their limits, a row each, and the margin as a mark; red where the lower limit is over it."""
    if not checks:
        return ""
    ends = [value for check in checks.values() for value in (check["lower"], check["upper"], check["margin"])]
    low, high = min(0.0, *ends), max(0.0, *ends)
    scale = (WIDTH - LABEL - EDGE) / ((high - low) or 1.0)

    def at(value: float) -> float:
        return float(LABEL + (value - low) * scale)

    lines = [_line(at(0), 0, at(0), ROW * len(checks), "#bbb")]
    for row, (name, check) in enumerate(checks.items()):
        y, colour = ROW * row + ROW / 2, "#b3261e" if check["lower"] > check["margin"] else COLOURS["candidate"]
        lines += [_words(LABEL - 8, y + 4, name, "end"), _line(at(check["lower"]), y, at(check["upper"]), y, colour)]
        lines += [
            _dot(at(check["estimate"]), y, colour),
            _line(at(check["margin"]), y - 5, at(check["margin"]), y + 5, "#555"),
        ]
    lines += [
        _words(at(low), ROW * len(checks) + 14, f"{low:.3g}", "start"),
        _words(at(high), ROW * len(checks) + 14, f"{high:.3g}", "end"),
    ]
    return _svg(WIDTH, ROW * len(checks) + 20, lines)


def bars(found: Sequence[Sequence[Any]]) -> str:
    """A bar for each (name, size), size at least 0."""
    most = max((size for _, size in found), default=0.0)
    if not most:
        return ""
    lines = []
    for row, (name, size) in enumerate(found):
        width, y = (WIDTH - LABEL - 2 * EDGE) * size / most, ROW * row
        lines.append(
            f'<rect x="{LABEL}" y="{y + 3}" width="{width:.1f}" height="{ROW - 6}" fill="{COLOURS["candidate"]}"/>'
        )
        lines += [_words(LABEL - 8, y + 13, name, "end"), _words(LABEL + width + 5, y + 13, f"{size:.3g}", "start")]
    return _svg(WIDTH, ROW * len(found), lines)


def chart(
    found: Mapping[str, Sequence[tuple[float, float]]], first: str, last: str, up: str, joined: bool = True
) -> str:
    """Series of (x, y) with their names; `first` and `last` stand under the ends of x. Empty without points."""
    points = [point for series in found.values() for point in series]
    if not points:
        return ""
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    bottom, top = min(y for _, y in points), max(y for _, y in points)
    wide, tall = WIDTH - LABEL - EDGE, SIDE - EDGE

    def at(x: float, y: float) -> tuple[float, float]:
        return 2 * EDGE + (x - low) / ((high - low) or 1.0) * wide, EDGE + (top - y) / ((top - bottom) or 1.0) * tall

    lines = [_line(*at(low, bottom), *at(high, bottom), "#888")]
    for value in (bottom, (bottom + top) / 2, top):
        lines += [
            _line(*at(low, value), *at(high, value), "#eee"),
            _words(72, at(low, value)[1] + 4, f"{value:.4g}", "end"),
        ]
    for number, (name, series) in enumerate(found.items()):
        placed, colour = [at(x, y) for x, y in series], SERIES[number % len(SERIES)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        lines += [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'] if joined else []
        lines += [_dot(x, y, colour) for x, y in placed]
        lines.append(_words(2 * EDGE + wide + 12, EDGE + ROW * number, name, "start", colour))
    lines += [_words(*_under(at(low, bottom)), first, "start"), _words(*_under(at(high, bottom)), last, "end")]
    return _svg(WIDTH, SIDE + EDGE, [*lines, _words(4, 14, up, "start")])


def _under(place: tuple[float, float]) -> tuple[float, float]:
    return place[0], place[1] + ROW


def _square(found: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str, dots: bool = True) -> str:
    """Lines in the unit square with its diagonal."""
    if not any(found.values()):
        return ""

    def at(x: float, y: float) -> tuple[float, float]:
        return EDGE + x * SIDE, EDGE / 2 + (1 - y) * SIDE

    lines = [
        _line(*at(0, 0), *at(1, 1), "#ccc"),
        _line(*at(0, 0), *at(1, 0), "#888"),
        _line(*at(0, 0), *at(0, 1), "#888"),
    ]
    for number, (name, points) in enumerate(found.items()):
        placed, colour = [at(x, y) for x, y in points], COLOURS.get(name, "#555")
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        lines += [_dot(x, y, colour) for x, y in placed] if dots else []
        lines.append(_words(EDGE + 10, EDGE + ROW * number, name, "start", colour))
    lines += [_words(EDGE + SIDE / 2, EDGE + SIDE, across, "middle"), _words(4, 12, up, "start")]
    return _svg(SIDE + 2 * EDGE, SIDE + EDGE + 12, lines)


def _svg(width: float, height: float, lines: Sequence[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">{"".join(lines)}</svg>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="1.5"/>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'


def _words(x: float, y: float, text: str, anchor: str, colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{html.escape(text)}</text>'
