"""Pictures as SVG, made here and not in the browser. Pure.

A picture has no view box of its own: text keeps its size on any screen, and what stretches is a picture inside with
one that stretches. Colours are classes of the style sheet, so that they follow the reader.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from markupsafe import Markup, escape

WIDE = 1000.0
"""Units of a stretched picture's width."""
COLOURS = 6
DOTS = 40
"""Looks of a version that are dots, too; of more the line is enough."""
LEAST = 5.0
"""Margins to either side of zero that a confidence sequence's picture shows at least."""

Points = Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Span:
    """From one event time to another, as places from 0 to `WIDE`."""

    start: float
    end: float

    def at(self, time: float) -> float:
        """The place of a time; what lies outside is at the edge."""
        share = (time - self.start) / ((self.end - self.start) or 1.0)
        return round(WIDE * min(1.0, max(0.0, share)), 2)

    def percent(self, time: float) -> str:
        """The same for text, which does not stretch."""
        return f"{self.at(time) / WIDE * 100:.2f}%"


@dataclass(frozen=True)
class Up:
    """From a lowest to a highest value, as places from `height` down to 0."""

    low: float
    high: float
    height: float

    def at(self, value: float) -> float:
        """The place of a value; what lies outside is at the edge."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.height * (1 - min(1.0, max(0.0, share))), 2)


def picture(height: float, label: str, *parts: str, kind: str = "") -> Markup:
    """A whole picture; `label` is what it says to those who do not see it."""
    body = Markup("").join(Markup(part) for part in parts)  # noqa: S704 - made here, values escaped
    start = Markup('<svg class="chart {}" role="img" aria-label="{}" width="100%" height="{}">').format(
        kind, label, f"{height:g}"
    )
    return start + body + Markup("</svg>")


def _inner(top: float, height: float, *parts: str) -> str:
    return (
        f'<svg x="0" y="{top:g}" width="100%" height="{height:g}" viewBox="0 0 {WIDE:g} {height:g}" '
        f'preserveAspectRatio="none">{"".join(parts)}</svg>'
    )


def _text(x: str, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y:g}" text-anchor="{anchor}"{named}>{escape(words)}</text>'


def _line(points: Points, span: Span, up: Up, kind: str) -> str:
    """A line that breaks where a value is missing."""
    parts, on = [], False
    for time, value in points:
        if value is None or not math.isfinite(value):
            on = False
            continue
        parts.append(f"{'L' if on else 'M'}{span.at(time):g} {up.at(value):g}")
        on = True
    return f'<path class="{kind}" d="{" ".join(parts)}"/>' if parts else ""


def _band(lower: Points, upper: Points, span: Span, up: Up, kind: str) -> str:
    both = [
        (time, low, high)
        for (time, low), (_, high) in zip(lower, upper, strict=True)
        if low is not None and high is not None
    ]
    if len(both) < 2:
        return ""
    there = " L".join(f"{span.at(time):g} {up.at(high):g}" for time, _, high in both)
    back = " L".join(f"{span.at(time):g} {up.at(low):g}" for time, low, _ in reversed(both))
    return f'<path class="{kind}" d="M{there} L{back} Z"/>'


def day(time: float, short: bool = False) -> str:
    """``20 Jul 2013``, or ``20 Jul``."""
    moment = datetime.fromtimestamp(time, UTC)
    return f"{moment.day} {moment:%b}" if short else f"{moment.day} {moment:%b %Y}"


def _ends(span: Span, y: float) -> str:
    """The first and the last time, below."""
    short = span.end - span.start > 2 * 86400
    names = [
        day(time) if short else f"{datetime.fromtimestamp(time, UTC):%d %b %H:%M}" for time in (span.start, span.end)
    ]
    return _text("0", y, names[0], kind="tick") + _text("100%", y, names[1], "end", "tick")


def _marks(marks: Iterable[tuple[float, str]], span: Span, top: float, height: float, room: int = 1) -> str:
    """Where something began: a line through the picture and its name above, one line higher where it is narrow."""
    parts, ends = [], [-1e9] * room
    for time, name in marks:
        place = span.at(time)
        level = next((i for i in range(room) if place >= ends[i]), room - 1)
        ends[level] = place + 11 * len(name) + 16
        left = place < 0.86 * WIDE
        x = span.percent(time)
        parts.append(f'<line class="mark" x1="{x}" x2="{x}" y1="{top - 4:g}" y2="{top + height:g}"/>')
        parts.append(_text(x, top - 7 - 13 * level, name, "start" if left else "end", "name"))
    return "".join(parts)


def share_bar(split: Sequence[tuple[str, float]], colour: Mapping[str, int], label: str) -> Markup:
    """Who answers with which share, as one bar."""
    parts, x = [], 0.0
    for version, share in split:
        kind, place = f"fill c{colour.get(version, 0)}", f'x="{x * 100:.2f}%" width="{share * 100:.2f}%"'
        parts.append(f'<rect class="{kind}" {place} y="0" height="100%"/>')
        x += share
    return picture(10, label, *parts, kind="bar")


def traffic(
    changes: Sequence[tuple[float, Mapping[str, float]]], until: float, versions: Sequence[str], label: str
) -> Markup:
    """Shares over time, one on the other, in steps."""
    height, top = 72.0, 6.0
    span, up = Span(changes[0][0], max(until, changes[0][0] + 1)), Up(0.0, 1.0, height)
    parts = []
    for i, (time, split) in enumerate(changes):
        end = changes[i + 1][0] if i + 1 < len(changes) else span.end
        low = 0.0
        for version in versions:
            share = split.get(version, 0.0)
            if not share or end <= time:
                continue
            x, y = span.at(time), up.at(low + share)
            size = f'width="{max(span.at(end) - x, 0.4):g}" height="{up.at(low) - y:g}"'
            number = versions.index(version) % COLOURS
            parts.append(f'<rect class="fill c{number}" x="{x:g}" y="{y:g}" {size}/>')
            low += share
    return picture(height + top + 18, label, _inner(top, height, *parts), _ends(span, height + top + 14))


@dataclass(frozen=True)
class Sequenced:
    """A confidence sequence: by look its time and numbers; `margin` None: nothing is to be proved."""

    estimate: Points
    lower: Points
    upper: Points
    block_lower: Points
    block_upper: Points
    margin: float | None


def confidence(seen: Sequenced, marks: Sequence[tuple[float, str]], start: float, end: float, label: str) -> Markup:
    """How the limits came together, with zero, the margin and where stages began."""
    top, height = 36.0, 130.0
    span, most = Span(start, max(end, start + 1)), _most(seen)
    up = Up(-most, most, height)
    zero = f'<line class="zero" x1="0" x2="{WIDE:g}" y1="{up.at(0):g}" y2="{up.at(0):g}"/>'
    parts = [
        _band(seen.lower, seen.upper, span, up, "band"),
        zero,
        _line(seen.lower, span, up, "limit"),
        _line(seen.upper, span, up, "limit"),
        _line(seen.block_lower, span, up, "block"),
        _line(seen.block_upper, span, up, "block"),
        _line(seen.estimate, span, up, "estimate"),
    ]
    words = []
    if seen.margin is None or up.at(0) - up.at(seen.margin) > 14:
        words.append(_text("0", top + up.at(0) - 3, "0", kind="tick halo"))
    if seen.margin is not None:
        y = up.at(seen.margin)
        parts.append(_limit(y))
        words.append(_text("0", top + y - 4, f"margin +{seen.margin:g}", kind="bad halo"))
    words.append(_text("100%", top + 11, "worse ↑", "end", "tick halo"))
    words.append(_text("100%", top + height - 4, "better ↓", "end", "tick halo"))
    return _over_time(top, height, label, parts, span, marks, words, "confidence")


def _most(seen: Sequenced) -> float:
    """At least `LEAST` margins to both sides, more where the newest look needs it."""
    last = [points[-1][1] or 0.0 for points in (seen.lower, seen.upper, seen.estimate) if points]
    widest = 1.25 * max([abs(value) for value in last if math.isfinite(value)] or [0.0])
    return max(LEAST * (seen.margin or 0.0), min(widest, 1.25), 1e-6)


@dataclass(frozen=True)
class Metric:
    """One version's looks at one metric: estimate and 95 % limits by time."""

    version: str
    colour: int
    value: Points
    lower: Points
    upper: Points


