"""The report's sentences: the story in one paragraph, and each figure's main number in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from demo.report.facts import Release, Traffic
from demo.report.quality import WINDOW, Quality
from demo.report.runs import Run
from demo.report.tables import day_time
from demo.story import Played
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
    became = "became a candidate" if len(passed) == 1 else "became candidates"
    return listed([*parts, f"{len(passed)} {became} ({listed(passed)})"])


def release_sentence(release: Release) -> str:
    """One release in one sentence, without its figures."""
    if release.decided is None:
        return f"{release.challenger} was still on its way against {release.champion}."
    end = "promoted and later rolled back" if release.verdict == "rolled back" else release.verdict
    days = (release.decided.time - release.opened.time) / 86400
    return (
        f"{release.challenger}, released against {release.champion}, was {end} on {day(release.decided.time)} after "
        f"{days:.1f} days: {release.sentence.partition(':')[0]}."
    )


def _end(state: ModelState) -> list[str]:
    return [f"At the end {state.champion.version} serves."] if state.champion else []


def quality_words(found: Quality) -> str:
    """The last window of each version that has one."""
    last = {version: points[-1] for version, points in found.brier.items() if math.isfinite(points[-1].value)}
    aucs = {version: found.roc_auc[version][-1].value for version in last}
    parts = [f"{version} {point.value:.4f} and {aucs[version]:.3f}" for version, point in last.items()]
    shares = [share for _, share in found.late if math.isfinite(share)]
    late = f" The share of late flights ran from {min(shares):.0%} to {max(shares):.0%}." if shares else ""
    return (
        f"Each point covers the {WINDOW} days before it; Brier loss: lower is better, ROC AUC: higher is better. "
        f"In the last window: {'; '.join(parts) or 'nothing'}.{late} "
        f"From {found.labelled:,} labelled of {found.rows:,} matured answers."
    )


def traffic_words(changes: Sequence[Traffic]) -> str:
    """Who ends with which share, and how it came to that."""
    if not changes:
        return "No traffic."
    first, *later = dict.fromkeys(version for change in changes for version in change.split)
    ways = [f"{version} in steps of {listed(_rise(changes, version))} %" for version in later]
    last = listed([f"{version} answers {share * 100:g} %" for version, share in changes[-1].split.items()])
    copied = list(dict.fromkeys(version for change in changes for version in change.mirrors))
    came = f"; then came {', then '.join(ways)}" if ways else ""
    return f"At the end {last} of the requests. {first} began with all of them{came}. Copies went to {listed(copied)}."


def _rise(changes: Sequence[Traffic], version: str) -> list[str]:
    """The shares in % that a version was raised to, up to its highest."""
    shares = list(dict.fromkeys(change.split.get(version, 0.0) for change in changes))
    return [f"{share * 100:g}" for share in shares[: shares.index(max(shares)) + 1] if share]


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
