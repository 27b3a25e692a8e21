"""The evaluate step: candidate and champion, as they would be served, on the same newest matured rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import UserError
from tidegate.evaluate import forgetting
from tidegate.evaluate.curves import curves
from tidegate.evaluate.days import LEAST_DAYS
from tidegate.evaluate.expense import expense
from tidegate.evaluate.gate import Policy, gate
from tidegate.evaluate.infrastructure import Questions, reference, sampled, served
from tidegate.evaluate.measure import Compared, measure
from tidegate.evaluate.metrics import Floats, brier, log_loss
from tidegate.spec import GateSpec
from tidegate.train.export import score
from tidegate.train.forget import LEAST
from tidegate.train.model_file import FeatureSchema, canonical_json, check
from tidegate.train.settings import RunSettings, parse_settings, parse_until
from tidegate.train.splits import split
from tidegate.workload import load_workload

if TYPE_CHECKING:
    import polars as pl

DAY = 86_400.0


@dataclass(frozen=True)
class Evaluated:
    """The model gate's answer: verdict is passed or refused. `service_seconds`: what asking the real service took."""

    verdict: str
    reason: str
    service_seconds: float


@dataclass(frozen=True)
class _Pair:
    """The two model folders; `champion` is None for a first version."""

    candidate: Path
    champion: Path | None
    base_rate: float


def evaluate(
    model: Path, features: Path, workload: str, until: str, settings: str, champion: Path | None, out: Path
) -> Evaluated:
    """Measure `model` beside `champion` (a model folder, or None) on the gate window and write gate.json to `out`.

    The service starts first and is ready when the rows are scored; it is gone before a latency is measured.

    Raises PlatformError when the files are not the ones of their digest, UserError on bad settings.
    """
    wanted = parse_settings(settings)
    training = json.loads((model / "training.json").read_text(encoding="utf-8"))
    check(model, training["digest"])
    if champion is not None and wanted.parent is not None:
        check(champion, wanted.parent.digest)
    pair = _Pair(model, champion, training["base_rate"])
    with served(model, training["digest"], wanted.training.retain) as service:
        rows, past = _rows(features, until, wanted)
        columns = _slice_columns(load_workload(workload).slices, wanted.gate, rows)
        compared = replace(_compared(pair, rows, columns), least=_least(wanted))
        infrastructure = service.answers(_questions(model, rows, compared.candidate))
    exported = {"reference_distance": _reference_distance(model), "infrastructure": infrastructure}
    measurements = {**exported, **measure(compared, wanted.gate)}
    if wanted.gate.forgetting is not None and wanted.parent is not None and champion is not None:
        measurements["forgetting"] = _past(pair, past, columns, wanted, wanted.parent.train_until)
    if champion is not None and wanted.gate.objectives:
        before = wanted.parent.train_cpu_seconds if wanted.parent else None
        measurements["objectives"] |= expense(model, champion, rows, wanted.gate.objectives, before)
    policy = policy_of(wanted.gate)
    answer = gate(policy, measurements)
    record = {**asdict(answer), "policy": asdict(policy), "measurements": measurements}
    record["curves"] = curves(compared, model, rows)
    out.write_text(canonical_json(record), encoding="utf-8")
    return Evaluated(answer.verdict, answer.reason, service.spent)


def policy_of(spec: GateSpec) -> Policy:
    """The Model file's gate as the pure gate takes it."""
    return Policy(
        spec.metric,
        spec.margin,
        spec.fairness.max_gap if spec.fairness else None,
        spec.forgetting.max_loss if spec.forgetting else None,
        {one.metric: one.margin for one in spec.objectives},
    )


def cluster_of(window: float) -> float:
    """Seconds that count as one in a gate window of `window` seconds: a day, or where it has too few, a tenth of it."""
    return DAY if window >= LEAST_DAYS * DAY else window / 10


def _rows(features: Path, until: str, wanted: RunSettings) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The gate window's labelled rows, and all labelled rows before it, in order of time."""
    import polars as pl

    window = split(parse_until(until), wanted.label_deadline.total_seconds(), wanted.gate_window.total_seconds()).gate
    time = pl.col("event_timestamp").dt.timestamp("us") / 1e6
    labelled = pl.read_parquet(features).filter(pl.col("label").is_not_null()).with_columns(time=time)
    day = (pl.col("time") / cluster_of(wanted.gate_window.total_seconds())).floor().cast(pl.Int64)
    inside = (pl.col("time") > window.after) & (pl.col("time") <= window.until)
    past = labelled.filter(pl.col("time") <= window.after).sort("time", maintain_order=True)
    return labelled.filter(inside).with_columns(day=day), past


def _least(wanted: RunSettings) -> int:
    """Rows that every number of gate.json must stand for."""
    return 1 if wanted.training.retain else LEAST


def _slice_columns(known: Mapping[str, str], wanted: GateSpec, rows: pl.DataFrame) -> dict[str, str]:
    asked = {name: "gate.slices" for name in wanted.slices}
    if wanted.fairness is not None:
        asked.setdefault(wanted.fairness.protected, "gate.fairness.protected")
    columns = {name: known.get(name, name) for name in asked}
    for name, column in columns.items():
        if column not in rows.columns:
            raise UserError(asked[name], name, f"one of the workload's slices: {', '.join(sorted(known))}")
    return columns


def _texts(rows: pl.DataFrame, columns: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    return {name: rows[column].cast(str).fill_null("null").to_numpy() for name, column in columns.items()}


def _compared(pair: _Pair, rows: pl.DataFrame, columns: Mapping[str, str]) -> Compared:
    constant = np.full(rows.height, pair.base_rate)
    return Compared(
        days=rows["day"].to_numpy(),
        labels=rows["label"].cast(float).to_numpy(),
        candidate=_scores(pair.candidate, rows),
        champion=constant if pair.champion is None else _scores(pair.champion, rows),
        base_rate=pair.base_rate,
        first=pair.champion is None,
        columns=_texts(rows, columns),
    )


def _past(
    pair: _Pair, past: pl.DataFrame, columns: Mapping[str, str], wanted: RunSettings, until: float
) -> dict[str, Any]:
    """Both models on the frozen slices of what the champion had learned from."""
    times = past["time"].to_numpy()
    sliced = _texts(past, {name: columns[name] for name in wanted.gate.slices})
    slices = forgetting.frozen(times, sliced, until, _least(wanted))
    if not slices or pair.champion is None:
        return {}
    asked = np.unique(np.concatenate(list(slices.values())))
    rows = past[asked]
    loss, labels = brier if wanted.gate.metric == "brier" else log_loss, rows["label"].cast(float).to_numpy()
    losses = np.full(len(times), np.nan)
    losses[asked] = loss(labels, _scores(pair.candidate, rows)) - loss(labels, _scores(pair.champion, rows))
    return forgetting.measure(slices, times, losses)


def _questions(model: Path, rows: pl.DataFrame, scores: Floats) -> dict[str, Questions]:
    """What the service is asked: reference rows as the trained model scored them, rows of the gate window as we did."""
    return {"reference": reference(model), "window": sampled(rows, FeatureSchema.load(model), scores)}


def _scores(folder: Path, rows: pl.DataFrame) -> Floats:
    encoded = FeatureSchema.load(folder).encode_frame(rows)
    return score((folder / "model.onnx").read_bytes(), encoded)


def _reference_distance(folder: Path) -> float:
    reference = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    encoded = FeatureSchema.load(folder).encode(reference["rows"])
    answered = score((folder / "model.onnx").read_bytes(), encoded)
    return float(np.abs(answered - np.asarray(reference["scores"])).max())