def metrics(found: Sequence[Metric], limit: float | None, marks: Sequence[tuple[float, str]], label: str) -> Markup:
    """A metric over time by version, with the limit that asks for a run."""
    top, height = 36.0, 150.0
    times = [time for one in found for time, _ in one.value]
    span = Span(min(times), max(max(times), min(times) + 1))
    values = [v for one in found for points in (one.value, one.lower, one.upper) for _, v in points if v is not None]
    values += [limit] if limit is not None else []
    room = 0.08 * ((max(values) - min(values)) or 0.1)
    up = Up(min(values) - room, max(values) + room, height)
    parts = [_band(one.lower, one.upper, span, up, f"area c{one.colour}") for one in found]
    parts += [_line(one.value, span, up, f"line c{one.colour}") for one in found]
    words = [
        _text("0", top + 11, f"{up.high - room:.3f}", kind="tick halo"),
        _text("0", top + height - 4, f"{up.low + room:.3f}", kind="tick halo"),
    ]
    if limit is not None:
        y = up.at(limit)
        parts.append(_limit(y))
        words.append(_text("100%", top + y - 4, f"limit {limit:g}", "end", "bad halo"))
    dots = [
        f'<circle class="fill c{one.colour}" cx="{span.percent(time)}" cy="{top + up.at(value):g}" r="2.5"/>'
        for one in found
        for time, value in one.value
        if value is not None and len(one.value) <= DOTS
    ]
    return _over_time(top, height, label, parts, span, marks, dots + words)


