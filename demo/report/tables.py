"""The report's tables, from facts alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demo.check import Claim
from demo.report.confidence import panels
from demo.report.facts import Moment, Release, Traffic
from demo.report.quality import Quality
from demo.report.runs import Held, Run
from demo.story import Played
from tidegate.journal.fold import ModelState
from tidegate.journal.views import iso

CHECK = ("estimate", "lower", "upper", "margin", "block_lower", "block_upper")


@dataclass(frozen=True)
class Cell:
    """One cell: its text and its kind (number, time, code, long, yes, no or nothing; name and head name the row)."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its caption; the cell of a row of kind `name` (short) or `head` names the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def day_time(seconds: float) -> str:
    """Event time to the minute: ``2013-10-28 00:00``."""
    return iso(seconds)[:16].replace("T", " ")


def clock(seconds: float) -> str:
    """Wall time of day to the second."""
    return iso(seconds)[11:-1]


def number(value: float | None, form: str) -> Cell:
    """A number in a form, a dash where it is not known."""
    gone = value is None or not math.isfinite(value)
    return Cell("–" if gone else format(value, form), "number")


def short(digest: str) -> str:
    """A digest to twelve places."""
    return digest.removeprefix("sha256:")[:12]


def claims_table(claims: Iterable[Claim]) -> Table:
    """What the demo claims and whether it is so."""
    rows = [[_yes(one.holds), Cell(one.claim, "head"), Cell(one.seen)] for one in claims]
    return Table("What the demo claims, and what was seen", ("true", "claim", "seen"), rows)


def _yes(holds: bool) -> Cell:
    return Cell("yes", "yes") if holds else Cell("NO", "no")


def quality_table(found: Quality) -> Table:
    """Every seventh point of the metric figure."""
    names = list(found.brier)
    figures = [f"{version} {what}" for version in names for what in ("labels", "Brier loss", "ROC AUC")]
    columns = ["7 days before", "late flights", *figures]
    size = len(found.late)
    rows = []
    for at in range((size - 1) % 7, size, 7):
        time, share = found.late[at]
        cells = [Cell(day_time(time), "name"), number(100 * share, ".1f")]
        for name in names:
            brier, auc = found.brier[name][at], found.roc_auc[name][at]
            cells += [number(brier.labels, ",d"), number(brier.value, ".4f"), number(auc.value, ".4f")]
        rows.append(cells)
    return Table("Metric by version, week by week (late flights in %)", columns, rows)


def traffic_table(changes: Iterable[Traffic]) -> Table:
    """Every change of the traffic."""
    rows = [[_both(c.at), Cell(_shares(c.split)), Cell(", ".join(c.mirrors) or "–"), Cell(c.release)] for c in changes]
    return Table("Every change of the traffic", ("when", "shares", "copies to", "release"), rows)


def _both(at: Moment | None) -> Cell:
    """Event time, and wall time on a second line."""
    return Cell(f"{day_time(at.time)}\nwall {clock(at.wall)}", "time") if at else Cell("–")


def _shares(split: Mapping[str, float]) -> str:
    return ", ".join(f"{version} {share * 100:g} %" for version, share in split.items())


def checks_table(release: Release) -> Table:
    """The last look at every panel of the release's figure."""
    rows = []
    for panel in panels(release):
        last = panel.looks[-1]
        check = last.checks[panel.metric]
        figures = [number(check[name], "+.4f") for name in CHECK]
        at = Cell(day_time(last.at.time), "time")
        rows.append([Cell(f"{panel.metric} in {panel.place}", "head"), at, *figures, number(check["n"], ",d")])
    columns = (
        "check",
        "last look",
        "estimate",
        "lower",
        "upper",
        "margin",
        "block lower",
        "block upper",
        "observations",
    )
    return Table(f"{release.name}: the last look at each place", columns, rows)


def releases_table(found: Iterable[Release]) -> Table:
    """Each release with both times, its verdict and its evidence."""
    columns = ("release", "challenger", "champion", "opened", "decided", "ended", "verdict", "why", "evidence")
    return Table("Releases (event time, below it wall time)", columns, [_release_row(release) for release in found])


def _release_row(one: Release) -> list[Cell]:
    times = [_both(at) for at in (one.opened, one.decided, one.ended)]
    kind = {"promoted": "yes", "open": ""}.get(one.verdict, "no")
    why = f"{one.sentence}; {one.afterwards}" if one.afterwards else one.sentence
    names = [Cell(one.name, "name"), Cell(one.challenger), Cell(one.champion)]
    return [*names, *times, Cell(one.verdict, kind), Cell(why, "long"), Cell(_evidence(one.counts), "long")]


def _evidence(counts: Mapping[str, Any]) -> str:
    """Requests by place, and what became of them."""
    places = []
    for place, seen in counts.items():
        weights = ", ".join(
            f"{float(w) * 100:g} %: {n:,}"
            for w, n in sorted(seen["by_weight"].items(), key=lambda pair: float(pair[0]))
        )
        parts = [f"{seen['requests']:,} requests", f"{seen['matured']:,} matured", f"{seen['cancelled']:,} cancelled"]
        parts += [f"{seen[name]:,} {name}" for name in ("missing", "late") if seen[name]]
        places.append(f"{place}: {', '.join(parts)}" + (f" ({weights})" if weights else ""))
    return "; ".join(places) or "–"


