"""An edge without network: start, memory, time of an answer, and how much of Zipf traffic its head answers.

The model is v1 of the flights. Made up: who asks what. 20,000 distinct rows of real flights are asked by Zipf's law
(exponent 1.1); the head comes from a log of 100,000 such requests, and 20,000 others are asked of the edge, in a
network namespace of its own. The journal's event that makes v1 champion is written by hand.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import core
from benchmarks.results import ROOT, Budget, Result, say
from demo.story import command
from tidegate.journal.events import Draft
from tidegate.journal.fold import fold
from tidegate.journal.store import open_journal
from tidegate.observations import Prediction, SegmentWriter
from tidegate.serve.edge_build import Built, build
from tidegate.spec import load_model
from tidegate.train.model_file import FeatureSchema, folder_name

UNTIL = "2013-07-01T04:00Z"
DISTINCT, EXPONENT, LOGGED, ASKED, STARTS, FEW_TREES = 20_000, 1.1, 100_000, 20_000, 7, 40
Row = dict[str, Any]


def run() -> Result:
    """Build from a log of the law's traffic, then ask the edge alone."""
    with tempfile.TemporaryDirectory(prefix="tidegate-edge-") as made:
        state, out = Path(made) / "state", Path(made) / "edge"
        rows, draw = prepare(state), np.random.default_rng(11)
        law = 1.0 / np.arange(1, DISTINCT + 1) ** EXPONENT
        law /= law.sum()
        log(state, rows, draw.choice(DISTINCT, LOGGED, p=law).tolist())
        model = load_model(core.MODEL)
        built, reduced = build(model, state, out), build(model, state, Path(made) / "reduced", FEW_TREES)
        bodies = Path(made) / "bodies"
        asked = draw.choice(DISTINCT, ASKED, p=law).tolist()
        bodies.write_text("\n".join(json.dumps({"rows": [rows[rank]]}) for rank in asked))
        say(f"edge: {STARTS} starts, then {ASKED:,} requests without network")
        words = (sys.executable, "-m", "benchmarks.edge_side", str(out), str(bodies), str(STARTS))
        unshared = ("unshare", "--map-root-user", "--net", *words)
        done = subprocess.run(unshared, cwd=ROOT, check=True, capture_output=True, text=True)
    return told(built, reduced, json.loads(done.stdout), float(law[: built.head["answers"]].sum()))


def prepare(state: Path) -> list[Row]:
    """Train v1, make it champion, and give distinct rows of its training data."""
    import polars as pl

    say("edge: v1 is trained (not counted)")
    command("run", str(core.MODEL), "--until", UNTIL, "--state", str(state))
    journal, name = open_journal(state), load_model(core.MODEL).name
    known = fold(journal.read(name))
    candidate = next(iter(known.versions.values()))
    data = {"version": candidate["version"], "digest": candidate["digest"], "reason": "first_version"}
    journal.append(name, [Draft("release.first", known.time, data)], known.seq)
    names = FeatureSchema.load(state / "models" / folder_name(candidate["digest"])).names
    frame = pl.read_parquet(next(state.glob("cache/features/*/features"))).select(names).unique(maintain_order=True)
    rows: list[Row] = frame.sample(DISTINCT, seed=1, shuffle=True).to_dicts()
    return rows


def log(state: Path, rows: list[Row], ranks: list[int]) -> None:
    """The prediction log of these requests; their scores are not read."""
    writer = SegmentWriter(state / "observations/predictions", "v1-bench", background=False)
    for number, rank in enumerate(ranks):
        at, features = float(number), list(rows[rank].values())
        writer.append(Prediction(f"{number}/0", at, at, "v1", "", None, None, None, 0.5, False, 1.0, features))
    writer.close()


def told(built: Built, reduced: Built, found: dict[str, Any], predicted: float) -> Result:
    """The table."""
    assert found["network"] == "ENETUNREACH", found["network"]
    answered = found["status"]["rows"]
    rate = answered["precomputed"] / (answered["precomputed"] + answered["computed"])
    spent, quality = np.array(found["spent"]), reduced.quality or {}
    before, after = (f"{kib / 1024:.0f} MiB" for kib in found["memory"])
    moved = f"{quality['mean_change']:.4f} mean, {quality['largest_change']:.4f} largest"
    rows = [
        ("start until ready, median", f"{statistics.median(found['start']):.2f} s"),
        ("the first start, which installs the bundle", f"{statistics.median(found['first_start']):.2f} s"),
        ("resident memory, ready / after all requests", f"{before} / {after}"),
        ("files of the bundle", f"{built.bytes / 2**20:.2f} MiB"),
        ("one row a request, one connection, p50 / p99", f"{np.median(spent):.2f} / {np.quantile(spent, 0.99):.2f} ms"),
        (f"answered by {built.head['answers']} precomputed answers", f"{rate:.1%}"),
        ("the same by Zipf's law", f"{predicted:.1%}"),
        ("the same in the log that the head was made of", f"{built.head['share']:.1%}"),
        (f"{FEW_TREES} trees only: files / change of the score", f"{reduced.bytes / 2**20:.2f} MiB / {moved}"),
    ]
    near = abs(rate - predicted)
    budget = Budget("hit rate of the head against the law", "within 2 points", f"{100 * near:.1f} points", near < 0.02)
    figures = {"built": built.to_json(), "reduced": reduced.to_json(), "predicted": predicted, "rate": rate, **found}
    return Result("edge", "an edge without network", ("what", "measured"), rows, [budget], (), figures)
