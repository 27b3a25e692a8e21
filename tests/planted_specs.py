"""Faults planted in a Model file, each a path under `spec` and a value, with the field that must be named."""

from __future__ import annotations

import copy
from typing import Any

DELETED = object()
STAGES = "release.stages"
FAULTS: dict[str, tuple[str, Any, str]] = {
    # name: path, value there, field in the answer
    "unknown_field": ("gate.fairnes", {"protected": "carrier"}, "fairnes"),
    "unknown_block": ("retries", 3, "retries"),
    "unknown_deep": (STAGES, [{"shadow": {"request": 5000}}], "request"),
    "snake_case": ("release.min_duration", "7d", "min_duration"),
    "missing_workload": ("workload", DELETED, "workload"),
    "missing_stages": ("release.stages", DELETED, "stages"),
    "missing_in_trigger": ("triggers.performance", {"metric": "roc_auc", "below": 0.7}, "window"),
    "workload_without_object": ("workload", "flights.workload", "workload"),
    "span_without_unit": ("release.minDuration", "7", "minDuration"),
    "span_as_number": ("release.minDuration", 7, "minDuration"),
    "share_without_percent": ("triggers.volume.increase", "0.05", "increase"),
    "share_as_number": ("triggers.volume.increase", 0.05, "increase"),
    "weight_as_number": (STAGES, [{"canary": {"weights": ["1%", 0.05]}}], "weights"),
    "quoted_number": ("training.searchTrials", "5", "searchTrials"),
    "negative_trials": ("training.searchTrials", -1, "searchTrials"),
    "replay_above_one": ("training.replay", 1.5, "replay"),
    "bool_as_text": ("training.retain", "yes", "retain"),
    "unknown_metric": ("gate.metric", "auc", "metric"),
    "unknown_orchestrator": ("pipeline.orchestrator", "airflow", "orchestrator"),
    "alpha_at_its_limit": ("release.judge.alpha", 0.5, "alpha"),
    "margin_at_its_limit": ("release.judge.loss.margin", 0, "margin"),
    "no_stage": (STAGES, [], "stages"),
    "no_weight": (STAGES, [{"canary": {"weights": []}}], "weights"),
    "empty_stage": (STAGES, [{}], "stages[0]"),
    "two_kinds_in_a_stage": (STAGES, [{"shadow": {}, "canary": {"weights": ["5%"]}}], "stages[0]"),
    "seventeen_stages": (STAGES, [{"shadow": {}}] * 17, "stages"),
    "objective_twice": ("gate.objectives", [{"metric": "size", "margin": 1}, {"metric": "size", "margin": 2}], "gate"),
    "costs_missing": ("gate.objectives", [{"metric": "decision_cost", "margin": 1}], "objectives[0]"),
    "costs_of_another": ("gate.objectives", [{"metric": "size", "margin": 1, "falsePositive": 2}], "objectives[0]"),
    "three_keys": ("trust", {"keys": ["a", "b", "c"]}, "keys"),
    "null_for_a_default": ("release.watch", None, "watch"),
    "no_replica": ("serving.replicas.min", 0, "min"),
}


def planted(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a Model file with `value` at `path` under its spec; parts on the way are made."""
    document = copy.deepcopy(document)
    *before, last = path.split(".")
    node = document["spec"]
    for name in before:
        node = node.setdefault(name, {})
    node.pop(last, None) if value is DELETED else node.update({last: value})
    return document
