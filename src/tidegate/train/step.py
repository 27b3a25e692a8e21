"""The train step: features in, a model version's files out. Same inputs, same bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.errors import UserError
from tidegate.evaluate.metrics import log_loss
from tidegate.train import export, families
from tidegate.train.families import Family, Setting
from tidegate.train.fitting import Fit, Job, Rows, fit
from tidegate.train.model_file import Feature, FeatureSchema, canonical_json, check, write_manifest
from tidegate.train.settings import RunSettings, parse_settings, parse_until
from tidegate.train.splits import check_no_leak, split
from tidegate.workload import Workload, load_workload

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
    return _write(out, job, fitted)


def _job(features: Path, known: Workload, until: str, wanted: RunSettings, champion: Path | None) -> Job:
    parent = wanted.lineage_parent
    if (champion is None) != (parent is None):
        raise UserError("champion", champion and champion.name, "the folder of settings.parent, or none without one")
    schema = FeatureSchema(tuple(Feature(f.name, f.kind, f.categories) for f in known.features))
    parts = split(parse_until(until), wanted.label_deadline.total_seconds(), wanted.gate_window.total_seconds())
    family, from_scratch = _choose(known, wanted)
    return Job(_read(features, schema), parts, wanted, family, from_scratch, schema, parent, _text(champion, wanted))


def _choose(known: Workload, wanted: RunSettings) -> tuple[Family, Setting]:
    """The family, and how it is fitted from scratch; the workload's hints stand before the family's own defaults."""
    name = (wanted.training.families or known.families or (families.LIGHTGBM.name,))[0]
    found, hints = families.family(name), dict(known.params.get(name, {}))
    setting = Setting(
        int(hints.pop("num_boost_round", families.STATELESS.trees)),
        float(hints.pop("learning_rate", families.STATELESS.learning_rate)),
    )
    structure = {key: hints.pop(key, value) for key, value in found.structure.items()}
    return replace(found, structure=structure, fitting={**found.fitting, **hints}), setting


def _text(champion: Path | None, wanted: RunSettings) -> str | None:
    if champion is None or wanted.parent is None:
        return None
    check(champion, wanted.parent.digest)
    return (champion / "model.txt").read_text(encoding="utf-8")


def _read(features: Path, schema: FeatureSchema) -> Rows:
    import polars as pl
    import polars.selectors as cs

    clock = cs.ends_with("_timestamp").dt.timestamp("us") / 1e6
    frame = pl.read_parquet(features).filter(pl.col("label").is_not_null()).with_columns(clock)
    labels, times = frame["label"].cast(float).to_numpy(), frame["event_timestamp"].to_numpy()
    return Rows(frame, schema.encode_frame(frame), labels, times)


def _write(out: Path, job: Job, fitted: Fit) -> Trained:
    out.mkdir(parents=True, exist_ok=True)
    scores = families.predict(fitted.text, job.rows.encoded)
    exported = export.to_onnx(fitted.text, len(job.schema.features))
    worst = export.check_export(exported, job.rows.encoded, scores)
    (out / "model.onnx").write_bytes(exported)
    (out / "model.txt").write_text(fitted.text, encoding="utf-8")
    (out / "feature_schema.json").write_text(job.schema.dump(), encoding="utf-8")
    (out / "reference.json").write_text(canonical_json(_reference(job, fitted)), encoding="utf-8")
    losses = log_loss(job.rows.labels, scores)[fitted.mask]
    metrics = {"train_log_loss": float(losses.mean()), "export_distance": worst}
    record = {"digest": write_manifest(out), **_record(job, fitted), "metrics": metrics}
    (out / "training.json").write_text(canonical_json(record), encoding="utf-8")
    rows, train_rows = record["rows"], record["train_rows"]
    return Trained(record["digest"], fitted.mode, record["parent"], fitted.reason, rows, train_rows)


def _record(job: Job, fitted: Fit) -> dict[str, Any]:
    seed, family, mask = job.settings.seed, job.family, fitted.mask
    minor = fitted.mode == "stateful" and job.parent is not None
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
        "params": {**families.parameters(family, fitted.setting, seed), "trees": fitted.setting.trees},
        "replay": fitted.setting.replay,
        "seeds": {"train": seed},
        "lineage": {"parent": job.settings.parent and job.settings.parent.model_dump(mode="json")},
        "search": asdict(fitted.search),
    }


def _reference(job: Job, fitted: Fit) -> dict[str, Any]:
    """Evenly spaced training rows as they came, and one of nulls only, with the trained model's scores."""
    import polars.selectors as cs

    names, positions = job.schema.names, np.flatnonzero(fitted.mask)
    chosen = positions[np.linspace(0, len(positions) - 1, REFERENCE_ROWS - 1).astype(int)]
    raw = job.rows.frame.select(names)[chosen].with_columns(cs.float().fill_nan(None)).to_dicts()
    raw.append(dict.fromkeys(names))
    return {"rows": raw, "scores": families.predict(fitted.text, job.schema.encode(raw)).tolist()}
