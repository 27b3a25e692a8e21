"""The train step: features in, a model version's files out. Same inputs, same bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.errors import UserError
from tidegate.evaluate.metrics import log_loss
from tidegate.train import families, forget
from tidegate.train.boosting import probability
from tidegate.train.estimators import restored
from tidegate.train.fitting import Fit, Job, Rows, fit
from tidegate.train.model_file import Feature, FeatureSchema, canonical_json, check, write_manifest
from tidegate.train.search import Option
from tidegate.train.settings import RunSettings, parse_settings, parse_until
from tidegate.train.splits import Splits, Times, check_no_leak, split
from tidegate.train.typical import typical_of
from tidegate.workload import Workload, load_workload

if TYPE_CHECKING:
    import polars as pl

REFERENCE_ROWS = 32


@dataclass(frozen=True)
class Trained:
    """What the step made: `mode` is stateless or stateful; `reason` says why in words.

    `rows` had matured labels, `train_rows` of them were fitted.
    """

    digest: str
    mode: str
    parent: str | None
    reason: str
    rows: int
    train_rows: int


def train(features: Path, workload: str, until: str, settings: str, champion: Path | None, out: Path) -> Trained:
    """Fit on matured rows older than the gate window and write the model folder `out`.

    `champion` is the folder of the version that `settings.parent` names, or None. Raises UserError on bad settings, a
    leaking row or too few rows, PlatformError when the export differs from the trained model.
    """
    known = load_workload(workload)
    job = _job(features, known, until, parse_settings(settings), champion)
    fitted = fit(job)
    key = known.key if known.key in job.rows.frame.columns else "key"
    check_no_leak(job.rows.frame.filter(fitted.mask), key, job.parts.gate.after)
    check_no_leak(job.rows.frame.filter(fitted.compared), key, job.parts.validation.after)
    return _write(out, job, fitted)


def _job(features: Path, known: Workload, until: str, wanted: RunSettings, champion: Path | None) -> Job:
    parent = wanted.lineage_parent
    if (champion is None) != (parent is None):
        raise UserError("champion", champion and champion.name, "the folder of settings.parent, or none without one")
    schema = schema_of(known)
    parts = parts_of(parse_until(until), wanted)
    rows, ranges = read_rows(features, schema), None
    if not wanted.training.retain:
        ranges = forget.ranges_of(rows.encoded, schema, known.contract() if callable(known.contract) else None)
        rows = replace(rows, encoded=forget.clip(rows.encoded, schema, ranges))
    return Job(rows, parts, wanted, options_of(known, wanted), schema, parent, _text(champion, wanted), ranges)


def parts_of(until: float, wanted: RunSettings) -> Splits:
    """The parts of a run at time `until`; with `recent` the training parts begin that span before training ends."""
    spans = (wanted.label_deadline.total_seconds(), wanted.gate_window.total_seconds())
    parts = split(until, *spans)
    return split(until, *spans, parts.train.until - wanted.recent.total_seconds()) if wanted.recent else parts


def schema_of(known: Workload) -> FeatureSchema:
    """The feature schema of a workload's features."""
    return FeatureSchema(tuple(Feature(f.name, f.kind, f.categories) for f in known.features))


def options_of(known: Workload, wanted: RunSettings) -> tuple[Option, ...]:
    """The families asked for, each as it is fitted from scratch; the workload's hints stand before its own defaults."""
    names = wanted.training.families or known.families or (families.LIGHTGBM.name,)
    return tuple(families.configured(families.family(name), known.params.get(name, {})) for name in names)


def _text(champion: Path | None, wanted: RunSettings) -> str | None:
    if champion is None or wanted.parent is None:
        return None
    check(champion, wanted.parent.digest)
    return (champion / "model.txt").read_text(encoding="utf-8")


def read_rows(features: Path, schema: FeatureSchema) -> Rows:
    """The labelled rows of a features.parquet, encoded."""
    import polars as pl
    import polars.selectors as cs

    clock = cs.ends_with("_timestamp").dt.timestamp("us") / 1e6
    frame = pl.read_parquet(features).filter(pl.col("label").is_not_null()).with_columns(clock)
    labels, times = frame["label"].cast(float).to_numpy(), frame["event_timestamp"].to_numpy()
    return Rows(frame, schema.encode_frame(frame), labels, times, _label_times(frame))


def _label_times(frame: pl.DataFrame) -> Times:
    """Seconds, [N]; NaN where a row does not say when its label came."""
    if "label_timestamp" not in frame.columns:
        return np.full(frame.height, np.nan)
    return np.asarray(frame["label_timestamp"].cast(float).fill_null(float("nan")).to_numpy(), np.float64)


