"""The evaluate step: candidate and champion, as they would be served, on the same newest matured rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import UserError
from tidegate.evaluate.gate import Policy, gate
from tidegate.evaluate.metrics import Floats, brier, log_loss, roc_auc
from tidegate.train.export import score
from tidegate.train.model_file import FeatureSchema, canonical_json, check
from tidegate.train.settings import RunSettings, parse_settings, parse_until
from tidegate.train.splits import split
from tidegate.workload import load_workload

if TYPE_CHECKING:
    import polars as pl

DAY = 86_400.0


@dataclass(frozen=True)
class Evaluated:
    """The model gate's answer: verdict is passed or refused."""

    verdict: str
    reason: str


def evaluate(
    model: Path, features: Path, workload: str, until: str, settings: str, champion: Path | None, out: Path
) -> Evaluated:
    """Measure `model` beside `champion` (a model folder, or None) on the gate window and write gate.json to `out`.

    Raises PlatformError when the files are not the ones of their digest, UserError on bad settings.
    """
    wanted = parse_settings(settings)
    training = json.loads((model / "training.json").read_text(encoding="utf-8"))
    check(model, training["digest"])
    if champion is not None and wanted.parent is not None:
        check(champion, wanted.parent.digest)
    rows = _gate_rows(features, until, wanted)
    slices = _slice_columns(load_workload(workload).slices, wanted, rows)
    measurements = _measure(model, champion, rows, training["base_rate"], wanted.gate.metric, slices)
    policy = Policy(wanted.gate.metric, wanted.gate.margin)
    answer = gate(policy, measurements)
    record = {**asdict(answer), "policy": asdict(policy), "measurements": measurements}
    out.write_text(canonical_json(record), encoding="utf-8")
    return Evaluated(answer.verdict, answer.reason)


def _gate_rows(features: Path, until: str, wanted: RunSettings) -> pl.DataFrame:
    import polars as pl

    window = split(parse_until(until), wanted.label_deadline.total_seconds(), wanted.gate_window.total_seconds()).gate
    time = pl.col("event_timestamp").dt.timestamp("us") / 1e6
    inside = (time > window.after) & (time <= window.until) & pl.col("label").is_not_null()
    return pl.read_parquet(features).filter(inside).with_columns(day=(time / DAY).floor().cast(pl.Int64))


def _slice_columns(known: Mapping[str, str], wanted: RunSettings, rows: pl.DataFrame) -> dict[str, str]:
    columns = {name: known.get(name, name) for name in wanted.gate.slices}
    for name, column in columns.items():
        if column not in rows.columns:
            raise UserError("gate.slices", name, f"one of the workload's slices: {', '.join(sorted(known))}")
    return columns


def _measure(
    model: Path, champion: Path | None, rows: pl.DataFrame, base_rate: float, metric: str, slices: Mapping[str, str]
) -> dict[str, Any]:
    labels = rows["label"].cast(float).to_numpy()
    candidate = _scores(model, rows)
    other = np.full(len(labels), base_rate) if champion is None else _scores(champion, rows)
    days = rows["day"].to_numpy()
    return {
        "compared_with": "base_rate" if champion is None else "champion",
        "reference_distance": _reference_distance(model),
        "candidate": _values(labels, candidate),
        "champion": _values(labels, other),
        "first_day": int(days.min()) if len(days) else None,
        "rows": len(labels),
        "days": _by_day(metric, days, labels, candidate, other),
        "slices": {
            name: _by_value(rows[column].cast(str).fill_null("null").to_numpy(), metric, days, labels, candidate, other)
            for name, column in slices.items()
        },
    }


def _scores(folder: Path, rows: pl.DataFrame) -> Floats:
    encoded = FeatureSchema.load(folder).encode_frame(rows)
    return score((folder / "model.onnx").read_bytes(), encoded)


def _reference_distance(folder: Path) -> float:
    reference = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    encoded = FeatureSchema.load(folder).encode(reference["rows"])
    answered = score((folder / "model.onnx").read_bytes(), encoded)
    return float(np.abs(answered - np.asarray(reference["scores"])).max())


def _by_value(
    values: NDArray[Any], metric: str, days: NDArray[np.int64], labels: Floats, candidate: Floats, other: Floats
) -> dict[str, Any]:
    masks = {str(value): values == value for value in np.unique(values)}
    return {v: _by_day(metric, days[m], labels[m], candidate[m], other[m]) for v, m in masks.items()}


def _by_day(
    metric: str, days: NDArray[np.int64], labels: Floats, candidate: Floats, other: Floats
) -> dict[str, list[Any]]:
    """Rows and summed difference of each day that has rows; for roc_auc a day counts with its loss 1 - AUC."""
    if metric == "roc_auc":
        return _auc_by_day(days, labels, candidate, other)
    losses = log_loss if metric == "log_loss" else brier
    _, index = np.unique(days, return_inverse=True)
    sums = np.bincount(index, losses(labels, candidate) - losses(labels, other))
    return {"rows": np.bincount(index).tolist(), "sums": sums.tolist()}


def _auc_by_day(days: NDArray[np.int64], labels: Floats, candidate: Floats, other: Floats) -> dict[str, list[Any]]:
    rows, sums = [], []
    for day in np.unique(days):
        today = days == day
        if 0 < labels[today].mean() < 1:
            rows.append(int(today.sum()))
            sums.append(rows[-1] * (roc_auc(labels[today], other[today]) - roc_auc(labels[today], candidate[today])))
    return {"rows": rows, "sums": sums}


def _values(labels: Floats, scores: Floats) -> dict[str, float | None]:
    if not len(labels):
        return {"log_loss": None, "brier": None, "roc_auc": None}
    auc = roc_auc(labels, scores) if 0 < labels.mean() < 1 else None
    return {
        "log_loss": float(log_loss(labels, scores).mean()),
        "brier": float(brier(labels, scores).mean()),
        "roc_auc": auc,
    }
