"""Every reason a decision can give, with its message. A reason is stored by name and shown by message."""

from __future__ import annotations

REASONS: dict[str, str] = {
    # release
    "proved_not_worse": "proved not worse than the champion by more than the margin",
    "proved_worse": "proved worse than the champion",
    "one_worse": "one of several challengers is proved worse and leaves; the others go on",
    "no_evidence": "no matured evidence yet",
    "too_little_evidence": "the evidence does not decide yet",
    "block_check": "the bound decides, the days do not agree yet",
    "proved_here": "what this stage has to prove is proved; the rest is proved later",
    "min_duration": "proved, but the least duration has not passed",
    "sample_ratio": "the split that was seen is not the split that was asked for",
    "no_propensity": "rows do not say with which probability they were sent to their arm; nothing can be compared",
    "carried": "the margin is already spent by earlier promotions",
    "deadline": "no verdict by the deadline; the champion stays",
    "stage": "proved; the stage has not seen its least requests and weights yet",
    "stage_done": "the stage is done; the next weight or stage begins",
    "paused": "paused by a person; it aborts or ends, but does not go on",
    "approval": "waits for a named person's approval",
    "watched": "nothing got worse while the old champion was kept as a shadow",
    "watch_ended": "the next release began and ended the watch of this one",
    "watching": "promoted; the old champion is kept as a shadow for a while",
    "regression": "proved worse than the old champion after its promotion",
    "ended": "the release has ended",
    "not_ready": "the challenger did not become ready",
    "superseded": "a newer candidate took its place",
    "first_version": "nothing to compare with: the first version serves at once",
    "serves": "it is the champion already",
    "quarantined": "this digest was aborted before",
    "by_person": "decided by a named person",
    "event_begins": "an announced event with release settings of its own begins and ends this release",
    "event_over": "the announced event is over; the version that served before it serves again",
    "degraded": "the champion is proved beyond the performance limit",
    "degraded_back": "the champion is proved beyond the performance limit; the best earlier version serves again",
    "degraded_candidate": "the champion is proved beyond the performance limit; a candidate is on its way",
    "degraded_skew": "the champion is proved beyond the performance limit, under skew, which hits every version",
    "degraded_alone": "the champion is proved beyond the performance limit, and no earlier version is to be had",
    "recovered": "the champion is on the good side of the performance limit again",
}
"""Why a release went on, ended or waits."""

GATE_REASONS: dict[str, str] = {
    "not_worse": "proved not worse than the champion on the newest matured rows",
    "first_version": "nothing to compare with; proved better than the base rate",
    "reference_rows": "the exported file does not answer its reference rows as the trained model did",
    "infrastructure": "the service that loads the files does not answer as the trained model did",
    "gate_too_little": "too few matured rows or days in the gate window",
    "gate_metric": "not proved to be within the margin of the champion",
    "gate_slice": "proved worse than the champion on a slice",
    "gate_forgetting": "proved to have forgotten a part of the past that the champion knew",
    "gate_fairness": "a gap between protected groups is proved too wide, and wider than the champion's",
    "gate_objective": "an objective of the gate is not kept within its margin",
    "base_rate": "not proved better than always answering the base rate",
    "data_refused": "the data gate refused the rows",
    "unchanged": "the same model as one that is registered already",
}
"""Why a run's model was registered or refused."""

ALERTS: dict[str, tuple[str, str]] = {
    "skew": ("critical", "skew: the pipeline computes a feature in two ways; no run until it is mended"),
    "domain_shift": ("warning", "rows come from a region that the model was not trained on; label some of them"),
    "selective_labels": ("warning", "labels are seen for some scores only; keep some exploration traffic"),
    "degraded": ("critical", "proved beyond the performance limit"),
    "rolled_back": ("critical", "proved worse after its promotion and rolled back"),
    "agreement": ("warning", "the model gate's predictions stopped holding in production"),
    "run_failed": ("warning", "a training run failed"),
}
"""What is alerted: severity and summary."""

TRIGGER_REASONS: dict[str, str] = {
    "started": "a run starts for {causes}",
    "no_cause": "nothing asks for a run",
    "in_flight": "a run is in flight; held until it ends: {causes}",
    "skew": "training-serving skew was found: no run but by manual or code until a look finds none; held: {causes}",
    "release_open": "a release is open; held until it ends: {causes}",
    "cooldown": "the cooldown lasts until {until}; held: {causes}",
    "budget": "the {budget} runs of this day are spent; held until the next day (UTC): {causes}",
    "domain_shift": "rows come from a region the model was not trained on: label first; labelled rows of it: {region}",
}
"""Why a run starts or waits; the figures are filled in."""
