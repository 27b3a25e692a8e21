"""A backtest's answer as a document, as text for the terminal, as a page in the model card's style. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tidegate.evaluate import plots
from tidegate.evaluate.card import Section
from tidegate.evaluate.days import Estimate
from tidegate.evaluate.freshness import Answer, Line, Played, paces, timeline
from tidegate.evaluate.freshness_grid import DAY, Cell, Grid


@dataclass(frozen=True)
class Asked:
    """What the backtest was about: the Model file's gate metric and margin, and the family of data iterations."""

    model: str
    workload: str
    until: str
    family: str
    metric: str
    margin: float


def document(asked: Asked, grid: Grid, played: Played, found: Answer) -> dict[str, Any]:
    """The JSON document. Gains have 95 % limits; times are ISO 8601, UTC."""
    best, cells = played.cells[found.best].cell, played.cells
    shown = paces(played, best.window)
    periods = timeline(played, shown, asked.metric)
    days = {int(time // DAY) for time in played.times.tolist()}
    return {
        **vars(asked),
        "scored": {"from": _iso(grid.first), "until": _iso(grid.until), "rows": len(played.times), "days": len(days)},
        "cells": [
            {**_cell(one.cell), **_line(line), "fits": one.fits, "train_rows": one.train_rows}
            for one, line in zip(cells, found.lines, strict=True)
        ],
        "not_assessed": [{**_cell(one.cell), "why": one.why} for one in played.skipped],
        "families": [
            {"family": one.name, **_line(line)} for one, line in zip(played.families, found.families, strict=True)
        ],
        "best": _cell(best),
        "recommendation": {**_cell(cells[found.recommended].cell), "reason": found.reason},
        "iteration": _iteration(played, found),
        "timeline": {
            "window": best.window.name,
            "columns": [_pace(place, cells[place].cell) for place in shown],
            "periods": [vars(period) for period in periods],
        },
    }


def text(found: Mapping[str, Any]) -> str:
    """The document for the terminal."""
    metric, scored = found["metric"], found["scored"]
    wanted = found["recommendation"]
    head = (
        f"{found['model']}: {found['family']}, {scored['rows']} rows of {scored['days']} days scored, "
        f"{scored['from'][:10]} to {scored['until'][:10]}; gains over the stale model in {metric}, 95 %"
    )
    columns = ("window", "cadence", "mode", metric, "gain", "", "roc_auc", "gain", "", "CPU s", "fits")
    rows = [(*_words(one), *_figures(one, metric), str(one["fits"]), _mark(one, found)) for one in found["cells"]]
    others = [(one["family"], "never", "stateless", *_figures(one, metric), "1", "") for one in found["families"]]
    lines = [head, "", *_columns([(*columns, ""), *rows]), "", "another family on the stale model's data"]
    lines += [*_columns(others), ""] if others else ["  none was tried", ""]
    lines += [f"not assessed: {', '.join(_words(one))}: {one['why']}" for one in found["not_assessed"]]
    lines += ["", *_columns(_periods(found)), ""]
    lines += [f"recommended: {', '.join(_words(wanted))}: {wanted['reason']}"]
    lines += [f"{found['iteration']['verdict']}: {found['iteration']['reason']}"]
    return "\n".join(lines)


def sections(found: Mapping[str, Any]) -> tuple[Section, ...]:
    """The document as the sections of a page; see `tidegate.evaluate.card.to_html`."""
    metric, scored, wanted = found["metric"], found["scored"], found["recommendation"]
    told = (
        f"Recommended: {', '.join(_words(wanted))}: {wanted['reason']}. "
        f"Data or model: {found['iteration']['verdict']}: {found['iteration']['reason']}. "
        f"Scored: {scored['rows']} rows of {scored['days']} days, {scored['from'][:10]} to {scored['until'][:10]}, "
        f"by {found['family']}."
    )
    columns = ("window", "cadence", "mode", metric, "gain", "95 %", "roc_auc", "gain", "95 %", "CPU s", "fits", "")
    cells = [(*_words(one), *_figures(one, metric), str(one["fits"]), _mark(one, found)) for one in found["cells"]]
    others = [(one["family"], *_figures(one, metric)) for one in found["families"]]
    table = _periods(found)
    over = f"Window {found['timeline']['window']}, trained from scratch; stale is trained once on the longest window."
    gone = [(", ".join(_words(one)), one["why"]) for one in found["not_assessed"]]
    return tuple(
        part
        for part in (
            Section(f"Freshness of {found['model']}", told),
            Section("Over time", over, (table[0], table[1:]), _over_time(found)),
            Section("Gain over time", "Over the stale model, in the same months or weeks.", svg=_gain_over_time(found)),
            Section("Gain and cost", "Gain over the stale model against CPU-seconds.", svg=_by_cost(found)),
            Section("Cells", table=(columns, cells)),
            Section("Other families on the stale model's data", table=(("family", *columns[3:10]), others)),
            Section("Not assessed", table=(("cell", "why"), gone)),
        )
        if part.text or part.table[1]
    )


def _over_time(found: Mapping[str, Any]) -> str:
    names = [period["name"] for period in found["timeline"]["periods"]]
    series = {
        column: [(place, period["values"][number]) for place, period in enumerate(found["timeline"]["periods"])]
        for number, column in enumerate(found["timeline"]["columns"])
    }
    kept = {name: [(x, y) for x, y in points if y is not None] for name, points in series.items()}
    return plots.chart(kept, names[0], names[-1], found["metric"])


def _gain_over_time(found: Mapping[str, Any]) -> str:
    periods, columns = found["timeline"]["periods"], found["timeline"]["columns"]
    sign = 1 if found["metric"] == "roc_auc" else -1
    gains = {
        column: [
            (place, sign * (period["values"][number] - period["values"][0]))
            for place, period in enumerate(periods)
            if None not in (period["values"][number], period["values"][0])
        ]
        for number, column in enumerate(columns)
    }
    return plots.chart(gains, periods[0]["name"], periods[-1]["name"], "gain")


def _by_cost(found: Mapping[str, Any]) -> str:
    points: dict[str, list[tuple[float, float]]] = {}
    for one in found["cells"]:
        points.setdefault(f"{one['cadence']}, {one['mode']}", []).append((one["cpu_seconds"], one["gain"]["estimate"]))
    most = max(one["cpu_seconds"] for one in found["cells"])
    return plots.chart(points, "0", f"{most:.3g} CPU s", "gain", joined=False)


def _periods(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Metric and AUC of each column by month or week."""
    metric, columns = found["metric"], found["timeline"]["columns"]
    metrics = [metric] if metric == "roc_auc" else [metric, "roc_auc"]
    head = ("from", "rows", *(f"{name} {column}" for name in metrics for column in columns))
    return [
        head,
        *(
            (period["name"], str(period["rows"]), *(_number(value, 3) for value in _of(period, metric)))
            for period in found["timeline"]["periods"]
        ),
    ]


def _of(period: Mapping[str, Any], metric: str) -> tuple[float | None, ...]:
    return tuple(period["values"] if metric == "roc_auc" else (*period["values"], *period["roc_auc"]))


def _iteration(played: Played, found: Answer) -> dict[str, Any]:
    told = found.iteration
    data: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    if told.data is not None:
        line = _line(found.lines[told.data])
        data = {**_cell(played.cells[told.data].cell), **line, "shared_lower": told.data_lower}
    if told.model is not None:
        line = _line(found.families[told.model])
        model = {"family": played.families[told.model].name, **line, "shared_lower": told.model_lower}
    lead = _interval(told.lead) if told.lead else None
    answer = {"verdict": told.verdict, "reason": told.reason, "pays_more": told.pays_more}
    return {**answer, "data": data, "model": model, "lead": lead}


def _cell(cell: Cell) -> dict[str, str]:
    return {"window": cell.window.name, "cadence": cell.cadence.name, "mode": cell.mode}


def _line(line: Line) -> dict[str, Any]:
    behind = {} if line.behind is None else {"behind": _interval(line.behind), "kept": line.kept}
    gains = {"gain": _interval(line.gain), "roc_auc_gain": _interval(line.auc_gain)}
    return {"value": line.value, "roc_auc": line.roc_auc, **gains, "cpu_seconds": line.cpu_seconds, **behind}


def _interval(found: Estimate) -> dict[str, float]:
    return {"estimate": found.estimate, "lower": found.lower, "upper": found.upper}


def _pace(place: int, cell: Cell) -> str:
    return cell.cadence.name if place else "stale"


def _words(one: Mapping[str, Any]) -> tuple[str, str, str]:
    return one["window"], one["cadence"], one["mode"]


def _figures(one: Mapping[str, Any], metric: str) -> tuple[str, ...]:
    gains = [(f"{gain['estimate']:+.4f}", f"{gain['lower']:+.4f} to {gain['upper']:+.4f}") for gain in _gains(one)]
    return (_number(one["value"], 4), *gains[0], _number(one["roc_auc"], 3), *gains[1], f"{one['cpu_seconds']:.1f}")


def _gains(one: Mapping[str, Any]) -> tuple[Mapping[str, float], Mapping[str, float]]:
    return one["gain"], one["roc_auc_gain"]


def _mark(one: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    names = {"recommendation": "recommended", "best": "best"}
    marks = [name for key, name in names.items() if _words(found[key]) == _words(one)]
    return ", ".join(marks) or ("as good" if one["kept"] else "")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
