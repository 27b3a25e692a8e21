"""What Prometheus reads of every model, from the journal: who serves, with which share, what is open, what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tidegate.console.reader import Reader
from tidegate.console.summary import Summary

HELP = {
    "tidegate_model_champion_info": "1 for the version that is champion of each model",
    "tidegate_model_champion_since_seconds": "Event time since which it is",
    "tidegate_model_traffic_share": "Share of the answers by version, from 0 to 1",
    "tidegate_model_release_open": "1 while a release, its watch included, is open",
    "tidegate_model_degraded": "1 while the champion is proved beyond its performance limit",
    "tidegate_model_needs_attention": "1 while a run failed, a split is broken, or skew was found",
    "tidegate_model_candidates_waiting": "Candidates that wait for their release",
    "tidegate_model_journal_events": "Number of the newest event of the model's journal",
    "tidegate_model_journal_time_seconds": "Event time of the newest event",
}
"""Every gauge, and what it means."""


def exported(reader: Reader) -> str:
    """The text for one scrape; the first one reads every model."""
    return text(reader.every())


def text(lines: Sequence[Summary]) -> str:
    """Gauges of these models as Prometheus text."""
    found: dict[str, list[str]] = {name: [] for name in HELP}
    for one in lines:
        for name, labels, value in _samples(one):
            told = ",".join(f'{key}="{_escaped(what)}"' for key, what in labels.items())
            found[name].append(f"{name}{{{told}}} {value:.15g}")
    parts = [f"# HELP {name} {HELP[name]}\n# TYPE {name} gauge" + "".join(f"\n{s}" for s in some)
             for name, some in found.items()]  # fmt: skip
    return "\n".join(parts) + "\n"


def _samples(one: Summary) -> Iterator[tuple[str, dict[str, str], float]]:
    model = {"model": one.model}
    if one.version:
        yield "tidegate_model_champion_info", {**model, "version": one.version, "digest": one.digest}, 1
        yield "tidegate_model_champion_since_seconds", model, one.since or 0.0
    for version, share in one.split:
        yield "tidegate_model_traffic_share", {**model, "version": version}, share
    yield "tidegate_model_release_open", model, bool(one.release)
    yield "tidegate_model_degraded", model, one.health == "wrong"
    yield "tidegate_model_needs_attention", model, one.health == "warned"
    yield "tidegate_model_candidates_waiting", model, one.waiting
    yield "tidegate_model_journal_events", model, one.seq
    yield "tidegate_model_journal_time_seconds", model, one.time


def _escaped(text_: str) -> str:
    return text_.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
