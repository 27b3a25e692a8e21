"""The model card: gate.json told to people, as Markdown and as one HTML page without a network. Pure.

Everything on it stands in gate.json and training.json; nothing is computed for the card alone but the rates by group.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tidegate.evaluate import fairness, plots
from tidegate.reasons import GATE_REASONS

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Section:
    """A heading, a sentence, a table and a plot; empty parts are left out."""

    title: str
    text: str = ""
    table: Table = ((), ())
    svg: str = ""


def card(name: str, record: Mapping[str, Any], training: Mapping[str, Any]) -> tuple[Section, ...]:
    """The sections of the card of model `name`, from gate.json and training.json."""
    found, curves = record["measurements"], record.get("curves", {})
    parts = [
        _verdict(name, record),
        _model(training),
        _choice(training.get("choice")),
        _minors(training.get("search")),
        _checks(record),
        _metrics(found),
        Section("Calibration", svg=plots.calibration(curves.get("calibration", {}))),
        Section("ROC", svg=plots.roc(curves.get("roc", {}))),
        _slices(record),
        _groups(found),
        _contributions(curves.get("contributions", []), curves.get("contributions_by", "terms")),
        _missing(record),
    ]
    return tuple(part for part in parts if part.text or part.table[1] or part.svg)


def to_markdown(sections: Sequence[Section]) -> str:
    """The card as Markdown; the plots are inline SVG."""
    lines: list[str] = []
    for number, section in enumerate(sections):
        lines += [f"{'#' if not number else '##'} {section.title}", ""]
        lines += [section.text, ""] if section.text else []
        columns, rows = section.table
        if rows:
            lines += [_cells(columns), _cells(["---"] * len(columns)), *map(_cells, rows), ""]
        lines += [section.svg, ""] if section.svg else []
    return "\n".join(lines)


def to_html(sections: Sequence[Section]) -> str:
    """The card as one HTML page."""
    body = "".join(_section(section, number) for number, section in enumerate(sections))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(sections[0].title)}</title>'
        f"<style>{_STYLE}</style><body>{body}</body></html>\n"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;font-size:13px}td,th{border-bottom:1px solid #ddd;padding:.2rem .7rem;"
    "text-align:left}td:not(:first-child){font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}"
)


def _verdict(name: str, record: Mapping[str, Any]) -> Section:
    told = GATE_REASONS.get(record["reason"], record["reason"])
    failed = ", ".join(record.get("failed", ())) or "none"
    named = "".join(f" {_unfair(record, check)}" for check in record.get("failed", ()) if check.startswith("fairness "))
    error = record["measurements"].get("infrastructure", {}).get("error")
    named += f" {_sentence(error)}" if error else ""
    text = f"The model gate {record['verdict']} this model: {told}. Checks that refuse: {failed}.{named}"
    return Section(f"Model card of {name}", text)


def _unfair(record: Mapping[str, Any], check: str) -> str:
    """Which group a failed fairness check is about."""
    _, rate, pair = check.split(" ", 2)
    groups = sorted(record["measurements"]["fairness"]["groups"])
    high = next(g for g in groups if any(pair == f"{g}-{other}" for other in groups))
    low = pair.removeprefix(f"{high}-")
    group = fairness.moved(record["measurements"]["fairness"], rate, high, low)
    gap = record["checks"][check]["estimate"]
    return f"Unfair to group {group}: its {rate.replace('_', ' ')} moved, the gap of {high} to {low} is now {gap:.3f}."


def _model(training: Mapping[str, Any]) -> Section:
    names = ("digest", "family", "mode", "reason", "parent", "train_rows", "base_rate")
    rows = [(name.replace("_", " "), _text(training[name])) for name in names if training.get(name) is not None]
    times = {"train from": training.get("train_from"), "train until": training.get("train_until")}
    rows += [(name, datetime.fromtimestamp(at, UTC).isoformat(" ", "minutes")) for name, at in times.items() if at]
    rows += [(f"parameter {name}", _text(value)) for name, value in sorted(training.get("params", {}).items())]
    rows += [(f"seed {name}", _text(value)) for name, value in sorted(training.get("seeds", {}).items())]
    return Section("Model", table=(("what", "value"), rows))


def _choice(found: Mapping[str, Any] | None) -> Section:
    """Families and settings that were compared, the winner first."""
    if not found:
        return Section("Choice")
    columns = ("family", "log loss", "95 %", "behind the winner", "95 %", "CPU s", "bytes", "parameters", "why")
    rows = [
        (
            one["family"],
            _number(one["log_loss"]),
            _limits(one["lower"], one["upper"]),
            _number(one["behind"]),
            _limits(one["behind_lower"], one["behind_upper"]),
            f"{one['seconds']:.2f}",
            str(one["size"]),
            ", ".join(f"{name} {_text(value)}" for name, value in sorted(one["setting"].items())),
            one["reason"],
        )
        for one in found["table"]
    ]
    text = f"Compared on the validation window, the newest matured one before the gate's. {_sentence(found['reason'])}"
    return Section("Choice", text, (columns, rows))


def _minors(found: Mapping[str, Any] | None) -> Section:
    """Settings that were tried to train on from the parent."""
    if not found or not found["trials"]:
        return Section("Training on")
    columns = ("rounds", "learning rate", "replay", "log loss", "gain over the parent", "lower limit", "forgets")
    rows = [
        (*(_text(trial["setting"][name]) for name in ("trees", "learning_rate", "replay")),
         *(_number(trial[name]) for name in ("log_loss", "gain", "gain_lower", "forgets")))
        for trial in found["trials"]
    ]  # fmt: skip
    return Section("Training on", _sentence(found["reason"]), (columns, rows))


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _limits(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.6g} to {high:.6g}"


def _checks(record: Mapping[str, Any]) -> Section:
    failed, compared = set(record.get("failed", ())), record["measurements"]["compared_with"].replace("_", " ")
    rows = [
        (
            name,
            *(_number(check[key]) for key in ("estimate", "lower", "upper", "margin")),
            "no" if name in failed else "yes",
        )
        for name, check in sorted(
            record["checks"].items(), key=lambda named: _place(named[0], record["policy"]["metric"])
        )
    ]
    text = f"Candidate minus {compared}; higher is worse. Limits at one-sided 95 %, shared where a rule asks several."
    return Section("Checks", text, (("check", "estimate", "lower", "upper", "margin", "kept"), rows))


def _place(name: str, metric: str) -> tuple[int, str]:
    """Where a check stands: in the order in which the gate asks."""
    starts = ("reference", "service ", metric, "", "past ", "fairness ", "objective ")
    return next((place for place, start in enumerate(starts) if start and name.startswith(start)), 3), name


def _metrics(found: Mapping[str, Any]) -> Section:
    whose = "champion" if found["compared_with"] == "champion" else "base rate"
    rows = [(name, _number(found["candidate"][name]), _number(found["champion"][name])) for name in found["candidate"]]
    return Section("On the gate window", f"{found['rows']} rows.", (("metric", "candidate", whose), rows))


def _slices(record: Mapping[str, Any]) -> Section:
    shown = {
        n: c for n, c in record["checks"].items() if "=" in n and c["lower"] is not None and c["upper"] is not None
    }
    return Section("Slices", svg=plots.intervals(shown))


def _groups(found: Mapping[str, Any]) -> Section:
    measured = found.get("fairness")
    if not measured:
        return Section("Groups")
    rows = [
        (who, group, *(_number(values[rate]) for rate in fairness.RATES))
        for who in ("candidate", "champion")
        for group, values in fairness.rates(measured, who).items()
    ]
    text = f"Selected at a score of {measured['threshold']:.4f} or more."
    return Section("Groups", text, (("model", "group", *(rate.replace("_", " ") for rate in fairness.RATES)), rows))


_HOW = {
    "terms": "Mean absolute contribution to the log-odds on rows of the gate window: SHAP values of trees, or linear "
    "terms beside their mean.",
    "dealt": "Of this family only ONNX is kept, so these are no SHAP values: how far the log-odds move on average "
    "when a feature's values are dealt to other rows of the gate window.",
}


def _contributions(found: Sequence[Sequence[Any]], by: str) -> Section:
    return Section("Contributions of the features", _HOW[by] if found else "", svg=plots.bars(found))


def _missing(record: Mapping[str, Any]) -> Section:
    return Section("Not assessed", table=(("what", "why"), sorted(record["not_assessed"].items())))


def _section(section: Section, number: int) -> str:
    level, (columns, rows) = ("h1" if not number else "h2"), section.table
    text = f"<p>{html.escape(section.text)}</p>" if section.text else ""
    table = ""
    if rows:
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        table = f"<table><tr>{head}</tr>{body}</table>"
    return f"<{level}>{html.escape(section.title)}</{level}>{text}{table}{section.svg}"


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(html.escape(cell, quote=False).replace("|", "\\|") for cell in cells) + " |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _text(value: object) -> str:
    return _number(value) if isinstance(value, float) else str(value)
