"""``tidegate diagnose`` over Parquet files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from tidegate.cli import app
from tidegate.errors import UserError


def frame(rows: int, seed: int, raised: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    x, kind = rng.normal(size=rows), rng.choice(["a", "b", "c"], rows)
    score = 1 / (1 + np.exp(-x))
    label = (rng.random(rows) < 1 / (1 + np.exp(-x - raised))).astype(int)
    return pl.DataFrame({"x": x, "kind": kind, "score": score, "late": label, "recomputed_x": x})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    frame(3000, 1).write_parquet(folder / "reference.parquet")
    frame(1000, 2).write_parquet(folder / "calm.parquet")
    frame(1000, 3, 1.0).write_parquet(folder / "raised.parquet")
    frame(1000, 4).with_columns(x=pl.col("x") * 2).write_parquet(folder / "skewed.parquet")
    (folder / "stream").mkdir()
    for number, raised in enumerate([0.0, 1.0, 1.0]):
        frame(500, 10 + number, raised).write_parquet(folder / "stream" / f"window_{number:03}.parquet")
    return folder


def run(folder: Path, *more: str) -> str:
    found = CliRunner().invoke(
        app, ["diagnose", "--reference", str(folder / "reference.parquet"), "--label", "late", *more]
    )
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.stdout


@pytest.mark.parametrize(
    ("name", "finding"), [("calm", "none"), ("raised", "concept_drift"), ("skewed", "skew")], ids=str
)
def test_a_file_gives_one_document(folder: Path, name: str, finding: str) -> None:
    found = json.loads(run(folder, "--current", str(folder / f"{name}.parquet"), "--json"))
    assert found["finding"] == finding
    assert {"findings", "not_assessable", "evidence", "loss", "action", "seconds"} <= found.keys()
    assert {"reference", "predicted_from_data_drift", "observed", "interval", "ess"} <= found["loss"].keys()


def test_people_get_the_finding_its_action_and_its_evidence(folder: Path) -> None:
    text = run(folder, "--current", str(folder / "raised.parquet"))
    assert text.startswith("concept_drift: retrain on a recent window")
    assert "concept_drift: calibration" in text


def test_a_stream_gives_a_line_a_window_and_one_alarm(folder: Path) -> None:
    lines = [json.loads(line) for line in run(folder, "--stream", str(folder / "stream")).splitlines()]
    assert [one["window"] for one in lines] == ["window_000", "window_001", "window_002"]
    assert [one["finding"] for one in lines] == ["none", "concept_drift", "concept_drift"]
    assert [one["alarm"] for one in lines] == [False, True, False]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--current", "calm.parquet", "--score", "nope"], "no column nope"),
        (["--current", "nope.parquet"], "nope.parquet"),
        (["--current", "calm.parquet", "--time", "kind"], "takes times"),
        (["--current", "calm.parquet", "--score", "x"], "a probability from 0 to 1"),
        (["--current", "calm.parquet", "--alpha", "2"], "--alpha"),
        (["--stream", "."], "window_000.parquet"),
        ([], "one of them"),
    ],
)
def test_wrong_use_is_one_clear_line(folder: Path, more: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=told):
        run(folder, *more)