def _write(out: Path, job: Job, fitted: Fit) -> Trained:
    out.mkdir(parents=True, exist_ok=True)
    scores = probability(fitted.model.log_odds(job.rows.encoded))
    exported = fitted.model.onnx()
    worst = fitted.model.check_export(exported, job.rows.encoded, scores)
    (out / "model.onnx").write_bytes(exported)
    text = fitted.model.text if job.ranges is None else forget.with_ranges(fitted.model.text, job.ranges)
    (out / "model.txt").write_text(text, encoding="utf-8")
    (out / "feature_schema.json").write_text(job.schema.dump(), encoding="utf-8")
    (out / "reference.json").write_text(canonical_json(_reference(job, fitted)), encoding="utf-8")
    losses = log_loss(job.rows.labels, scores)[fitted.mask]
    metrics = {"train_log_loss": float(losses.mean()), "export_distance": worst}
    record = {"digest": write_manifest(out), **_record(job, fitted), **_forgotten(job), "metrics": metrics}
    (out / "training.json").write_text(canonical_json(record), encoding="utf-8")
    rows, train_rows = record["rows"], record["train_rows"]
    return Trained(record["digest"], fitted.mode, record["parent"], fitted.reason, rows, train_rows)


def _record(job: Job, fitted: Fit) -> dict[str, Any]:
    seed, family, mask = job.settings.seed, fitted.family, fitted.mask
    minor = fitted.mode == "stateful" and job.parent is not None
    drawn = (fitted.choice and fitted.choice.table) or (job.settings.training.search_trials and fitted.search.trials)
    return {
        "mode": fitted.mode,
        "parent": job.parent.version if minor and job.parent else None,
        "reason": fitted.reason,
        "family": family.name,
        "architecture": {"family": family.name, "structure": dict(family.structure)},
        "architecture_digest": family.architecture_digest,
        "feature_schema_digest": job.schema.digest,
        "train_from": float(job.rows.times[mask].min()),
        "train_until": job.parts.train.until,
        "rows": len(job.rows.labels),
        "train_rows": int(mask.sum()),
        "base_rate": float(job.rows.labels[mask].mean()),
        "late_labels": int((job.parts.train.mask(job.rows.times) & ~job.train).sum()),
        "params": {**families.hints_of(family, fitted.setting), "seed": seed, "trees": fitted.setting.trees},
        "engine": job.settings.training.engine,
        "replay": fitted.setting.replay,
        "seeds": {"train": seed} | ({"search": seed} if drawn else {}),
        "lineage": {"parent": job.settings.parent and job.settings.parent.model_dump(mode="json")},
        "search": asdict(fitted.search),
        "choice": fitted.choice and fitted.choice.plain(),
    }


def _forgotten(job: Job) -> dict[str, Any]:
    """What stays of rows that are not retained, and how the parent did on the new ones before they were learned."""
    if job.ranges is None:
        return {}
    return {"kept": forget.kept(job.rows.encoded, job.rows.labels, job.schema, job.ranges), "tested": _tested(job)}


def _tested(job: Job) -> dict[str, Any] | None:
    """The parent on rows that it has not seen; None without a parent that can answer from its text, or without rows."""
    if job.parent is None or job.parent_text is None:
        return None
    new = job.rows.times > job.parent.train_until
    try:
        scores = probability(restored(job.parent_text, job.schema).log_odds(job.rows.encoded[new]))
    except UserError:
        return None
    if not new.any():
        return None
    return {"rows": int(new.sum()), "log_loss": float(log_loss(job.rows.labels[new], scores).mean())}


def _reference(job: Job, fitted: Fit) -> dict[str, Any]:
    """Training rows as they came, or drawn ones where rows are not retained, with scores; and what was typical."""
    names = job.schema.names
    if job.ranges is None:
        raw = _spread(job, fitted)
    else:
        raw = forget.reference_rows(job.schema, job.ranges, REFERENCE_ROWS - 1, job.settings.seed)
    raw.append(dict.fromkeys(names))
    scores = probability(fitted.model.log_odds(job.schema.encode(raw))).tolist()
    return {"rows": raw, "scores": scores, "typical": typical_of(job.rows.encoded[fitted.mask], job.schema)}


def _spread(job: Job, fitted: Fit) -> list[dict[str, Any]]:
    """Evenly spaced training rows."""
    import polars.selectors as cs

    names, positions = job.schema.names, np.flatnonzero(fitted.mask)
    chosen = positions[np.linspace(0, len(positions) - 1, REFERENCE_ROWS - 1).astype(int)]
    rows: list[dict[str, Any]] = job.rows.frame.select(names)[chosen].with_columns(cs.float().fill_nan(None)).to_dicts()
    return rows
