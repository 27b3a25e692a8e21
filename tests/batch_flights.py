"""A state folder whose champion scores flights by real trees, and Parquet partitions of drawn flights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flights.workload import flight_delay
from tests.simulated_loop import START, candidate, quick
from tidegate.journal.events import Draft
from tidegate.journal.store import open_journal
from tidegate.register.models import sign
from tidegate.serve.batch import Batch, Job
from tidegate.train.export import to_onnx
from tidegate.train.model_file import Feature, FeatureSchema, folder_name, write_manifest

FLIGHTS = "flights.workload:flight_delay"
SCHEMA = FeatureSchema(tuple(Feature(one.name, one.kind, one.categories) for one in flight_delay.features))


def drawn(rows: int, seed: int = 0, nulls: float = 0.1) -> pl.DataFrame:
    """Flights with a name each; some values are null, some categories unknown."""
    draw = np.random.default_rng(seed)
    columns: dict[str, Any] = {"flight_id": [f"F-{seed}-{number}" for number in range(rows)]}
    for feature in SCHEMA.features:
        gone = draw.random(rows) < nulls
        if feature.kind == "category":
            values = draw.choice(np.array([*(feature.categories or ()), "??"]), rows)
            columns[feature.name] = pl.Series(
                [None if g else str(v) for g, v in zip(gone, values, strict=True)], dtype=pl.String
            )
        else:
            values = pl.Series(draw.normal(0, 40, rows), dtype=pl.Float32)
            columns[feature.name] = values.set(pl.Series(gone), None)
    return pl.DataFrame(columns)


def write_partitions(folder: Path, sizes: list[int]) -> pl.DataFrame:
    """A file of each size; returns all rows in order."""
    folder.mkdir(parents=True)
    parts = [drawn(size, seed) for seed, size in enumerate(sizes)]
    for number, part in enumerate(parts):
        part.write_parquet(folder / f"part-{number:03d}.parquet")
    return pl.concat(parts)


def write_trees(state: Path, trees: int = 40) -> str:
    """A version of LightGBM's trees over the flights' features, stored and signed; returns its digest."""
    import lightgbm

    rows = SCHEMA.encode_frame(drawn(3000, 99))
    truth = (np.nan_to_num(rows).sum(axis=1) > 0).astype(float)
    params = {"objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1, "seed": 1}
    text = lightgbm.train(params, lightgbm.Dataset(rows, truth), trees).model_to_string()
    folder = state / "models" / "new"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(to_onnx(text, len(SCHEMA.features)))
    (folder / "model.txt").write_text(text)
    (folder / "feature_schema.json").write_text(SCHEMA.dump())
    (folder / "reference.json").write_text(json.dumps({"rows": [], "scores": []}))
    digest = write_manifest(folder)
    (folder / "signature").write_text(sign(digest, state))
    folder.rename(state / "models" / folder_name(digest))
    return digest


def crown(state: Path, digest: str, model: str = "quick") -> None:
    """Let the journal say that the version is v1, and serves."""
    journal = open_journal(state, create=True)
    spec = {"spec": quick().spec.model_dump(mode="json", by_alias=True)}
    registered = {**candidate("v1"), "digest": digest}
    first = {"version": "v1", "digest": digest, "reason": "first_version"}
    events = {"serve.model": spec, "register.candidate": registered, "release.first": first}
    journal.append(model, [Draft(kind, START, data) for kind, data in events.items()], 0)
    journal.close()


def job_to(state: Path, digest: str, input_: Path, output: str, at: float = START) -> Job:
    return Job("quick", "v1", digest, FLIGHTS, str(state), str(input_), output, at)


def work(job: Job) -> None:
    """Run a job; for a process that is killed."""
    Batch(job).run()