def _limit(y: float) -> str:
    """The line of a margin or limit, over the whole width."""
    return f'<line class="margin" x1="0" x2="{WIDE:g}" y1="{y:g}" y2="{y:g}"/>'


def _over_time(
    top: float, height: float, label: str, parts: Sequence[str], span: Span, marks: Sequence[tuple[float, str]],
    words: Sequence[str], kind: str = "",
) -> Markup:  # fmt: skip
    """A picture of `parts` in their own scale, with marks and ends of the time under and `words` over them."""
    return picture(
        top + height + 18,
        label,
        _inner(top, height, *parts),
        _marks(marks, span, top, height, room=2),
        *words,
        _ends(span, top + height + 14),
        kind=kind,
    )


def interval(lower: float, upper: float, estimate: float, margin: float, most: float, label: str) -> Markup:
    """One check of a gate: its interval against zero and the margin, on a scale from -most to most."""
    span = Span(-most, most)
    low, high = span.at(lower), span.at(upper)
    kind = "worse" if lower > 0 else "fine" if upper < margin else "open"
    return picture(
        16,
        label,
        _inner(
            0,
            16,
            f'<line class="zero" x1="{span.at(0):g}" x2="{span.at(0):g}" y1="0" y2="16"/>',
            f'<line class="margin" x1="{span.at(margin):g}" x2="{span.at(margin):g}" y1="0" y2="16"/>',
            f'<rect class="{kind}" x="{low:g}" width="{max(high - low, 2):g}" y="6" height="4"/>',
        ),
        f'<circle class="{kind}" cx="{span.percent(estimate)}" cy="8" r="4"/>',
        kind="interval",
    )


@dataclass(frozen=True)
class Row:
    """One version in the picture of lineage. parent: the row number that it was trained on from; None: from scratch.

    cells: what stands in each column, left to right, with its link and mark; empty text draws nothing.
    """

    version: str
    parent: int | None
    cells: Sequence[tuple[str, str, str]]
    chosen: bool = False


COLUMNS = ("data", "run", "version", "model gate", "release", "served")
_PLACES = (12, 180, 390, 500, 640, 860)
_HIGH = 44.0


def lineage(rows: Sequence[Row], label: str) -> Markup:
    """Versions under each other, oldest first: data, run, version, gate, release, and when it served."""
    height = 30 + _HIGH * len(rows)
    parts = [_text(f"{x}", 12, name, kind="head") for x, name in zip(_PLACES, COLUMNS, strict=True)]
    at = [30 + _HIGH * (i + 0.5) for i in range(len(rows))]
    bends = [
        f'<path class="parent" d="M{_PLACES[2] - 2} {at[row.parent]:g} C{_PLACES[2] - 34} {at[row.parent]:g} '
        f'{_PLACES[2] - 34} {y:g} {_PLACES[2] - 2} {y:g}"/>'
        for row, y in zip(rows, at, strict=True)
        if row.parent is not None
    ]
    drawn = [_lane(row, y) for row, y in zip(rows, at, strict=True)]
    inside = "".join([*parts, *bends, *drawn])
    return Markup('<svg class="chart lineage" role="group" aria-label="{}" width="1040" height="{}">').format(
        label, f"{height:g}"
    ) + Markup(f"{inside}</svg>")  # noqa: S704 - made here, values escaped


def _lane(row: Row, y: float) -> str:
    found = [(i, *cell) for i, cell in enumerate(row.cells) if cell[0]]
    ties = [
        f'<line class="tie" x1="{_PLACES[a[0]] + 8 + _wide(a[1]):g}" x2="{_PLACES[b[0]] - 4}" y1="{y:g}" y2="{y:g}"/>'
        for a, b in pairwise(found)
    ]
    back = f'<rect class="chosen" x="0" width="1040" y="{y - 18:g}" height="36" rx="6"/>' if row.chosen else ""
    return back + "".join(ties) + "".join(_cell(_PLACES[i], y, text, link, mark) for i, text, link, mark in found)


def _wide(text: str) -> float:
    return 6.9 * len(text)


def _cell(x: float, y: float, text: str, link: str, mark: str) -> str:
    words = f'<text class="{mark}" x="{x:g}" y="{y + 4:g}">{escape(text)}</text>'
    return f'<a href="{escape(link)}">{words}</a>' if link else words
