"""The report's sentences: the story in one paragraph, and each figure's main number in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from demo.facts import Release, Run, Traffic
from demo.quality import WINDOW, Quality
from demo.story import Played
from demo.tables import day_time
from tidegate.journal.fold import ModelState


def day(seconds: float) -> str:
    """An event date."""
    return day_time(seconds)[:10]


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "none"


def story(played: Played, state: ModelState, releases: Sequence[Release], runs: Sequence[Run]) -> list[str]:
    """What happened, sentence by sentence."""
    return [*_beginning(played, state), *_pipeline(runs), *map(release_sentence, releases), *_end(state)]


def _beginning(played: Played, state: ModelState) -> list[str]:
    if not state.history:
        return ["No version ever served."]
    first = state.history[0]
    data = state.versions[first.digest]
    return [
        f"{first.version}, trained on {data['train_rows']:,} rows up to {day(data['train_until'])}, served first.",
        f"From {day(played.setting.since.timestamp())} to {day(played.setting.until.timestamp())} (event time) "
        f"{played.tally.sent:,} requests were sent at {played.setting.rate:g} a second and "
        f"{played.tally.statuses[200]:,} were answered with status 200.",
    ]


def _pipeline(runs: Sequence[Run]) -> list[str]:
    own = [run for run in runs if run.by == "trigger"]
    causes = Counter(cause for run in own for cause in run.causes)
    told = listed([f"{count} for {cause}" for cause, count in causes.most_common()])
    return [f"The triggers started {len(own)} of {len(runs)} runs ({told}); {gate_words(runs)}."]


def gate_words(runs: Sequence[Run]) -> str:
    """How many runs the gates refused, and which became candidates."""
    refused = Counter(run.outcome for run in runs if not run.passed)
    words = {"evaluate.refused": "refused by the model gate", "validate.refused": "refused by the data gate"}
    parts = [f"{count} {words.get(kind, kind)}" for kind, count in refused.most_common()]
    passed = [run.version for run in runs if run.passed]
    return listed([*parts, f"{len(passed)} became candidates ({listed(passed)})"])


def release_sentence(release: Release) -> str:
    """One release in one sentence."""
    if release.decided is None:
        return f"{release.challenger} was on its way against {release.champion} at the end."
    end = "promoted and later rolled back" if release.verdict == "rolled back" else release.verdict
    days = (release.decided.time - release.opened.time) / 86400
    after = f" ({release.afterwards})" if release.afterwards else ""
    return (
        f"{release.challenger} was {end} against {release.champion} on {day(release.decided.time)}, "
        f"{days:.1f} days after its release began: {release.sentence}{after}."
    )


def _end(state: ModelState) -> list[str]:
    return [f"At the end {state.champion.version} serves."] if state.champion else []


def quality_words(found: Quality) -> str:
    """The last window of each version."""
    parts = []
    for version, points in found.brier.items():
        at = max((i for i, p in enumerate(points) if math.isfinite(p.value)), default=None)
        if at is not None:
            brier, auc = points[at], found.roc_auc[version][at]
            parts.append(f"{version} Brier loss {brier.value:.4f} and ROC AUC {auc.value:.3f} on {day(brier.time)}")
    shares = [share for _, share in found.late if math.isfinite(share)]
    late = f" The share of late flights ran from {min(shares):.0%} to {max(shares):.0%}." if shares else ""
    return (
        f"Each point covers the {WINDOW} days before it; Brier loss: lower is better, ROC AUC: higher is better. "
        f"Last values: {'; '.join(parts) or 'none'}.{late} "
        f"From {found.labelled:,} labelled of {found.rows:,} matured answers."
    )


def traffic_words(changes: Sequence[Traffic]) -> str:
    """Who ends with which share, and how it came to that."""
    if not changes:
        return "No traffic."
    ways = []
    for name in dict.fromkeys(v for change in changes for v in change.split):
        shares = [f"{s * 100:g} %" for s in _distinct([change.split.get(name, 0.0) for change in changes])]
        ways.append(f"{name} {' → '.join(shares)}")
    last = listed([f"{v} {s * 100:g} %" for v, s in changes[-1].split.items()])
    return f"At the end: {last}. Share over time: {'; '.join(ways)}. Dashed: a copy of every request."


def _distinct(values: Iterable[float]) -> list[float]:
    found: list[float] = []
    for value in values:
        if not found or found[-1] != value:
            found.append(value)
    return found


def confidence_words(release: Release) -> str:
    """The verdict with its sentence."""
    if release.decided is None:
        return f"Still open: {release.sentence or 'no verdict yet'}."
    after = f" Afterwards: {release.afterwards}." if release.afterwards else ""
    return f"{release.verdict.capitalize()} on {day_time(release.decided.time)}: {release.sentence}.{after}"


def timeline_words(runs: Sequence[Run]) -> str:
    """How many runs, for what, and what came of them."""
    causes = Counter(cause for run in runs for cause in run.causes)
    told = listed([f"{cause} {count}" for cause, count in causes.most_common()])
    return f"{len(runs)} runs by cause: {told}; {gate_words(runs)}. Every run with its reason is in the table of runs."
