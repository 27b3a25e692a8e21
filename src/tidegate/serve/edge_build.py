"""``tidegate serve edge build``: the champion, its head of the traffic and a runtime, in one signed folder."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.errors import UserError
from tidegate.evaluate.metrics import brier, log_loss
from tidegate.journal.fold import ModelState, Served, fold
from tidegate.journal.store import open_journal
from tidegate.observations import Label, Prediction, SegmentReader
from tidegate.register.models import public_key, trusted
from tidegate.serve.edge.answers import TABLE
from tidegate.serve.edge.bundle import FILES, Fields, File, Manifest
from tidegate.serve.edge_folder import next_sequence, write_folder
from tidegate.serve.edge_head import Head, head_of, own
from tidegate.serve.loaded import LoadedModel, load_checked
from tidegate.spec import EdgeSpec, Model
from tidegate.train.model_file import canonical_json, folder_name, sha256_file, sha256_text, verify

MOST_COMPARED = 20_000
"""Newest logged rows on which a reduced model is compared with the whole one."""


@dataclass(frozen=True)
class Built:
    """What was made: bytes of the bundle's files; `head` and `quality` as in the manifest."""

    folder: str
    model: str
    digest: str
    bundle: int
    head: dict[str, Any]
    bytes: int
    trees: int | None
    quality: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """For people."""
        share = "" if self.head["share"] is None else f", {self.head['share']:.1%} of the logged requests"
        lines = [f"{self.folder}: {self.model}, bundle {self.bundle}, {self.bytes / 2**20:.2f} MiB",
                 f"  head     {self.head['answers']} precomputed answers{share}"]  # fmt: skip
        return "\n".join([*lines, *([f"  reduced  {self.trees} trees; {_told(self.quality)}"] if self.quality else [])])


def _told(quality: dict[str, Any]) -> str:
    moved = f"scores move by {quality['mean_change']:.4f} on average, {quality['largest_change']:.4f} at most"
    if "log_loss" not in quality:
        return f"{moved} ({quality['rows']} {quality['of']} rows)"
    whole, reduced = quality["log_loss"]
    return f"log loss {reduced:.5f}, whole {whole:.5f} ({quality['labelled']} labelled rows); {moved}"


def build(model: Model, state: Path, out: Path, trees: int | None = None) -> Built:
    """Write the edge folder `out`, or a next bundle into it; UserError where there is nothing to write it from."""
    settings, (known, champion) = model.spec.edge or EdgeSpec(), _champion(model, state)
    keys = _keys(model, state)
    source = state / "models" / folder_name(champion.digest)
    verify(source, champion.digest, [bytes.fromhex(key) for key in keys])
    whole = load_checked(source, champion.digest)
    rows = _rows(known, state, whole) if model.spec.training.retain else []
    with tempfile.TemporaryDirectory(prefix="tidegate-edge-") as made:
        files = Path(made)
        digest = _model(source, files, whole, trees)
        served = load_checked(files, digest)
        fields = _fields(model, whole, rows)
        head = head_of(rows, whole.schema, fields, settings.head)
        _write_head(files / "head.db", head, served)
        manifest = Manifest(
            model=model.name, version=champion.version, digest=digest, source=champion.digest,
            sequence=next_sequence(state, out), created=time.time(), keys=keys,
            max_age=settings.max_age.total_seconds(),
            files={name: File(sha256_file(files / name), (files / name).stat().st_size) for name in FILES},
            fields=fields, retain=model.spec.training.retain, trees=trees,
            quality=_quality(whole, served, rows, source, state) if trees else None,
            head={"answers": len(head.wanted), "share": head.share, "until": head.until},
        )  # fmt: skip
        write_folder(out, manifest, files, state)
    size = sum(one.bytes for one in manifest.files.values())
    label = f"{manifest.model}@{manifest.version}"
    quality = dict(manifest.quality) if manifest.quality else None
    return Built(str(out), label, digest, manifest.sequence, dict(manifest.head), size, trees, quality)


def _champion(model: Model, state: Path) -> tuple[ModelState, Served]:
    known = fold(open_journal(state).read(model.name))
    if known.champion is None:
        raise UserError(f"--state {state}", f"no champion of {model.name}", "a state folder in which a version serves")
    return known, known.champion