def versions_table(state: ModelState) -> Table:
    """Every candidate that was registered, and what became of it."""
    served = {one.digest for one in state.history}
    rows = []
    for digest, data in state.versions.items():
        fate = state.quarantined.get(digest)
        ended = f"quarantined: {fate.replace('_', ' ')}" if fate else ("served" if digest in served else "not served")
        why, parent = Cell(data["mode_reason"], "long"), Cell(_parent(data["parent"]))
        facts = [Cell(data["cause"].replace(",", ", ")), Cell(data["mode"]), why, parent]
        counts = [number(data["rows"], ",d"), number(data["train_rows"], ",d")]
        until = Cell(f"{day_time(data['train_from'])[:10]}\nto {day_time(data['train_until'])[:10]}", "time")
        name = [Cell(data["version"], "name"), Cell(short(digest), "code")]
        rows.append([*name, *facts, *counts, until, Cell(ended, "no" if fate else "")])
    columns = ("version", "digest", "cause", "mode", "why this mode", "parent", "rows", "trained on", "days", "fate")
    return Table("Versions", columns, rows)


def _parent(parent: object) -> str:
    """A parent as recorded: a version, a digest or nothing."""
    if isinstance(parent, Mapping):
        return str(parent.get("version", "–"))
    return short(str(parent)) if str(parent).startswith("sha256:") else str(parent or "–")


def runs_table(found: Iterable[Run]) -> Table:
    """Each run with its causes, what the gates said, and whether stateful training was tried."""
    columns = ("run", "when", "causes", "verdict", "why", "training", "why this mode", "rows")
    return Table("Runs of the pipeline", columns, [_run_row(run) for run in found])


def _run_row(run: Run) -> list[Cell]:
    causes = ", ".join(f"{cause} ({run.details[cause]})" if cause in run.details else cause for cause in run.causes)
    verdict = Cell(f"candidate {run.version}", "yes wide") if run.passed else Cell(_word(run.outcome), "no wide")
    facts = [verdict, Cell(run.sentence, "long"), Cell(run.mode or "–"), Cell(run.mode_reason or "–", "long")]
    return [Cell(run.name, "name"), _both(run.at), Cell(causes, "long"), *facts, number(run.rows, ",d")]


def _word(outcome: str) -> str:
    words = {"evaluate.refused": "refused by the model gate", "validate.refused": "refused by the data gate"}
    return words.get(outcome, outcome.removeprefix("register."))


def steps_table(found: Sequence[Run]) -> Table:
    """Seconds of each step of each run."""
    names = list(dict.fromkeys(step for run in found for step, _, _ in run.steps))
    rows = []
    for run in found:
        spent = {step: (seconds, cached) for step, seconds, cached in run.steps}
        cells = [Cell(_spent(*spent[name]) if name in spent else "–", "number") for name in names]
        rows.append([Cell(run.name, "name"), *cells, number(sum(s for _, s, _ in run.steps), ".1f")])
    return Table("Seconds by step (a star: from the cache)", ("run", *names, "in all"), rows)


def _spent(seconds: float, cached: bool) -> str:
    return f"{seconds:.2f}{'*' if cached else ''}"


def held_table(found: Iterable[Held]) -> Table:
    """Causes that had to wait."""
    rows = [_held_row(one) for one in found if one.until > one.since]
    return Table("Causes that had to wait", ("cause", "from", "until", "what it was", "why it waited"), rows)


def _held_row(one: Held) -> list[Cell]:
    times = [Cell(day_time(time), "time") for time in (one.since, one.until)]
    return [Cell(one.cause, "head"), *times, Cell(one.detail), Cell(one.why.replace("_", " "))]


def timing_table(played: Played) -> Table:
    """Where the time went and how the traffic did."""
    tally, setting = played.tally, played.setting
    began = iso(played.events[0].wall)[:-1].replace("T", " ") if played.events else "–"
    lines = [("began (wall time, UTC)", began), *((part, f"{spent:.1f} s") for part, spent in played.seconds.items())]
    lines += [
        ("requests sent", f"{tally.sent:,} at {setting.rate:g} a second, open loop"),
        ("requests answered", f"{tally.answered:,}, {tally.statuses[200]:,} of them with status 200"),
        ("rows in the prediction log", f"{played.rows:,} answers to users"),
        ("labels sent", f"{tally.labels:,}"),
        ("latency", f"p50 {tally.latency(0.5):.1f} ms, p99 {tally.latency(0.99):.1f} ms, from the scheduled time"),
        ("stood still for runs and start-ups", f"{tally.stood_still:.1f} s"),
        ("event days a second", f"{played.speed:.2f} while the traffic moved"),
        ("share of the flights", f"{setting.share:.0%}, drawn with seed {setting.seed}"),
    ]
    return Table("Timing and traffic", ("what", "how much"), [[Cell(what, "head"), Cell(much)] for what, much in lines])