def _keys(model: Model, state: Path) -> tuple[str, ...]:
    """The trust list in force; the key that signs here must be on it."""
    keys = tuple(trusted(model.spec.trust, state))
    mine = public_key(state).hex()
    if mine not in keys:
        raise UserError("spec.trust.keys", list(keys), f"the key that signs in this state folder, {mine}, among them")
    return keys


def _rows(known: ModelState, state: Path, whole: LoadedModel) -> list[Prediction]:
    """What was answered by any version with the champion's features."""
    mine = whole.schema.digest
    alike = {d["version"] for d in known.versions.values() if d["feature_schema_digest"] == mine}
    logged = SegmentReader(state / "observations/predictions").read()
    return own((row for row in logged if isinstance(row, Prediction)), alike, len(whole.schema.names))


def _fields(model: Model, whole: LoadedModel, rows: Sequence[Prediction]) -> Fields | None:
    """What an entity is asked by, where anybody asked by key; only then is the workload imported."""
    if not any(row.keys is not None for row in rows):
        return None
    from tidegate.serve.by_key import fields_of
    from tidegate.workload import load_workload

    found = fields_of(load_workload(model.spec.workload), whole.schema.names)
    return Fields(found.keys, found.inputs)


def _model(source: Path, files: Path, whole: LoadedModel, trees: int | None) -> str:
    """Put the model's files into `files`; returns the digest of what will answer."""
    if trees is None:
        for name in ("feature_schema.json", "model.onnx", "reference.json"):
            shutil.copyfile(source / name, files / name)
        return whole.digest
    from tidegate.train.boosting import probability
    from tidegate.train.estimators import restored

    cut = restored((source / "model.txt").read_text(encoding="utf-8"), whole.schema).shortened(trees)
    rows = json.loads((source / "reference.json").read_text(encoding="utf-8"))["rows"]
    encoded = whole.schema.encode(rows)
    scores, exported = probability(cut.log_odds(encoded)), cut.onnx()
    cut.check_export(exported, encoded, scores)
    (files / "model.onnx").write_bytes(exported)
    (files / "reference.json").write_text(canonical_json({"rows": rows, "scores": scores.tolist()}), encoding="utf-8")
    (files / "feature_schema.json").write_text(whole.schema.dump(), encoding="utf-8")
    return sha256_text(canonical_json({path.name: sha256_file(path) for path in files.iterdir()}))


def _write_head(path: Path, head: Head, served: LoadedModel) -> None:
    names = served.schema.names
    rows = [dict(zip(names, one.features, strict=True)) for one in head.wanted]
    scores = served.score(served.schema.encode(rows)) if rows else []
    told = zip(head.wanted, scores, strict=True)
    database = sqlite3.connect(path)
    with database:
        database.execute(f"CREATE TABLE {TABLE}")
        database.executemany(
            "INSERT INTO answers VALUES (?, ?, ?, ?)",
            [(one.asked, score, one.fallback, json.dumps(one.features)) for one, score in told],
        )
    database.close()


def _quality(
    whole: LoadedModel, served: LoadedModel, rows: Sequence[Prediction], source: Path, state: Path
) -> dict[str, Any]:
    """What the reduced model costs on the newest logged rows, else on the reference rows."""
    names, newest = whole.schema.names, rows[-MOST_COMPARED:]
    raw = [dict(zip(names, row.features, strict=True)) for row in newest]
    raw = raw or json.loads((source / "reference.json").read_text(encoding="utf-8"))["rows"]
    encoded = whole.schema.encode(raw)
    before, after = np.array(whole.score(encoded)), np.array(served.score(encoded))
    moved = np.abs(after - before)
    told: dict[str, Any] = {
        "of": "logged" if newest else "reference", "rows": len(raw),
        "mean_change": float(moved.mean()), "largest_change": float(moved.max()),
    }  # fmt: skip
    labels = _labels(state) if newest else {}
    truth = np.array([labels.get(row.request_id, np.nan) for row in newest], np.float64)
    known = ~np.isnan(truth)
    if known.any():
        for name, of in (("log_loss", log_loss), ("brier", brier)):
            told[name] = [float(of(truth[known], scores[known]).mean()) for scores in (before, after)]
        told["labelled"] = int(known.sum())
    return told


def _labels(state: Path) -> dict[str, float]:
    found = SegmentReader(state / "observations/labels").read()
    return {
        row.request_id: row.value
        for row in found
        if isinstance(row, Label) and row.metric is None and row.value is not None and row.outcome == "observed"
    }
